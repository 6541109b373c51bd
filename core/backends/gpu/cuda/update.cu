// L2, clipping and the optimisers, for all tensors of a group at once (see core/training/optimisers.py).

#define TENSORS 48
#define ELEMENTS 1024 // of a tensor, a block

enum { WEIGHT = 1, BIAS = 2, RUNNING = 4 }; // kinds of tensors
enum { SGD = 0, ADAM = 1, ADAMW = 2 };      // optimisers
enum { REG, CLIP, CLIP_GLOBAL, MOMENTUM, NESTEROV, BETA1, BETA2, ADAM_EPS, SETTINGS };

// One parameter (T, size), its gradient, and what the optimiser remembers: SGD's velocity, or Adam's mean and square.
// Of a running statistic, gradient is the batch's value.
struct Tensor {
  float *values, *gradient, *first, *second;
  int size, kind, block, reserved; // block: its first in the grid
};

struct Tensors {
  Tensor list[TENSORS];
  long long count, momentum; // momentum: whether SGD remembers
};

DEVICE int tensor_of(const Tensors &tensors, int block) {
  int i = (int)tensors.count - 1;
  while (tensors.list[i].block > block) --i;
  return i;
}

// Adds L2 to the gradients and sums their squares: squares (T, blocks). grid (blocks, T), block (256)
KERNEL add_l2(Tensors tensors, const double *settings, float *squares, int optimiser, int offset, int blocks) {
  const Tensor &tensor = tensors.list[tensor_of(tensors, blockIdx.x)];
  int t = blockIdx.y, first = (blockIdx.x - tensor.block) * ELEMENTS, last = smaller(tensor.size, first + ELEMENTS);
  float reg = tensor.kind & WEIGHT && optimiser != ADAMW ? (float)settings[t * SETTINGS + REG] : 0, sum = 0;
  if (!(tensor.kind & RUNNING))
    for (int i = first + threadIdx.x; i < last; i += blockDim.x) {
      size_t e = (size_t)t * tensor.size + i;
      float gradient = tensor.gradient[e];
      if (tensor.kind & WEIGHT) tensor.gradient[e] = gradient += reg * tensor.values[e];
      sum += gradient * gradient;
    }
  sum = block_sum(sum, (float *)shared_memory);
  if (threadIdx.x == 0) squares[(size_t)t * blocks + offset + blockIdx.x] = sum;
}

// What clipping by tensor multiplies each gradient by, factors (T, all), and each gradient's sum of squares (T, all).
// grid (tensors, T), block (256)
KERNEL clip_tensors(Tensors tensors, const double *settings, const float *squares, float *factors, float *sums,
                    int offset, int first, int blocks, int all) {
  int i = blockIdx.x, t = blockIdx.y, from = tensors.list[i].block,
      to = from + (tensors.list[i].size - 1) / ELEMENTS + 1;
  float limit = (float)settings[t * SETTINGS + CLIP], square = 0;
  for (int k = from + threadIdx.x; k < to; k += blockDim.x) square += squares[(size_t)t * blocks + offset + k];
  square = block_sum(square, (float *)shared_memory);
  float length = sqrtf(square);
  size_t e = (size_t)t * all + first + i;
  sums[e] = square;
  factors[e] = length > limit && !(tensors.list[i].kind & BIAS) ? limit / length : 1;
}

// Clipping by the norm of all gradients of a trial, after that by tensor; norm (T) is theirs before both.
// grid (T), block (256)
KERNEL clip_together(const double *settings, const float *sums, float *factors, double *norm, int all) {
  float *memory = (float *)shared_memory, before = 0, after = 0;
  int t = blockIdx.x;
  for (int i = threadIdx.x; i < all; i += blockDim.x) {
    float factor = factors[(size_t)t * all + i], square = sums[(size_t)t * all + i];
    before += square, after += square * factor * factor;
  }
  before = block_sum(before, memory);
  after = sqrtf(block_sum(after, memory));
  float limit = (float)settings[t * SETTINGS + CLIP_GLOBAL];
  if (threadIdx.x == 0) norm[t] = sqrt((double)before);
  if (after > limit)
    for (int i = threadIdx.x; i < all; i += blockDim.x) factors[(size_t)t * all + i] *= limit / after;
}

// The update itself; running statistics move towards the batch's. lr (T) and step, from 0, are on the device.
// grid (blocks, T), block (256)
KERNEL apply_update(Tensors tensors, const double *settings, const double *lr, const u32 *step, const float *factors,
                    int optimiser, int first_tensor, int all, float keep, float take) {
  int index = tensor_of(tensors, blockIdx.x), t = blockIdx.y;
  const Tensor &tensor = tensors.list[index];
  const double *of = settings + t * SETTINGS;
  int first = (blockIdx.x - tensor.block) * ELEMENTS, last = smaller(tensor.size, first + ELEMENTS);
  float factor = factors[(size_t)t * all + first_tensor + index], rate = (float)lr[t], root = 1, decay = 0;
  float momentum = (float)of[MOMENTUM], eps = (float)of[ADAM_EPS];
  float beta1 = (float)of[BETA1], new1 = (float)(1 - of[BETA1]), beta2 = (float)of[BETA2],
        new2 = (float)(1 - of[BETA2]);
  if (optimiser != SGD) {
    double number = *step + 1.0;
    if (optimiser == ADAMW && tensor.kind & WEIGHT) decay = (float)(lr[t] * of[REG]);
    rate = (float)(lr[t] / (1 - pow(of[BETA1], number)));
    root = (float)sqrt(1 - pow(of[BETA2], number));
  }
  for (int i = first + threadIdx.x; i < last; i += blockDim.x) {
    size_t e = (size_t)t * tensor.size + i;
    float value = tensor.values[e], gradient = tensor.gradient[e];
    if (tensor.kind & RUNNING) {
      tensor.values[e] = value * keep + gradient * take;
      continue;
    }
    gradient *= factor;
    if (optimiser == SGD) {
      float move = gradient;
      if (tensors.momentum) {
        float velocity = tensor.first[e] = momentum * tensor.first[e] + gradient;
        move = of[NESTEROV] != 0 ? gradient + momentum * velocity : velocity;
      }
      tensor.values[e] = value - rate * move;
    } else {
      float mean = tensor.first[e] = beta1 * tensor.first[e] + new1 * gradient;
      float square = tensor.second[e] = beta2 * tensor.second[e] + new2 * gradient * gradient;
      value -= decay * value;
      tensor.values[e] = value - rate * mean / (sqrtf(square) / root + eps);
    }
  }
}

// totals (3, T): the sums over the images of loss and correct (T, N), and norm (T). grid (T), block (256)
KERNEL totals(const float *loss, const bool *correct, const double *norm, double *out, int images, int trials) {
  double *memory = (double *)shared_memory, losses = 0, rights = 0;
  int t = blockIdx.x;
  for (int n = threadIdx.x; n < images; n += blockDim.x)
    losses += loss[(size_t)t * images + n], rights += correct[(size_t)t * images + n];
  losses = block_sum(losses, memory);
  rights = block_sum(rights, memory);
  if (threadIdx.x == 0) out[t] = losses, out[trials + t] = rights, out[2 * trials + t] = norm[t];
}
