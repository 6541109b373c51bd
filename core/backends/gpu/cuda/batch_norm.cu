// Batch norm, the shortcut, ReLU and max pooling around a convolution, and back.

// From each tile's mean and squared distances (see convolve) to those of the batch (Chan et al. 1979), and the table
// (T, 4, F') of what normalising takes: mean, gamma / sqrt(variance + eps), beta, 1 / sqrt(variance + eps).
// mean and variance (T, F) are the caller's: the mean with the convolution's bias.
// grid (ceil(F' / 32), T), block (256): 8 threads a filter.
KERNEL statistics(const float *moments, const float *bias, const float *gamma, const float *beta, float *table,
                  float *mean, float *variance, Convolution s, int filters, float eps) {
  double *memory = (double *)shared_memory;
  int f = blockIdx.x * 32 + threadIdx.x % 32, slice = threadIdx.x / 32, t = blockIdx.y;
  int tiles = (s.images + s.tile_images - 1) / s.tile_images * s.bands;
  double count = (double)s.images * s.rows * s.columns, middle = 0;
  const float *of = moments + (size_t)t * tiles * 2 * s.filters + f;
  for (int pass = 0; pass < 2; ++pass) {
    double sum = 0;
    if (f < s.filters)
      for (int i = slice; i < tiles; i += 8) {
        Tile tile(s, i);
        double here = of[(size_t)i * 2 * s.filters], values = (double)tile.images * tile.rows * s.columns;
        sum += pass ? of[((size_t)i * 2 + 1) * s.filters] + values * (here - middle) * (here - middle) : values * here;
      }
    memory[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int k = 0; k < 8; ++k) sum += memory[k * 32 + threadIdx.x % 32];
    __syncthreads();
    if (pass == 0) {
      middle = sum / count;
    } else if (slice == 0 && f < s.filters) {
      double inverse = 1 / sqrt(sum / count + (double)eps);
      bool exists = f < filters;
      size_t e = (size_t)t * filters + f;
      float *to = table + (size_t)t * 4 * s.filters + f;
      to[0] = (float)middle;
      to[s.filters] = exists ? (float)(gamma[e] * inverse) : 0;
      to[2 * s.filters] = exists ? beta[e] : 0;
      to[3 * s.filters] = (float)inverse;
      if (exists) mean[e] = (float)(middle + bias[e]), variance[e] = (float)(sum / count);
    }
  }
}

// The table from the running statistics, whose mean includes the bias. grid (ceil(F' / block), T)
KERNEL running_table(const float *bias, const float *gamma, const float *beta, const float *mean, const float *variance,
                     float *table, int filters, int stored, float eps) {
  int f = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
  if (f >= stored) return;
  bool exists = f < filters;
  size_t e = (size_t)t * filters + f;
  double inverse = exists ? 1 / sqrt((double)variance[e] + (double)eps) : 0;
  float *to = table + (size_t)t * 4 * stored + f;
  to[0] = exists ? mean[e] - bias[e] : 0;
  to[stored] = exists ? (float)(gamma[e] * inverse) : 0;
  to[2 * stored] = exists ? beta[e] : 0;
  to[3 * stored] = (float)inverse;
}

// y (T, N, PH, PW, F) = max over the window of ReLU((z - mean) * scale + beta + shortcut), and where the maximum was:
// its place in the window in row order, NOWHERE where ReLU cut it. place and shortcut may be missing; shortcut_trial is
// the number of values from a trial's shortcut to the next, 0 where they share it. Of equal values the first counts;
// NaN anywhere in a window makes it NaN. grid (ceil(N * PH * PW * F / 4 / block), T)
KERNEL normalise(const float *z, const float *shortcut, size_t shortcut_trial, const float *table, float *y, u8 *place,
                 int images, int height, int width, int filters, int pool) {
  int high = height / pool, wide = width / pool, fours = filters / 4, t = blockIdx.y;
  int e = blockIdx.x * blockDim.x + threadIdx.x, f = e % fours * 4, pixel = e / fours;
  int n = pixel / (high * wide), row = pixel / wide % high, column = pixel % wide;
  if (n >= images) return;
  const float *of = table + (size_t)t * 4 * filters + f;
  Four mean = load4(of), scale = load4(of + filters), beta = load4(of + 2 * filters), best = {{0, 0, 0, 0}};
  u32 places[4] = {0, 0, 0, 0};
  for (int k = 0; k < pool * pool; ++k) {
    size_t at = (((size_t)n * height + row * pool + k / pool) * width + column * pool + k % pool) * filters + f;
    Four value = load4(z + (size_t)t * images * height * width * filters + at), added = {{0, 0, 0, 0}};
    if (shortcut) added = load4(shortcut + t * shortcut_trial + at);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float v = (value.v[j] - mean.v[j]) * scale.v[j] + beta.v[j] + added.v[j];
      if (k == 0 || v > best.v[j] || v != v) best.v[j] = v, places[j] = k;
    }
  }
#pragma unroll
  for (int j = 0; j < 4; ++j)
    if (!(best.v[j] > 0)) best.v[j] = best.v[j] == best.v[j] ? 0 : best.v[j], places[j] = NOWHERE;
  size_t to = (((size_t)t * images + n) * high * wide + row * wide + column) * filters + f;
  store4(y + to, best);
  if (place) *(u32 *)(place + to) = places[0] | places[1] << 8 | places[2] << 16 | places[3] << 24;
}

// parts (T, blocks, 2, F): sums over some pooled pixels of the gradient dz = dy (where ReLU let it through), and of dz
// times the normalised z at the maximum. A block takes so many pixels and 32 filters: 8 threads across, 32 down.
// grid (ceil(N * PH * PW / pixels), T, ceil(F / 32)), block (256)
KERNEL gradient_sums(const float *z, const float *dy, const u8 *place, const float *table, float *parts, int images,
                     int height, int width, int filters, int pool, int pixels) {
  Four *memory = shared_memory; // (2, 256)
  int high = height / pool, wide = width / pool, t = blockIdx.y;
  int f = blockIdx.z * 32 + threadIdx.x % 8 * 4, all = images * high * wide;
  int last = smaller(all, ((int)blockIdx.x + 1) * pixels);
  Four sum = {{0, 0, 0, 0}}, product = {{0, 0, 0, 0}};
  if (f < filters) {
    const float *of = table + (size_t)t * 4 * filters + f;
    Four mean = load4(of), inverse = load4(of + 3 * filters);
    for (int pixel = blockIdx.x * pixels + threadIdx.x / 8; pixel < last; pixel += 32) {
      size_t at = ((size_t)t * all + pixel) * filters + f;
      u32 places = *(const u32 *)(place + at);
      Four gradient = load4(dy + at);
      int n = pixel / (high * wide), row = pixel / wide % high, column = pixel % wide;
      const float *window =
          z + ((((size_t)t * images + n) * height + row * pool) * width + column * pool) * filters + f;
      for (int k = 0; k < pool * pool; ++k) {
        Four value = load4(window + ((size_t)(k / pool) * width + k % pool) * filters);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if ((places >> (8 * j) & 255) == (u32)k) {
            sum.v[j] += gradient.v[j];
            product.v[j] += gradient.v[j] * ((value.v[j] - mean.v[j]) * inverse.v[j]);
          }
      }
    }
  }
  memory[threadIdx.x] = sum, memory[256 + threadIdx.x] = product;
  __syncthreads();
  int which = threadIdx.x / 32, lane = threadIdx.x % 32; // a filter of one of the two sums
  if (which > 1 || (int)blockIdx.z * 32 + lane >= filters) return;
  float total = 0;
  for (int k = 0; k < 32; ++k) total += memory[which * 256 + k * 8 + lane / 4].v[lane % 4];
  parts[(((size_t)t * gridDim.x + blockIdx.x) * 2 + which) * filters + blockIdx.z * 32 + lane] = total;
}

// dgamma and dbeta (T, F), and the constants (T, 4, F') of struct Normalised, from parts (Ioffe & Szegedy 2015, section
// 3). count: the values that were normalised. grid (ceil(F' / 32), T), block (256): 8 threads a filter.
KERNEL gradient_constants(const float *parts, const float *table, float *dgamma, float *dbeta, float *constants,
                          int blocks, int filters, int stored, float count) {
  double *memory = (double *)shared_memory; // (2, 256)
  int f = blockIdx.x * 32 + threadIdx.x % 32, slice = threadIdx.x / 32, t = blockIdx.y;
  double sum = 0, product = 0;
  if (f < stored)
    for (int i = slice; i < blocks; i += 8) {
      const float *part = parts + ((size_t)t * blocks + i) * 2 * stored + f;
      sum += part[0], product += part[stored];
    }
  memory[threadIdx.x] = sum, memory[256 + threadIdx.x] = product;
  __syncthreads();
  if (slice > 0 || f >= stored) return;
  sum = product = 0;
  for (int k = 0; k < 8; ++k) sum += memory[k * 32 + threadIdx.x], product += memory[256 + k * 32 + threadIdx.x];
  const float *of = table + (size_t)t * 4 * stored + f;
  float *to = constants + (size_t)t * 4 * stored + f;
  double scale = of[stored], inverse = of[3 * stored];
  to[0] = of[0];
  to[stored] = (float)scale;
  to[2 * stored] = (float)(-scale * inverse * product / (double)count);
  to[3 * stored] = (float)(-scale * sum / (double)count);
  if (f < filters) dgamma[(size_t)t * filters + f] = (float)product, dbeta[(size_t)t * filters + f] = (float)sum;
}

// dz (T, N, H, W, F) = dy where the maximum was, else 0: what reaches a shortcut. grid (ceil(N * H * W * F / 4 /
// block), T)
KERNEL unpool(const float *dy, const u8 *place, float *dz, int images, int height, int width, int filters, int pool) {
  int high = height / pool, wide = width / pool, fours = filters / 4, t = blockIdx.y;
  int e = blockIdx.x * blockDim.x + threadIdx.x, f = e % fours * 4, pixel = e / fours;
  int n = pixel / (height * width), row = pixel / width % height, column = pixel % width;
  if (n >= images) return;
  Four value = {{0, 0, 0, 0}};
  if (row / pool < high && column / pool < wide) {
    size_t at = ((((size_t)t * images + n) * high + row / pool) * wide + column / pool) * filters + f;
    u32 places = *(const u32 *)(place + at), here = row % pool * pool + column % pool;
    Four gradient = load4(dy + at);
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if ((places >> (8 * j) & 255) == here) value.v[j] = gradient.v[j];
  }
  store4(dz + ((size_t)t * images * height * width + pixel) * filters + f, value);
}
