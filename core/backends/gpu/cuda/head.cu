// The head: dropout, the linear layer and softmax cross entropy, and back. Features are in C, H, W order, as the rows
// of the weights are; x lies as (T, N, P, C'), P = H * W, C' rounded up. Dropout's numbers are drawn again for the
// gradient.

#define FEATURE_CHANNELS 8
#define FEATURE_PIXELS 128
#define FEATURE_ROW (FEATURE_PIXELS + 1) // in shared memory: an odd step between channels
#define PURPOSE_DROPOUT 2                // as in core/random.py
#define LOGITS 16                        // classes at once

struct Features {
  int images, pixels, channels, stored, classes; // stored: channels, rounded up
  METHOD int count() const { return channels * pixels; }
};

// Drop out of tile (FEATURE_CHANNELS, FEATURE_ROW), which holds `width` pixels from `pixel` of the channels from c of
// image n. The uniform numbers of a channel's row lie in quads, which begin and end anywhere in it.
DEVICE void drop_out(float *tile, const Features &s, int n, int c, int pixel, int width, float rate, u64 seed,
                     u32 step) {
  if (rate == 0) return;
  float kept = 1 / (1 - rate);
  int channels = smaller(FEATURE_CHANNELS, s.channels - c), quads = width / 4 + 2;
  for (int e = threadIdx.x; e < channels * quads; e += blockDim.x) {
    u64 begin = (u64)n * s.count() + (u64)(c + e / quads) * s.pixels + pixel, quad = begin / 4 + e % quads;
    u32 words[4];
    philox((u32)quad, step, PURPOSE_DROPOUT, seed, words);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      long long place = (long long)(quad * 4 + k) - (long long)begin;
      if (place >= 0 && place < width) tile[e / quads * FEATURE_ROW + place] *= unit(words[k]) >= rate ? kept : 0;
    }
  }
}

// features (T, N, D) of x, with dropout unless rate is missing. rate (T) and seed (T); step is one number on the
// device. grid (N, T), block (256)
KERNEL flatten(const float *x, float *features, const float *rate, const u64 *seed, const u32 *step, Features s) {
  float *tile = (float *)shared_memory;
  int n = blockIdx.x, t = blockIdx.y;
  size_t image = (size_t)t * s.images + n;
  for (int c = 0; c < s.channels; c += FEATURE_CHANNELS)
    for (int pixel = 0; pixel < s.pixels; pixel += FEATURE_PIXELS) {
      int width = smaller(FEATURE_PIXELS, s.pixels - pixel);
      __syncthreads();
      for (int e = threadIdx.x; e < width * FEATURE_CHANNELS; e += blockDim.x) {
        int place = e / FEATURE_CHANNELS, k = e % FEATURE_CHANNELS;
        tile[k * FEATURE_ROW + place] = x[(image * s.pixels + pixel + place) * s.stored + c + k];
      }
      __syncthreads();
      if (rate) drop_out(tile, s, n, c, pixel, width, rate[t], seed[t], *step);
      __syncthreads();
      for (int e = threadIdx.x; e < width * FEATURE_CHANNELS; e += blockDim.x) {
        int k = e / width, place = e % width;
        if (c + k < s.channels)
          features[image * s.count() + (size_t)(c + k) * s.pixels + pixel + place] = tile[k * FEATURE_ROW + place];
      }
    }
}

// logits (T, N, L) = features (T, N, D) @ w (T, D, L) + b (T, L). A block takes 4 images and 16 classes; a thread sums
// over every 256th feature. grid (ceil(N / 4), T, ceil(L / 16)), block (256)
KERNEL linear(const float *features, const float *w, const float *b, float *logits, Features s) {
  float *memory = (float *)shared_memory; // (256, LOGITS + 1), then (16, LOGITS)
  int t = blockIdx.y, n = blockIdx.x * 4, first = blockIdx.z * LOGITS, classes = smaller(LOGITS, s.classes - first);
  int images = smaller(4, s.images - n), d = s.count();
  const float *from = features + ((size_t)t * s.images + n) * d, *weights = w + (size_t)t * d * s.classes + first;
  float sums[4][LOGITS] = {};
  for (int k = threadIdx.x; k < d; k += blockDim.x) {
    float value[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) value[i] = i < images ? from[(size_t)i * d + k] : 0;
#pragma unroll
    for (int l = 0; l < LOGITS; ++l) {
      if (l >= classes) break;
      float weight = weights[(size_t)k * s.classes + l];
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i][l] += value[i] * weight;
    }
  }
  float *partial = memory + 256 * (LOGITS + 1);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    __syncthreads();
#pragma unroll
    for (int l = 0; l < LOGITS; ++l) memory[threadIdx.x * (LOGITS + 1) + l] = sums[i][l];
    __syncthreads();
    int l = threadIdx.x % LOGITS, slice = threadIdx.x / LOGITS;
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += memory[(slice * 16 + k) * (LOGITS + 1) + l];
    partial[threadIdx.x] = sum;
    __syncthreads();
    if (slice == 0 && l < classes && i < images) {
      sum = b[(size_t)t * s.classes + first + l];
      for (int k = 0; k < 16; ++k) sum += partial[k * LOGITS + l];
      logits[((size_t)t * s.images + n + i) * s.classes + first + l] = sum;
    }
  }
}

// loss (T, N), whether the first of the largest logits is the label's, and probability (T, N, L), which may lie where
// the logits do. A thread takes an image. grid (ceil(N / block), T)
KERNEL cross_entropy(const float *logits, const long long *labels, float *loss, bool *correct, float *probability,
                     int images, int classes) {
  int n = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
  if (n >= images) return;
  size_t image = (size_t)t * images + n;
  const float *from = logits + image * classes;
  float *to = probability + image * classes;
  int label = (int)labels[n], best = 0;
  float largest = from[0];
  for (int l = 1; l < classes; ++l)
    if (from[l] > largest || (from[l] != from[l] && largest == largest)) largest = from[l], best = l;
  float shifted = from[label] - largest, total = 0;
  for (int l = 0; l < classes; ++l) total += to[l] = expf(from[l] - largest);
  for (int l = 0; l < classes; ++l) to[l] /= total;
  loss[image] = logf(total) - shifted;
  correct[image] = best == label;
}

// dlogits (T, N, L) = (probability - [label]) * dloss (T, N), and db (T, L), their sum over the images.
// grid (ceil(L / 8), T), block (256): 32 threads a class.
KERNEL output_gradient(const float *probability, const long long *labels, const float *dloss, float *dlogits, float *db,
                       int images, int classes) {
  float *memory = (float *)shared_memory; // (8, 32)
  int t = blockIdx.y, lane = threadIdx.x % 32, l = blockIdx.x * 8 + threadIdx.x / 32;
  float sum = 0;
  if (l < classes)
    for (int n = lane; n < images; n += 32) {
      size_t image = (size_t)t * images + n;
      float gradient = (probability[image * classes + l] - (labels[n] == l ? 1 : 0)) * dloss[image];
      dlogits[image * classes + l] = gradient;
      sum += gradient;
    }
  memory[threadIdx.x] = sum;
  __syncthreads();
  if (lane > 0 || l >= classes) return;
  sum = 0;
  for (int k = 0; k < 32; ++k) sum += memory[threadIdx.x + k];
  db[(size_t)t * classes + l] = sum;
}

// dw (T, D, L) = features' @ dlogits. A thread takes a feature and 16 classes. grid (ceil(D / 64), T, ceil(L / 16)),
// block (64)
KERNEL linear_weight_gradient(const float *features, const float *dlogits, float *dw, Features s) {
  float *gradients = (float *)shared_memory; // (64, LOGITS)
  int k = blockIdx.x * 64 + threadIdx.x, t = blockIdx.y, first = blockIdx.z * LOGITS, d = s.count();
  int classes = smaller(LOGITS, s.classes - first);
  float sums[LOGITS] = {};
  for (int n = 0; n < s.images; n += 64) {
    int images = smaller(64, s.images - n);
    __syncthreads();
    for (int e = threadIdx.x; e < images * LOGITS; e += 64)
      gradients[e] =
          e % LOGITS < classes ? dlogits[((size_t)t * s.images + n + e / LOGITS) * s.classes + first + e % LOGITS] : 0;
    __syncthreads();
    if (k >= d) continue;
    const float *from = features + ((size_t)t * s.images + n) * d + k;
    float part[LOGITS] = {}; // short sums, then added: long ones in float would lose digits
#pragma unroll 4
    for (int i = 0; i < images; ++i) {
      float value = from[(size_t)i * d];
#pragma unroll
      for (int l = 0; l < LOGITS; ++l) part[l] += value * gradients[i * LOGITS + l];
    }
#pragma unroll
    for (int l = 0; l < LOGITS; ++l) sums[l] += part[l];
  }
  if (k >= d) return;
#pragma unroll
  for (int l = 0; l < LOGITS; ++l)
    if (l < classes) dw[((size_t)t * d + k) * s.classes + first + l] = sums[l];
}

// dx (T, N, P, C') = dlogits @ w', dropped out as the features were; zero in the padding. A block takes 4 images and
// FEATURE_CHANNELS channels. grid (ceil(N / 4), T, ceil(C' / FEATURE_CHANNELS)), block (256)
KERNEL linear_input_gradient(const float *dlogits, const float *w, float *dx, const float *rate, const u64 *seed,
                             const u32 *step, Features s) {
  const int size = FEATURE_CHANNELS * FEATURE_ROW;
  float *tiles = (float *)shared_memory; // (4, FEATURE_CHANNELS, FEATURE_ROW), then (4, L)
  float *gradients = tiles + 4 * size;
  int t = blockIdx.y, n = blockIdx.x * 4, c = blockIdx.z * FEATURE_CHANNELS, images = smaller(4, s.images - n);
  for (int e = threadIdx.x; e < 4 * s.classes; e += blockDim.x)
    gradients[e] = e < images * s.classes ? dlogits[((size_t)t * s.images + n) * s.classes + e] : 0;
  for (int pixel = 0; pixel < s.pixels; pixel += FEATURE_PIXELS) {
    int width = smaller(FEATURE_PIXELS, s.pixels - pixel);
    __syncthreads();
    for (int e = threadIdx.x; e < width * FEATURE_CHANNELS; e += blockDim.x) {
      int k = e / width, place = e % width;
      float sums[4] = {};
      if (c + k < s.channels) {
        const float *weights = w + ((size_t)t * s.count() + (size_t)(c + k) * s.pixels + pixel + place) * s.classes;
        for (int l = 0; l < s.classes; ++l) {
          float weight = weights[l];
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[i] += weight * gradients[i * s.classes + l];
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) tiles[i * size + k * FEATURE_ROW + place] = sums[i];
    }
    __syncthreads();
    for (int i = 0; i < images; ++i) drop_out(tiles + i * size, s, n + i, c, pixel, width, rate[t], seed[t], *step);
    __syncthreads();
    for (int e = threadIdx.x; e < images * width * FEATURE_CHANNELS; e += blockDim.x) {
      int k = e % FEATURE_CHANNELS, place = e / FEATURE_CHANNELS % width, i = e / FEATURE_CHANNELS / width;
      dx[(((size_t)t * s.images + n + i) * s.pixels + pixel + place) * s.stored + c + k] =
          tiles[i * size + k * FEATURE_ROW + place];
    }
  }
}
