// What all kernels share. This is CUDA C++ that a host compiler also accepts (tests/host_cuda).
//
// Axis letters as in reference.py: T trials, N images, C channels, F filters, H W pixels, D features, L classes.
// Activations lie as (T, N, H, W, C), with C rounded up to a multiple of 8 and the padding zero. Every sum runs in a
// fixed order, without atomics, so that a run repeats bit for bit; and in an order that does not depend on T.
#define METHOD __device__ __forceinline__
#define DEVICE static METHOD
#define KERNEL extern "C" __global__ void

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

struct __align__(16) Four {
  float v[4];
};

#ifndef SHARED_MEMORY // a host compiler brings its own
extern __shared__ Four shared_memory[];
#endif

DEVICE Four load4(const float *from) { return *(const Four *)from; }
DEVICE void store4(float *to, const Four &value) { *(Four *)to = value; }
DEVICE int smaller(int a, int b) { return a < b ? a : b; }

// In place of the place of a window's maximum: ReLU lets no gradient through.
#define NOWHERE 255

// Sum of a value over the block's threads, in every thread. memory holds one value a thread; a power of two threads.
template <class Value>
DEVICE Value block_sum(Value value, Value *memory) {
  memory[threadIdx.x] = value;
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if ((int)threadIdx.x < half) memory[threadIdx.x] += memory[threadIdx.x + half];
    __syncthreads();
  }
  value = memory[0];
  __syncthreads();
  return value;
}

// Four random words: Philox4x32-10 (Salmon et al. 2011), with core/random.py's counter (quad, step, purpose, 0) and
// key.
DEVICE void philox(u32 quad, u32 step, u32 purpose, u64 seed, u32 words[4]) {
  u32 c0 = quad, c1 = step, c2 = purpose, c3 = 0, k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    u64 a = (u64)0xD2511F53u * c0, b = (u64)0xCD9E8D57u * c2;
    c0 = (u32)(b >> 32) ^ c1 ^ k0;
    c2 = (u32)(a >> 32) ^ c3 ^ k1;
    c1 = (u32)b;
    c3 = (u32)a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

// Uniform in [0, 1): the upper 24 bits, which a float holds exactly.
DEVICE float unit(u32 word) { return (float)(word >> 8) * 0x1p-24f; }

// out (T, size) = the sum of parts (T, count, size) over count. grid (ceil(size / block), T)
KERNEL sum_parts(const float *parts, double *out, int count, int size) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, t = blockIdx.y;
  if (i >= size) return;
  const float *part = parts + (size_t)t * count * size + i;
  double sum = 0;
#pragma unroll 8
  for (int k = 0; k < count; ++k) sum += part[(size_t)k * size];
  out[(size_t)t * size + i] = sum;
}
