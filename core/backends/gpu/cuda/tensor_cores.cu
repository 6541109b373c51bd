// The 3 x 3 convolutions on tensor cores: operands rounded to TF32, whose mantissa has 10 bits, sums in float. Compute
// capability 8.0 or later. Arguments and results are those of convolve and correlate.
//
// A warp multiplies 16 x 8 by 8 x 8 matrices. Of its 32 lanes, with g = lane / 4 and h = lane % 4, each holds
//   of the left one (g, h), (g + 8, h), (g, h + 4), (g + 8, h + 4), of the right one (h, g), (h + 4, g),
//   and of the sum (g, 2h), (g, 2h + 1), (g + 8, 2h), (g + 8, 2h + 1)
// (PTX manual, matrix fragments for mma.m16n8k8). Rows in shared memory are padded so that lanes meet no bank twice.

#define ROWS_OF_WARP 3 // of 16 places each

#ifndef HOST_TENSOR_CORES // a host compiler brings its own
DEVICE u32 as_tf32(float value) {
#if __CUDA_ARCH__ >= 800
  u32 rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
  return rounded;
#else
  return __float_as_uint(value);
#endif
}

DEVICE void multiply(float sum[4], const u32 left[4], const u32 right[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#else
  __trap(); // core.backends.gpu.backend does not offer it there
#endif
}
#endif

// As convolve. A warp takes 48 places of the tile and all WIDTH filters.
template <int WIDTH, class Operand>
DEVICE void convolve_tensor(const Operand &x, const float *filters, float *z, float *moments, const Convolution &s) {
  int t = blockIdx.y, first = blockIdx.z * WIDTH, border = s.kernel - 1, taps = s.kernel * s.kernel;
  int wide = s.columns + border, high = s.tile_rows + border, stride = s.chunk + 4, places = s.places();
  int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, h = threadIdx.x % 4;
  const int row_size = WIDTH + 8;
  float *pixels = (float *)shared_memory, *weights = pixels + s.tile_images * high * wide * stride;
  Tile tile(s, blockIdx.x);
  filters += (size_t)t * taps * s.channels * s.filters + first;

  int base[ROWS_OF_WARP * 2];
#pragma unroll
  for (int i = 0; i < ROWS_OF_WARP * 2; ++i) {
    int place = (warp * ROWS_OF_WARP + i / 2) * 16 + i % 2 * 8 + g;
    base[i] = s.corner(place < places ? place : 0, high, wide) * stride + h;
  }
  float sums[ROWS_OF_WARP][WIDTH / 8][4] = {};
  for (int c = 0; c < s.channels; c += s.chunk) {
    int chunk = smaller(s.chunk, s.channels - c);
    __syncthreads();
    load_tile(pixels, stride, x, t, tile.image, tile.images, tile.row - s.pad, high, -s.pad, wide, c, chunk);
    load_filters<WIDTH>(weights, row_size, filters, s, c, chunk);
    __syncthreads();
#pragma unroll 1
    for (int tap = 0; tap < taps; ++tap) {
      const float *window = pixels + (tap / s.kernel * wide + tap % s.kernel) * stride;
      const float *row = weights + (tap * chunk + h) * row_size + g;
#pragma unroll 1
      for (int k = 0; k < chunk; k += 8, row += 8 * row_size) {
        u32 left[ROWS_OF_WARP][4], right[WIDTH / 8][2];
#pragma unroll
        for (int i = 0; i < ROWS_OF_WARP * 4; ++i)
          left[i / 4][i % 4] = as_tf32(window[base[i / 4 * 2 + i % 2] + k + i % 4 / 2 * 4]);
#pragma unroll
        for (int j = 0; j < WIDTH / 4; ++j) right[j / 2][j % 2] = as_tf32(row[j % 2 * 4 * row_size + j / 2 * 8]);
#pragma unroll
        for (int i = 0; i < ROWS_OF_WARP; ++i)
#pragma unroll
          for (int j = 0; j < WIDTH / 8; ++j) multiply(sums[i][j], left[i], right[j]);
      }
    }
  }

  float *mine = pixels + (warp * 8 + g) * WIDTH; // this thread's row and, from h on, columns for column_sums
  float count = (float)(tile.images * tile.rows * s.columns);
  const float *mean = nullptr;
  for (int pass = 0; pass < (moments ? 2 : 1); ++pass) { // the mean, then the squared distances from it
    float means[WIDTH / 4], column[WIDTH / 4] = {};
    if (pass)
#pragma unroll
      for (int j = 0; j < WIDTH / 4; ++j) means[j] = mean[j / 2 * 8 + 2 * h + j % 2] / count;
#pragma unroll
    for (int i = 0; i < ROWS_OF_WARP * 2; ++i) {
      int place = (warp * ROWS_OF_WARP + i / 2) * 16 + i % 2 * 8 + g;
      if (!s.exists(tile, place)) continue;
      float *to = z + s.pixel(tile, t, place) * s.filters + first + 2 * h;
#pragma unroll
      for (int j = 0; j < WIDTH / 4; ++j) {
        float value = sums[i / 2][j / 2][i % 2 * 2 + j % 2];
        if (pass)
          column[j] += (value - means[j]) * (value - means[j]);
        else
          to[j / 2 * 8 + j % 2] = value, column[j] += value;
      }
    }
    if (!moments) return;
    float *out = moments + ((size_t)t * gridDim.x + blockIdx.x) * 2 * s.filters + first;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < WIDTH / 4; ++j) mine[j / 2 * 8 + 2 * h + j % 2] = column[j];
    mean = column_sums<WIDTH>(pixels, blockDim.x / 4);
    if ((int)threadIdx.x < WIDTH)
      out[pass * s.filters + threadIdx.x] = pass ? mean[threadIdx.x] : mean[threadIdx.x] / count;
  }
}

#define CONVOLVE_TENSOR(WIDTH)                                                                                         \
  KERNEL __launch_bounds__(256, 2) convolve_tensor_##WIDTH(const float *x, const float *filters, const float *,        \
                                                           float *z, float *moments, Convolution s, int shared) {      \
    convolve_tensor<WIDTH>(Plain(s, x, shared), filters, z, moments, s);                                               \
  }                                                                                                                    \
  KERNEL __launch_bounds__(256, 2)                                                                                     \
      convolve_gradient_tensor_##WIDTH(const float *z, const float *dy, const u8 *place, const float *constants,       \
                                       const float *filters, float *dx, Convolution s, int pool) {                     \
    Normalised gradient = {z, dy, constants, place, s.images, s.height, s.width, s.channels, pool};                    \
    convolve_tensor<WIDTH>(gradient, filters, dx, nullptr, s);                                                         \
  }
CONVOLVE_TENSOR(8)
CONVOLVE_TENSOR(16)
CONVOLVE_TENSOR(32)

// As correlate, for CHANNELS = s.chunk of 16 or 32. A warp takes a tap, and goes through a strip 8 places at a time.
template <int CHANNELS, int WIDTH, class Operand>
DEVICE void correlate_tensor(const Plain &x, const Operand &gradient, float *parts, const Convolution &s, int images) {
  int border = s.kernel - 1, wide = s.columns + border, most = (s.tile_rows * s.columns + 7) / 8 * 8;
  int t = blockIdx.y, blocks = s.filters / WIDTH, c = blockIdx.z / blocks * CHANNELS, f = blockIdx.z % blocks * WIDTH;
  int tap = threadIdx.x / 32, g = threadIdx.x % 32 / 4, h = threadIdx.x % 4;
  const int x_stride = CHANNELS + 8, y_stride = WIDTH + 8;
  float *pixels = (float *)shared_memory, *gradients = pixels + (s.tile_rows + border) * wide * x_stride;
  int *corner = (int *)(gradients + most * y_stride); // of each place's window
  int last = smaller(s.images, ((int)blockIdx.x + 1) * images);
  const float *window = pixels + (tap / s.kernel * wide + tap % s.kernel) * x_stride + g;

  for (int p = threadIdx.x; p < most; p += blockDim.x) {
    int place = p < s.tile_rows * s.columns ? p : 0;
    corner[p] = (place / s.columns * wide + place % s.columns) * x_stride;
  }
  float sums[CHANNELS / 16][WIDTH / 8][4] = {};
  for (int n = blockIdx.x * images; n < last; ++n)
    for (int row = 0; row < s.rows; row += s.tile_rows) {
      int rows = smaller(s.tile_rows, s.rows - row), places = rows * s.columns, whole = (places + 7) / 8 * 8;
      __syncthreads();
      load_tile(pixels, x_stride, x, t, n, 1, row - s.pad, rows + border, -s.pad, wide, c, CHANNELS);
      load_tile(gradients, y_stride, gradient, t, n, 1, row, rows, 0, s.columns, f, WIDTH);
      for (int e = places * y_stride + threadIdx.x; e < whole * y_stride; e += blockDim.x) gradients[e] = 0;
      __syncthreads();
#pragma unroll 1
      for (int p = 0; p < whole; p += 8) {
        // Beyond the strip's end the gradient is 0; the pixels there are those of its first place.
        const float *near = window + corner[p + h < places ? p + h : 0];
        const float *far = window + corner[p + h + 4 < places ? p + h + 4 : 0];
        const float *b = gradients + (p + h) * y_stride + g;
        u32 left[CHANNELS / 16][4], right[WIDTH / 8][2];
#pragma unroll
        for (int i = 0; i < CHANNELS / 4; ++i)
          left[i / 4][i % 4] = as_tf32((i % 4 / 2 ? far : near)[i / 4 * 16 + i % 2 * 8]);
#pragma unroll
        for (int j = 0; j < WIDTH / 4; ++j) right[j / 2][j % 2] = as_tf32(b[j % 2 * 4 * y_stride + j / 2 * 8]);
#pragma unroll
        for (int i = 0; i < CHANNELS / 16; ++i)
#pragma unroll
          for (int j = 0; j < WIDTH / 8; ++j) multiply(sums[i][j], left[i], right[j]);
      }
    }
  size_t part = (size_t)t * gridDim.x + blockIdx.x;
#pragma unroll
  for (int i = 0; i < CHANNELS / 16; ++i)
#pragma unroll
    for (int j = 0; j < WIDTH / 8; ++j)
#pragma unroll
      for (int r = 0; r < 4; ++r)
        parts[((part * s.kernel * s.kernel + tap) * s.channels + c + i * 16 + r / 2 * 8 + g) * s.filters + f + j * 8 +
              2 * h + r % 2] = sums[i][j][r];
}

#define CORRELATE_TENSOR(CHANNELS, WIDTH)                                                                              \
  KERNEL __launch_bounds__(288, 2) correlate_gradient_tensor_##CHANNELS##_##WIDTH(                                     \
      const float *x, const float *z, const float *dy, const u8 *place, const float *constants, float *parts,          \
      Convolution s, int pool, int shared, int images, int) {                                                          \
    Normalised gradient = {z, dy, constants, place, s.images, s.rows, s.columns, s.filters, pool};                     \
    correlate_tensor<CHANNELS, WIDTH>(Plain(s, x, shared), gradient, parts, s, images);                                \
  }
CORRELATE_TENSOR(16, 16)
CORRELATE_TENSOR(16, 32)
CORRELATE_TENSOR(32, 16)
CORRELATE_TENSOR(32, 32)
