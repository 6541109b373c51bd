// The first block, on images of few channels, (T or 1, N, C, H, W) as they come: convolution with 3 x 3 filters, batch
// norm, ReLU and pooling without a pass of their own for the statistics, and without storing the convolution's output.
//
// The convolution is linear in the patch p of C * 9 pixels, so its statistics over a batch follow from the patches'
// Gram matrix G = sum of (p, 1) (p, 1)', which all trials share: sum of y = w'G[:, 1], sum of y y = w'Gw. The gradient
// needs only G and S = sum of (p, 1) dz over the places of the maxima.

#define FIRST_TAPS(C) ((C) * 9)

struct Pictures {
  int images, channels, height, width; // of the input
  int rows, columns, filters;          // of the convolution; filters is rounded up
  int pad, pool, shared;               // shared: the trials share the images
  int band;                            // pooled rows of a block
  METHOD int wide() const { return width + 2 * pad; }
  METHOD int high() const { return height + 2 * pad; }
};

// Rows [row, row + rows) of an image with its border into memory (C, rows, W + 2 * pad).
DEVICE void load_picture(float *to, const float *x, const Pictures &s, int t, int n, int row, int rows) {
  int wide = s.wide(), lane = threadIdx.x % 32;
  x += ((s.shared ? 0 : (size_t)t * s.images) + n) * s.channels * s.height * s.width;
  for (int line = threadIdx.x / 32; line < s.channels * rows; line += blockDim.x / 32) {
    int c = line / rows, y = row + line % rows - s.pad;
    for (int e = lane; e < wide; e += 32) {
      int column = e - s.pad;
      bool inside = y >= 0 && y < s.height && column >= 0 && column < s.width;
      to[line * wide + e] = inside ? x[((size_t)c * s.height + y) * s.width + column] : 0;
    }
  }
}

// parts (1 or T, N, bands, K, K), K = 9 * C + 1: the Gram matrix of an image's patches, tap by tap of each channel, the
// constant last; of bands of rows of the convolution. A thread takes 4 x 4 entries on or above the diagonal and every
// so many rows, sums a row in float and rows in double. grid (N, 1 or T, bands), block (256)
KERNEL gram(const float *x, float *parts, Pictures s, int rows) {
  float *pixels = (float *)shared_memory;
  int taps = FIRST_TAPS(s.channels), size = taps + 1, wide = s.wide(), blocks = (size + 3) / 4;
  int pairs = blocks * (blocks + 1) / 2, slices = blockDim.x / pairs, n = blockIdx.x, t = blockIdx.y;
  int first = blockIdx.z * rows, count = smaller(rows, s.rows - first), slice = threadIdx.x / pairs;
  double *sums = (double *)(pixels + (s.channels * (rows + 2) * wide + 3) / 4 * 4); // (slices, pairs, 16)
  load_picture(pixels, x, s, t, n, first, count + 2);
  __syncthreads();
  int pair = threadIdx.x % pairs, i = 0;
  while (pair >= blocks - i) pair -= blocks - i++;
  int j = i + pair, at[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) { // where a tap lies in memory; -1: the constant
    int e = (k < 4 ? i : j) * 4 + k % 4;
    at[k] = e < taps ? (e / 9 * (count + 2) + e % 9 / 3) * wide + e % 3 : -1;
  }
  if (slice < slices) {
    double total[16] = {};
    for (int row = slice; row < count; row += slices) {
      float sum[16] = {};
      for (int column = 0; column < s.columns; ++column) {
        float value[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) value[k] = at[k] < 0 ? 1 : pixels[at[k] + row * wide + column];
#pragma unroll
        for (int a = 0; a < 4; ++a)
#pragma unroll
          for (int b = 0; b < 4; ++b) sum[a * 4 + b] += value[a] * value[4 + b];
      }
#pragma unroll
      for (int k = 0; k < 16; ++k) total[k] += sum[k];
    }
#pragma unroll
    for (int k = 0; k < 16; ++k) sums[threadIdx.x * 16 + k] = total[k];
  }
  __syncthreads();
  float *to = parts + (((size_t)t * s.images + n) * gridDim.z + blockIdx.z) * size * size;
  if (slice > 0) return;
#pragma unroll
  for (int k = 0; k < 16; ++k) {
    int row = i * 4 + k / 4, column = j * 4 + k % 4;
    if (row >= size || column >= size) continue;
    double sum = 0;
    for (int other = 0; other < slices; ++other) sum += sums[(other * pairs + threadIdx.x) * 16 + k];
    to[row * size + column] = to[column * size + row] = (float)sum;
  }
}

// The batch's mean and variance (T, F) and the table of `statistics`, from the Gram matrices (1 or T, K, K).
// w (T, F, C, 3, 3). grid (ceil(F' / 8), T), block (256): 32 threads a filter.
KERNEL first_statistics(const double *gram, const float *w, const float *bias, const float *gamma, const float *beta,
                        float *table, float *mean, float *variance, Pictures s, int filters, float eps) {
  double *memory = (double *)shared_memory; // (2, 8, 32)
  int taps = FIRST_TAPS(s.channels), size = taps + 1, t = blockIdx.y, lane = threadIdx.x % 32;
  int f = blockIdx.x * 8 + threadIdx.x / 32;
  const double *of = gram + (s.shared ? 0 : (size_t)t * size * size);
  const float *filter = w + ((size_t)t * filters + f) * taps;
  double sum = 0, square = 0;
  if (f < filters)
    for (int k = lane; k < taps; k += 32) {
      double row = 0;
      for (int j = 0; j < taps; ++j) row += of[k * size + j] * filter[j];
      sum += of[k * size + taps] * filter[k], square += row * filter[k];
    }
  memory[threadIdx.x] = sum, memory[256 + threadIdx.x] = square;
  __syncthreads();
  if (lane > 0 || f >= s.filters) return;
  sum = square = 0;
  for (int k = 0; k < 32; ++k) sum += memory[threadIdx.x + k], square += memory[256 + threadIdx.x + k];
  double count = of[size * size - 1], middle = sum / count, spread = square / count - middle * middle;
  if (spread < 0) spread = 0; // NaN stays
  double inverse = 1 / sqrt(spread + (double)eps);
  bool exists = f < filters;
  size_t e = (size_t)t * filters + f;
  float *to = table + (size_t)t * 4 * s.filters + f;
  to[0] = (float)middle;
  to[s.filters] = exists ? (float)(gamma[e] * inverse) : 0;
  to[2 * s.filters] = exists ? beta[e] : 0;
  to[3 * s.filters] = (float)inverse;
  if (exists) mean[e] = (float)(middle + bias[e]), variance[e] = (float)spread;
}

// y and place as normalise gives them, from the images: a thread takes 8 filters of a pooled pixel. place may be
// missing. filters are (T, 9, C, F), F rounded up. grid (N * bands, T, ceil(F / 64)), block (256)
template <int POOL>
DEVICE void first_block(const float *x, const float *filters, const float *table, float *y, u8 *place,
                        const Pictures &s) {
  const int window = POOL + 2;
  int high = s.rows / POOL, columns = s.columns / POOL, bands = (high + s.band - 1) / s.band, wide = s.wide();
  int n = blockIdx.x / bands, t = blockIdx.y, first = blockIdx.z * 64, width = smaller(64, s.filters - first);
  int row = blockIdx.x % bands * s.band, rows = smaller(s.band, high - row), lines = s.band * POOL + 2;
  int taps = FIRST_TAPS(s.channels);
  float *weights = (float *)shared_memory, *constants = weights + taps * width, *pixels = constants + 3 * width;
  load_picture(pixels, x, s, t, n, row * POOL, lines);
  for (int e = threadIdx.x; e < taps * width; e += blockDim.x)
    weights[e] = filters[((size_t)t * taps + e / width) * s.filters + first + e % width];
  for (int e = threadIdx.x; e < 3 * width; e += blockDim.x)
    constants[e] = table[((size_t)t * 4 + e / width) * s.filters + first + e % width];
  __syncthreads();

  int groups = (rows * columns + 31) / 32, lane = threadIdx.x % 32;
  for (int task = threadIdx.x / 32; task < width / 8 * groups; task += blockDim.x / 32) {
    int f = task / groups * 8, pixel = task % groups * 32 + lane;
    if (pixel >= rows * columns) continue;
    float sums[POOL * POOL][8] = {};
    const float *corner = pixels + pixel / columns * POOL * wide + pixel % columns * POOL;
#pragma unroll 1
    for (int c = 0; c < s.channels; ++c, corner += lines * wide) {
      float value[window][window];
#pragma unroll
      for (int i = 0; i < window; ++i)
#pragma unroll
        for (int j = 0; j < window; ++j) value[i][j] = corner[i * wide + j];
#pragma unroll
      for (int tap = 0; tap < 9; ++tap) {
        const float *weight = weights + (tap * s.channels + c) * width + f;
        Four low = load4(weight), high4 = load4(weight + 4);
#pragma unroll
        for (int k = 0; k < POOL * POOL; ++k) {
          float pixel_value = value[k / POOL + tap / 3][k % POOL + tap % 3];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            sums[k][j] += pixel_value * low.v[j];
            sums[k][j + 4] += pixel_value * high4.v[j];
          }
        }
      }
    }
    float best[8];
    u32 places[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      float mean = constants[f + j], scale = constants[width + f + j], beta = constants[2 * width + f + j];
      best[j] = (sums[0][j] - mean) * scale + beta, places[j] = 0;
#pragma unroll
      for (int k = 1; k < POOL * POOL; ++k) {
        float v = (sums[k][j] - mean) * scale + beta;
        if (v > best[j] || v != v) best[j] = v, places[j] = k;
      }
      if (!(best[j] > 0)) best[j] = best[j] == best[j] ? 0 : best[j], places[j] = NOWHERE;
    }
    size_t to = ((((size_t)t * s.images + n) * high + row) * columns + pixel) * s.filters + first + f;
    store4(y + to, Four{{best[0], best[1], best[2], best[3]}});
    store4(y + to + 4, Four{{best[4], best[5], best[6], best[7]}});
    if (!place) continue;
    u32 *out = (u32 *)(place + to);
    out[0] = places[0] | places[1] << 8 | places[2] << 16 | places[3] << 24;
    out[1] = places[4] | places[5] << 8 | places[6] << 16 | places[7] << 24;
  }
}

#define FIRST_BLOCK(POOL)                                                                                              \
  KERNEL __launch_bounds__(256)                                                                                        \
      first_block_##POOL(const float *x, const float *filters, const float *table, float *y, u8 *place, Pictures s) {  \
    first_block<POOL>(x, filters, table, y, place, s);                                                                 \
  }
FIRST_BLOCK(1)
FIRST_BLOCK(2)
FIRST_BLOCK(3)

// parts (T, groups * bands, K, F): S of some images. A thread takes a filter and every eighth pooled pixel.
// grid (groups of so many images * bands, T, ceil(F / 32)), block (256)
template <int C>
DEVICE void first_products(const float *x, const float *dy, const u8 *place, float *parts, const Pictures &s,
                           int images) {
  const int taps = FIRST_TAPS(C), size = taps + 1;
  int high = s.rows / s.pool, columns = s.columns / s.pool, bands = (high + s.band - 1) / s.band, wide = s.wide();
  int t = blockIdx.y, lane = threadIdx.x % 32, f = blockIdx.z * 32 + lane, slice = threadIdx.x / 32;
  int row = blockIdx.x % bands * s.band, rows = smaller(s.band, high - row), lines = s.band * s.pool + 2;
  int begin = blockIdx.x / bands * images, end = smaller(s.images, begin + images);
  int reciprocal = 65536 / s.pool + (s.pool == 3);
  float *pixels = (float *)shared_memory, sums[size] = {};
  for (int n = begin; n < end; ++n) {
    __syncthreads();
    load_picture(pixels, x, s, t, n, row * s.pool, lines);
    __syncthreads();
    if (f >= s.filters) continue;
    size_t from = (((size_t)t * s.images + n) * high + row) * columns * s.filters + f;
    int line = 0, column = slice; // of the pooled pixel, without dividing
    for (int pixel = slice; pixel < rows * columns; pixel += 8, column += 8) {
      for (; column >= columns; column -= columns) ++line;
      int k = place[from + (size_t)pixel * s.filters];
      float gradient = dy[from + (size_t)pixel * s.filters];
      if (k == NOWHERE) k = 0, gradient = 0;
      int down = (k * reciprocal) >> 16; // k / s.pool
      const float *patch = pixels + (line * s.pool + down) * wide + column * s.pool + k - down * s.pool;
#pragma unroll
      for (int i = 0; i < taps; ++i) sums[i] += gradient * patch[(i / 9 * lines + i % 9 / 3) * wide + i % 3];
      sums[taps] += gradient;
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < size; ++i) pixels[(slice * size + i) * 32 + lane] = sums[i]; // (8, K, 32)
  __syncthreads();
  for (int e = threadIdx.x; e < size * 32; e += blockDim.x) {
    int filter = blockIdx.z * 32 + e % 32;
    if (filter >= s.filters) continue;
    float sum = 0;
    for (int k = 0; k < 8; ++k) sum += pixels[(k * size + e / 32) * 32 + e % 32];
    parts[(((size_t)t * gridDim.x + blockIdx.x) * size + e / 32) * s.filters + filter] = sum;
  }
}

#define FIRST_PRODUCTS(C)                                                                                              \
  KERNEL __launch_bounds__(256)                                                                                        \
      first_products_##C(const float *x, const float *dy, const u8 *place, float *parts, Pictures s, int images) {     \
    first_products<C>(x, dy, place, parts, s, images);                                                                 \
  }
FIRST_PRODUCTS(1)
FIRST_PRODUCTS(2)
FIRST_PRODUCTS(3)
FIRST_PRODUCTS(4)

// dw (T, F, C, 3, 3), dgamma and dbeta (T, F), from S (T, K, F') and the Gram matrices:
//   dbeta = S[1], dgamma = (w S - mean S[1]) / deviation,
//   dw = gamma / deviation * (S - (S[1] G[1] + dgamma (G w - mean G[1]) / deviation) / count).
// grid (ceil(F' / 8), T), block (256): 32 threads a filter.
KERNEL first_gradient(const double *gram, const double *products, const float *w, const float *table, float *dw,
                      float *dgamma, float *dbeta, Pictures s, int filters) {
  double *memory = (double *)shared_memory; // (8, 32)
  int taps = FIRST_TAPS(s.channels), size = taps + 1, t = blockIdx.y, lane = threadIdx.x % 32;
  int f = blockIdx.x * 8 + threadIdx.x / 32;
  bool exists = f < filters;
  const double *of = gram + (s.shared ? 0 : (size_t)t * size * size),
               *sums = products + (size_t)t * size * s.filters + f;
  const float *filter = w + ((size_t)t * filters + f) * taps, *from = table + (size_t)t * 4 * s.filters + f;
  double product = 0;
  if (exists)
    for (int k = lane; k < taps; k += 32) product += filter[k] * sums[k * s.filters];
  memory[threadIdx.x] = product;
  __syncthreads();
  if (!exists) return;
  product = 0;
  for (int k = 0; k < 32; ++k) product += memory[threadIdx.x / 32 * 32 + k];
  double mean = from[0], scale = from[s.filters], inverse = from[3 * s.filters], count = of[size * size - 1];
  double sum = sums[taps * s.filters], slope = (product - mean * sum) * inverse;
  size_t e = (size_t)t * filters + f;
  if (lane == 0) dgamma[e] = (float)slope, dbeta[e] = (float)sum;
  for (int k = lane; k < taps; k += 32) {
    double row = 0, total = of[k * size + taps];
    for (int j = 0; j < taps; ++j) row += of[k * size + j] * filter[j];
    double d = sums[k * s.filters] - (sum * total + slope * (row - mean * total) * inverse) / count;
    dw[e * taps + k] = (float)(scale * d);
  }
}
