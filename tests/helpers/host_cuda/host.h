// CUDA kernels on the host: blocks run one after another, a block's threads take turns between barriers.
//
// What a GPU would do silently stops here with a message: threads that wait at different barriers, or that return while
// others wait; accesses outside an array or outside the block's shared memory (inaccessible pages); what is read before
// it is written is NaN. Threads run forwards, backwards and shuffled: results that differ betray a race.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __syncthreads() host::wait(__LINE__)
#define SHARED_MEMORY
#define HOST_TENSOR_CORES
#define shared_memory ((Four *)host::shared)

struct Index {
  unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace host {
enum { RUNNING = 0, RETURNED = -1, IN_WARP = 1 << 30, STACK = 128 << 10, PAGE = 4096 };

struct Thread {
  ucontext_t begin;
  jmp_buf here;
  bool begun;
  int line; // of the barrier it waits at, RUNNING or RETURNED
};

static std::vector<Thread *> threads;
static jmp_buf scheduler;
static unsigned current;
static char *shared;
static void (*body)(void *);
static void *argument;

[[noreturn]] static void fail(const char *what, int first, int second) {
  fprintf(stderr, "host_cuda: %s: %d, %d, in block (%u, %u, %u)\n", what, first, second, blockIdx.x, blockIdx.y,
          blockIdx.z);
  abort();
}

__attribute__((noinline)) static void wait(int line) {
  Thread &thread = *threads[current];
  thread.line = line;
  if (_setjmp(thread.here) == 0) _longjmp(scheduler, 1);
}

static void run_thread() {
  for (;;) { // once for every block
    body(argument);
    wait(RETURNED);
  }
}

__attribute__((noinline)) static void resume(unsigned i) {
  Thread &thread = *threads[i];
  current = i;
  threadIdx = {i, 0, 0};
  if (_setjmp(scheduler)) return;
  if (thread.begun) _longjmp(thread.here, 1);
  thread.begun = true;
  setcontext(&thread.begin);
}

static void need_threads(unsigned count) {
  while (threads.size() < count) {
    Thread *thread = new Thread();
    getcontext(&thread->begin);
    thread->begin.uc_stack.ss_sp = malloc(STACK);
    thread->begin.uc_stack.ss_size = STACK;
    makecontext(&thread->begin, run_thread, 0);
    threads.push_back(thread);
  }
}

static void run_block(unsigned count, int order) {
  std::vector<unsigned> turns(count);
  for (unsigned i = 0; i < count; ++i) turns[i] = order == 1 ? count - 1 - i : i, threads[i]->line = RUNNING;
  uint32_t random = 12345u * order + blockIdx.x;
  for (;;) {
    if (order > 1)
      for (unsigned i = count - 1; i > 0; --i) {
        random = random * 1664525u + 1013904223u;
        std::swap(turns[i], turns[(random >> 8) % (i + 1)]);
      }
    for (unsigned i : turns)
      if (threads[i]->line == RUNNING) resume(i);
    bool together = false; // lanes that wait for the rest of their warp go on when all have come
    for (unsigned warp = 0; warp < count; warp += 32) {
      int waiting = 0;
      for (unsigned i = warp; i < std::min(warp + 32, count); ++i) waiting += threads[i]->line == IN_WARP;
      if (waiting == 0) continue;
      if (waiting < 32) fail("lanes of a warp that multiply, warp", waiting, warp / 32);
      for (unsigned i = warp; i < warp + 32; ++i) threads[i]->line = RUNNING;
      together = true;
    }
    if (together) continue;
    int line = threads[0]->line;
    for (unsigned i = 1; i < count; ++i)
      if (threads[i]->line != line) fail("threads wait at different lines (-1: returned)", line, threads[i]->line);
    if (line == RETURNED) return;
    for (unsigned i = 0; i < count; ++i) threads[i]->line = RUNNING;
  }
}

// Memory that ends, but for rounding up to 16 bytes, where an inaccessible page begins, and has one before it.
struct Guarded {
  char *pages, *begin;
  size_t length, bytes;
  explicit Guarded(size_t wanted) : bytes(wanted) {
    size_t whole = (wanted + 15) / 16 * 16, inside = (whole + PAGE - 1) / PAGE * PAGE;
    length = inside + 2 * PAGE;
    pages = (char *)mmap(nullptr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, inside, PROT_READ | PROT_WRITE)) fail("no memory", 0, 0);
    begin = pages + PAGE + inside - whole;
  }
  Guarded(const Guarded &) = delete;
  ~Guarded() { munmap(pages, length); }
};

static void run_grid(Index grid, unsigned count, size_t shared_bytes, int order) {
  Guarded memory(shared_bytes);
  need_threads(count);
  gridDim = grid, blockDim = {count, 1, 1}, shared = memory.begin;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        memset(memory.begin, 0xff, shared_bytes);
        run_block(count, order);
      }
}

// A kernel with its arguments as cuLaunchKernel takes them: each points to a value.
template <class... A>
struct Call {
  void (*kernel)(A...);
  void **values;
  template <size_t... I>
  void run(std::index_sequence<I...>) {
    kernel(*(A *)values[I]...);
  }
};

template <class... A>
static int launch(void (*kernel)(A...), Index grid, unsigned count, size_t shared_bytes, void **values,
                  const long *bytes, unsigned given, int orders) {
  if (given != sizeof...(A)) return 2;
  std::vector<void *> arguments(values, values + given);
  std::map<void *, Guarded *> arrays; // by where the caller has them
  std::vector<void *> addresses(given);
  for (unsigned i = 0; i < given; ++i) {
    if (bytes[i] < 0) continue; // a value
    void *from = *(void **)values[i];
    if (!arrays.count(from)) arrays[from] = new Guarded(bytes[i]);
    addresses[i] = arrays[from]->begin, arguments[i] = &addresses[i];
  }
  Call<A...> call = {kernel, arguments.data()};
  body = [](void *it) { ((Call<A...> *)it)->run(std::index_sequence_for<A...>()); };
  argument = &call;
  std::map<void *, std::vector<char>> first;
  int result = 0;
  for (int order = 0; order < orders; ++order) {
    for (auto &array : arrays) memcpy(array.second->begin, array.first, array.second->bytes);
    run_grid(grid, count, shared_bytes, order);
    for (auto &array : arrays) {
      char *begin = array.second->begin;
      if (order == 0)
        first[array.first].assign(begin, begin + array.second->bytes);
      else if (memcmp(first[array.first].data(), begin, array.second->bytes))
        result = 3;
    }
  }
  for (auto &array : arrays) {
    memcpy(array.first, first[array.first].data(), array.second->bytes);
    delete array.second;
  }
  return result;
}
} // namespace host

// What tensor_cores.cu has from tensor cores: the product of a warp. Nothing is rounded, so that all else can be judged
// exactly.
static inline uint32_t as_tf32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static void multiply(float sum[4], const uint32_t left[4], const uint32_t right[2]) {
  static float a[32][16][8], b[32][8][8];
  unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, h = threadIdx.x % 4;
  for (int i = 0; i < 4; ++i) memcpy(&a[warp][g + i % 2 * 8][h + i / 2 * 4], &left[i], 4);
  for (int i = 0; i < 2; ++i) memcpy(&b[warp][h + i * 4][g], &right[i], 4);
  host::wait(host::IN_WARP);
  for (int i = 0; i < 4; ++i)
    for (int k = 0; k < 8; ++k) sum[i] += a[warp][g + i / 2 * 8][k] * b[warp][k][2 * h + i % 2];
  host::wait(host::IN_WARP);
}
