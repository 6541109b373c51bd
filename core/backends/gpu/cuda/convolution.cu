// Convolutions of activations with K x K filters, K 1 or 3, stride 1: forward, for the input, and for the filters.
//
// A block of threads takes a tile: whole images, or a band of rows of one, and up to 32 filters. A chunk of the input's
// channels, with its border, and the filters' share of it lie in shared memory; a thread sums 8 places x 8 filters in
// registers: 16 loads of 16 bytes to 256 multiplications.

#define ROW_OF_THREADS 192

struct Convolution;

// Where a tile begins, and what of it there is.
struct Tile {
  int image, images, row, rows;
  METHOD Tile(const Convolution &s, int index);
};

struct Convolution {
  int images, height, width, channels; // of the input
  int rows, columns, filters;          // of the output
  int kernel, pad;
  int tile_images, tile_rows, bands; // a tile; bands of an image
  int chunk;                         // channels at once: 8, 16 or 32

  // Places of the output in a tile, counted image by image and row by row.
  METHOD int places() const { return tile_images * tile_rows * columns; }

  // Where a place's window begins in the tile's input, (images, high, wide).
  METHOD int corner(int place, int high, int wide) const {
    int line = place / columns;
    return (line / tile_rows * high + line % tile_rows) * wide + place % columns;
  }

  // Whether there is such a place: the last tile may be larger than what is left.
  METHOD bool exists(const Tile &tile, int place) const {
    int line = place / columns;
    return place < places() && line / tile_rows < tile.images && line % tile_rows < tile.rows;
  }

  // A place's number in the output (T, N, rows, columns).
  METHOD size_t pixel(const Tile &tile, int t, int place) const {
    int line = place / columns;
    size_t image = (size_t)t * images + tile.image + line / tile_rows;
    return (image * rows + tile.row + line % tile_rows) * columns + place % columns;
  }
};

METHOD Tile::Tile(const Convolution &s, int index)
    : image(index / s.bands * s.tile_images), images(smaller(s.tile_images, s.images - image)),
      row(index % s.bands * s.tile_rows), rows(smaller(s.tile_rows, s.rows - row)) {}

// An operand that lies in memory as it is: (T or 1, N, height, width, channels). Its reader reads four channels of a
// trial's images, place by place.
struct Plain {
  const float *x;
  size_t trial; // values from one trial to the next: 0 where they share the operand
  int height, width, channels;

  METHOD Plain(const float *x, size_t trial, int height, int width, int channels)
      : x(x), trial(trial), height(height), width(width), channels(channels) {}
  METHOD Plain(const Convolution &s, const float *input, int shared)
      : Plain(input, shared ? 0 : (size_t)s.images * s.height * s.width * s.channels, s.height, s.width, s.channels) {}

  struct Reader {
    const float *x;
    int height, width, channels;
    METHOD Four at(int n, int row, int column) const {
      return load4(x + (((size_t)n * height + row) * width + column) * channels);
    }
  };
  METHOD Reader reader(int t, int c) const { return {x + t * trial + c, height, width, channels}; }
};

// The gradient of a convolution's output under batch norm, ReLU and pooling, which is never stored:
//   scale * (dy where the window's maximum is) + slope * (z - mean) + offset, with constants (T, 4, F) in this order:
//   mean, scale, slope, offset (see gradient_constants).
struct Normalised {
  const float *z, *dy, *constants;
  const u8 *place;
  int images, height, width, channels, pool;

  struct Reader {
    const float *z, *dy;
    const u8 *place;
    int height, width, channels, pool, reciprocal, pooled_height, pooled_width;
    Four mean, scale, slope, offset;

    METHOD int pooled(int position) const { return (position * reciprocal) >> 16; } // position / pool, below 32,768

    METHOD Four at(int n, int row, int column) const {
      Four value = load4(z + (((size_t)n * height + row) * width + column) * channels);
#pragma unroll
      for (int j = 0; j < 4; ++j) value.v[j] = slope.v[j] * (value.v[j] - mean.v[j]) + offset.v[j];
      int high = pooled(row), wide = pooled(column);
      if (high < pooled_height && wide < pooled_width) {
        size_t to = (((size_t)n * pooled_height + high) * pooled_width + wide) * channels;
        u32 places = *(const u32 *)(place + to), here = (row - high * pool) * pool + column - wide * pool;
        Four gradient = load4(dy + to);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if ((places >> (8 * j) & 255) == here) value.v[j] += scale.v[j] * gradient.v[j];
      }
      return value;
    }
  };

  METHOD Reader reader(int t, int c) const {
    int pooled_height = height / pool, pooled_width = width / pool;
    size_t trial = (size_t)t * images, pooled = trial * pooled_height * pooled_width * channels + c;
    const float *of = constants + (size_t)t * 4 * channels + c;
    return {z + trial * height * width * channels + c,
            dy + pooled,
            place + pooled,
            height,
            width,
            channels,
            pool,
            65536 / pool + (pool == 3),
            pooled_height,
            pooled_width,
            load4(of),
            load4(of + channels),
            load4(of + 2 * channels),
            load4(of + 3 * channels)};
  }
};

// Rows [row, row + rows) and columns [column, column + columns) of channels [c, c + chunk) of some images into shared
// memory, (images, rows, columns, stride), zero outside the image. A warp takes a row, a lane four channels of every so
// many places: chunk is 8, 16 or 32.
template <class Operand>
DEVICE void load_tile(float *to, int stride, const Operand &from, int t, int image, int images, int row, int rows,
                      int column, int columns, int c, int chunk) {
  int shift = chunk == 8 ? 1 : chunk == 16 ? 2 : 3, lane = threadIdx.x % 32, k = lane % (1 << shift) * 4;
  const typename Operand::Reader reader = from.reader(t, c + k);
  for (int line = threadIdx.x / 32; line < images * rows; line += blockDim.x / 32) {
    int n = image + line / rows, y = row + line % rows;
    bool inside = y >= 0 && y < from.height;
    for (int place = lane >> shift; place < columns; place += 32 >> shift) {
      int x = column + place;
      Four value = {{0, 0, 0, 0}};
      if (inside && x >= 0 && x < from.width) value = reader.at(n, y, x);
      store4(to + (line * columns + place) * stride + k, value);
    }
  }
}

// Rows [tap * channels + c, + chunk) of every tap of the filters (K * K, channels, F), WIDTH of each, into rows of
// shared memory.
template <int WIDTH>
DEVICE void load_filters(float *to, int row_size, const float *filters, const Convolution &s, int c, int chunk) {
  for (int e = threadIdx.x; e < s.kernel * s.kernel * chunk * (WIDTH / 4); e += blockDim.x) {
    int row = e / (WIDTH / 4), tap = row / chunk, column = e % (WIDTH / 4) * 4;
    size_t from = (size_t)tap * s.channels + c + row - tap * chunk;
    store4(to + row * row_size + column, load4(filters + from * s.filters + column));
  }
}

// The sums of WIDTH columns of memory (rows, WIDTH), in a fixed order; memory goes on after them.
template <int WIDTH>
DEVICE const float *column_sums(float *memory, int rows) {
  const int slices = ROW_OF_THREADS / 2 / WIDTH;
  float *partial = memory + rows * WIDTH, *total = partial + slices * WIDTH;
  __syncthreads(); // memory is filled
  for (int e = threadIdx.x; e < slices * WIDTH; e += blockDim.x) {
    float sum = 0;
    for (int k = e / WIDTH; k < rows; k += slices) sum += memory[k * WIDTH + e % WIDTH];
    partial[e] = sum;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < WIDTH; e += blockDim.x) {
    float sum = 0;
    for (int k = 0; k < slices; ++k) sum += partial[k * WIDTH + e];
    total[e] = sum;
  }
  __syncthreads();
  return total;
}

// z = filters applied to x, + bias if there is one. moments, if wanted, (T, tiles, 2, F): each tile's mean and sum of
// squared distances from it. filters are (T, K * K, channels, F). grid (tiles, T, F / WIDTH), block a multiple of 32
// that has WIDTH / 8 threads for every 8 places of a tile.
template <int WIDTH, class Operand>
DEVICE void convolve(const Operand &x, const float *filters, const float *bias, float *z, float *moments,
                     const Convolution &s) {
  const int across = WIDTH / 8;
  int t = blockIdx.y, first = blockIdx.z * WIDTH, border = s.kernel - 1, taps = s.kernel * s.kernel;
  int wide = s.columns + border, high = s.tile_rows + border, stride = s.chunk + 4;
  int places = s.places(), groups = (places + 7) / 8;
  int group = threadIdx.x / across, f = threadIdx.x % across * 8;
  float *pixels = (float *)shared_memory, *weights = pixels + s.tile_images * high * wide * stride;
  Tile tile(s, blockIdx.x);
  filters += (size_t)t * taps * s.channels * s.filters + first;

  int base[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    int place = group + groups * i;
    base[i] = s.corner(place < places ? place : 0, high, wide) * stride;
  }
  float sums[8][8] = {};
  for (int c = 0; c < s.channels; c += s.chunk) {
    int chunk = smaller(s.chunk, s.channels - c);
    __syncthreads();
    load_tile(pixels, stride, x, t, tile.image, tile.images, tile.row - s.pad, high, -s.pad, wide, c, chunk);
    load_filters<WIDTH>(weights, WIDTH, filters, s, c, chunk);
    __syncthreads();
    if (group >= groups) continue;
#pragma unroll 1
    for (int tap = 0; tap < taps; ++tap) {
      const float *window = pixels + (tap / s.kernel * wide + tap % s.kernel) * stride;
      const float *row = weights + tap * chunk * WIDTH + f;
#pragma unroll 1
      for (int k = 0; k < chunk; k += 4, row += 4 * WIDTH) {
        Four value[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) value[i] = load4(window + base[i] + k);
#pragma unroll
        for (int kk = 0; kk < 4; ++kk) {
          Four low = load4(row + kk * WIDTH), high4 = load4(row + kk * WIDTH + 4);
#pragma unroll
          for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              sums[i][j] += value[i].v[kk] * low.v[j];
              sums[i][j + 4] += value[i].v[kk] * high4.v[j];
            }
        }
      }
    }
  }

  bool exists[8];
  float column[8] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    int place = group + groups * i;
    exists[i] = group < groups && s.exists(tile, place);
    if (!exists[i]) continue;
    float *to = z + s.pixel(tile, t, place) * s.filters + first + f;
    Four low, high4;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if (bias) sums[i][j] += bias[(size_t)t * s.filters + first + f + j];
      column[j] += sums[i][j];
      (j < 4 ? low : high4).v[j % 4] = sums[i][j];
    }
    store4(to, low);
    store4(to + 4, high4);
  }
  if (!moments) return;
  float count = (float)(tile.images * tile.rows * s.columns), mean[8], squares[8] = {};
  float *mine = pixels + group * WIDTH + f; // this thread's row and columns for column_sums
  __syncthreads();                          // pixels were in use
  if (group < groups)
#pragma unroll
    for (int j = 0; j < 8; ++j) mine[j] = column[j];
  const float *total = column_sums<WIDTH>(pixels, groups);
#pragma unroll
  for (int j = 0; j < 8; ++j) {
    mean[j] = total[f + j] / count;
#pragma unroll
    for (int i = 0; i < 8; ++i)
      if (exists[i]) squares[j] += (sums[i][j] - mean[j]) * (sums[i][j] - mean[j]);
  }
  if (group < groups)
#pragma unroll
    for (int j = 0; j < 8; ++j) mine[j] = squares[j];
  total = column_sums<WIDTH>(pixels, groups);
  float *out = moments + ((size_t)t * gridDim.x + blockIdx.x) * 2 * s.filters + first + f;
  if (group == 0)
#pragma unroll
    for (int j = 0; j < 8; ++j) out[j] = mean[j], out[s.filters + j] = total[f + j];
}

#define CONVOLVE(WIDTH)                                                                                                \
  KERNEL __launch_bounds__(ROW_OF_THREADS, 2) convolve_##WIDTH(                                                        \
      const float *x, const float *filters, const float *bias, float *z, float *moments, Convolution s, int shared) {  \
    convolve<WIDTH>(Plain(s, x, shared), filters, bias, z, moments, s);                                                \
  }                                                                                                                    \
  KERNEL __launch_bounds__(ROW_OF_THREADS, 2)                                                                          \
      convolve_gradient_##WIDTH(const float *z, const float *dy, const u8 *place, const float *constants,              \
                                const float *filters, float *dx, Convolution s, int pool) {                            \
    Normalised gradient = {z, dy, constants, place, s.images, s.height, s.width, s.channels, pool};                    \
    convolve<WIDTH>(gradient, filters, nullptr, dx, nullptr, s);                                                       \
  }
CONVOLVE(8)
CONVOLVE(16)
CONVOLVE(32)

// The gradient of the filters. A block takes some images, strip of rows by strip, and up to 32 channels x 32 filters; a
// thread takes a tap, 8 channels x 8 filters, and every so many rows (its slice). parts: (T, groups of images * slices,
// K * K, channels, F), to be summed. s is that of the forward convolution; its tile is a strip, chunk the channels of a
// block. grid (groups of images, T, channels / chunk * F / WIDTH).
template <int WIDTH, class Operand>
DEVICE void correlate(const Plain &x, const Operand &gradient, float *parts, const Convolution &s, int images,
                      int slices) {
  int border = s.kernel - 1, taps = s.kernel * s.kernel, wide = s.columns + border;
  int t = blockIdx.y, blocks = s.filters / WIDTH, c = blockIdx.z / blocks * s.chunk, f = blockIdx.z % blocks * WIDTH;
  int across = WIDTH / 8, down = s.chunk / 8, index = threadIdx.x;
  int my_f = index % across * 8, my_c = (index /= across) % down * 8, tap = (index /= down) % taps,
      slice = index / taps;
  int x_stride = s.chunk + 4, y_stride = WIDTH + 4;
  float *pixels = (float *)shared_memory, *gradients = pixels + (s.tile_rows + border) * wide * x_stride;
  int last = smaller(s.images, ((int)blockIdx.x + 1) * images);

  float sums[8][8] = {};
  for (int n = blockIdx.x * images; n < last; ++n)
    for (int row = 0; row < s.rows; row += s.tile_rows) {
      int rows = smaller(s.tile_rows, s.rows - row);
      __syncthreads();
      load_tile(pixels, x_stride, x, t, n, 1, row - s.pad, rows + border, -s.pad, wide, c, s.chunk);
      load_tile(gradients, y_stride, gradient, t, n, 1, row, rows, 0, s.columns, f, WIDTH);
      __syncthreads();
      if (slice >= slices) continue;
      for (int y = slice; y < rows; y += slices) {
        const float *a = pixels + ((y + tap / s.kernel) * wide + tap % s.kernel) * x_stride + my_c;
        const float *b = gradients + y * s.columns * y_stride + my_f;
#pragma unroll 2
        for (int column = 0; column < s.columns; ++column, a += x_stride, b += y_stride) {
          Four a0 = load4(a), a1 = load4(a + 4), b0 = load4(b), b1 = load4(b + 4);
#pragma unroll
          for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              sums[i][j] += a0.v[i] * b0.v[j];
              sums[i][j + 4] += a0.v[i] * b1.v[j];
              sums[i + 4][j] += a1.v[i] * b0.v[j];
              sums[i + 4][j + 4] += a1.v[i] * b1.v[j];
            }
        }
      }
    }
  if (slice >= slices) return;
  size_t part = ((size_t)t * gridDim.x + blockIdx.x) * slices + slice;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float *to = parts + ((part * taps + tap) * s.channels + c + my_c + i) * s.filters + f + my_f;
    store4(to, Four{{sums[i][0], sums[i][1], sums[i][2], sums[i][3]}});
    store4(to + 4, Four{{sums[i][4], sums[i][5], sums[i][6], sums[i][7]}});
  }
}

#define CORRELATE(WIDTH)                                                                                               \
  KERNEL __launch_bounds__(ROW_OF_THREADS, 2) correlate_##WIDTH(const float *x, const float *dy, float *parts,         \
                                                                Convolution s, int shared, int images, int slices) {   \
    Plain gradient(dy, (size_t)s.images * s.rows * s.columns * s.filters, s.rows, s.columns, s.filters);               \
    correlate<WIDTH>(Plain(s, x, shared), gradient, parts, s, images, slices);                                         \
  }                                                                                                                    \
  KERNEL __launch_bounds__(ROW_OF_THREADS, 2) correlate_gradient_##WIDTH(                                              \
      const float *x, const float *z, const float *dy, const u8 *place, const float *constants, float *parts,          \
      Convolution s, int pool, int shared, int images, int slices) {                                                   \
    Normalised gradient = {z, dy, constants, place, s.images, s.rows, s.columns, s.filters, pool};                     \
    correlate<WIDTH>(Plain(s, x, shared), gradient, parts, s, images, slices);                                         \
  }
CORRELATE(8)
CORRELATE(16)
CORRELATE(32)

// The filters w (T, F, C, K, K) as the convolutions read them: forward (T, K * K, C', F'), and turned by 180 degrees
// for the input's gradient, backward (T, K * K, F', C'); C' and F' are rounded up, and zero there. Either may be
// missing. grid (ceil(K * K * C' * F' / block), T)
KERNEL arrange_filters(const float *w, float *forward, float *backward, int taps, int channels, int filters,
                       int stored_channels, int stored_filters) {
  int e = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y, size = taps * stored_channels * stored_filters;
  if (e >= size) return;
  int f = e % stored_filters, c = e / stored_filters % stored_channels, tap = e / stored_filters / stored_channels;
  bool exists = f < filters && c < channels;
  float value = exists ? w[(((size_t)t * filters + f) * channels + c) * taps + tap] : 0;
  if (forward) forward[(size_t)t * size + e] = value;
  if (backward) backward[(size_t)t * size + ((taps - 1 - tap) * stored_filters + f) * stored_channels + c] = value;
}

// dw (T, F, C, K, K) = the sum of parts (T, count, K * K, C', F') over count. grid (ceil(K * K * C' * F' / block), T)
KERNEL sum_filters(const float *parts, float *dw, int count, int taps, int channels, int filters, int stored_channels,
                   int stored_filters) {
  int e = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y, size = taps * stored_channels * stored_filters;
  int f = e % stored_filters, c = e / stored_filters % stored_channels, tap = e / stored_filters / stored_channels;
  if (e >= size || f >= filters || c >= channels) return;
  const float *part = parts + (size_t)t * count * size + e;
  double sum = 0;
#pragma unroll 8
  for (int k = 0; k < count; ++k) sum += part[(size_t)k * size];
  dw[(((size_t)t * filters + f) * channels + c) * taps + tap] = (float)sum;
}
