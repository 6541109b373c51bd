// Images into batches, cropped and mirrored on the way, and random numbers (see core/training/augment.py and core/random.py).

#define PURPOSE_FLIP 3
#define PURPOSE_CROP 4

// x (kinds, N, C, H, W) = pixels (all, C, H, W) of the chosen images, scaled; for each kind k cropped after a border of
// crop[k] zeros, and mirrored with probability flip[k]. chosen may be missing: the images are the first N. grid (N,
// kinds)
template <class Pixel>
DEVICE void gather(const Pixel *pixels, const long long *chosen, float scale, float *x, const int *crop,
                   const double *flip, u64 seed, u32 step, int channels, int height, int width) {
  int n = blockIdx.x, kind = blockIdx.y, size = channels * height * width, border = crop ? crop[kind] : 0;
  int top = 0, left = 0;
  u32 words[4];
  if (border) {
    philox(n / 2, step, PURPOSE_CROP, seed, words);
    u64 offsets = 2 * border + 1; // u * offsets, exactly, for u = word / 2**24
    top = (int)(((words[n % 2 * 2] >> 8) * offsets) >> 24) - border;
    left = (int)(((words[n % 2 * 2 + 1] >> 8) * offsets) >> 24) - border;
  }
  bool mirrored = false;
  if (flip && flip[kind] > 0) {
    philox(n / 4, step, PURPOSE_FLIP, seed, words);
    mirrored = (double)unit(words[n % 4]) < flip[kind];
  }
  const Pixel *from = pixels + (size_t)(chosen ? chosen[n] : n) * size;
  float *to = x + ((size_t)kind * gridDim.x + n) * size;
  for (int e = threadIdx.x; e < size; e += blockDim.x) {
    int column = e % width, row = e / width % height + top, c = e / width / height;
    column = (mirrored ? width - 1 - column : column) + left;
    bool inside = row >= 0 && row < height && column >= 0 && column < width;
    to[e] = inside ? (float)from[(c * height + row) * width + column] * scale : 0;
  }
}

KERNEL gather_bytes(const u8 *pixels, const long long *chosen, float scale, float *x, const int *crop,
                    const double *flip, u64 seed, u32 step, int channels, int height, int width) {
  gather(pixels, chosen, scale, x, crop, flip, seed, step, channels, height, width);
}

KERNEL gather_floats(const float *pixels, const long long *chosen, float scale, float *x, const int *crop,
                     const double *flip, u64 seed, u32 step, int channels, int height, int width) {
  gather(pixels, chosen, scale, x, crop, flip, seed, step, channels, height, width);
}

// What a recorded step reads: the batch's labels (N), the learning rates (T) and the step's number. grid (1)
KERNEL set_step(const long long *all_labels, const long long *chosen, long long *labels, int images, const double *lr,
                double *rates, int trials, u32 number, u32 *step) {
  for (int n = threadIdx.x; n < images; n += blockDim.x) labels[n] = all_labels[chosen[n]];
  for (int t = threadIdx.x; t < trials; t += blockDim.x) rates[t] = lr[t];
  if (threadIdx.x == 0) *step = number;
}

// out (S, count) uniform in [0, 1), for seeds (S). grid (ceil(count / 4 / block), S)
KERNEL uniform(const u64 *seeds, float *out, u32 purpose, u32 step, int count) {
  int quad = blockIdx.x * blockDim.x + threadIdx.x;
  u32 words[4];
  philox(quad, step, purpose, seeds[blockIdx.y], words);
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (quad * 4 + k < count) out[(size_t)blockIdx.y * count + quad * 4 + k] = unit(words[k]);
}
