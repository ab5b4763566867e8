// A team of threads inside one parallel region: shares of work, and a barrier that costs little.
//
// The barrier spins a bounded while and then gives the processor away at every look, so that a
// machine with other work is not punished and one without waits a fraction of a microsecond.

#pragma once

#include <atomic>
#include <cstdint>

#include <sched.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

struct Range {
    int64_t first, last;
};

class Barrier {
  public:
    void wait(int size) {
        if (size == 1) return;
        const int now = round_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
            arrived_.store(0, std::memory_order_relaxed);
            round_.store(now + 1, std::memory_order_release);
            return;
        }
        for (int looks = 0; round_.load(std::memory_order_acquire) == now; ++looks) {
            if (looks < most_looks) {
                pause();
            } else {
                sched_yield();
            }
        }
    }

  private:
    static constexpr int most_looks = 2000;
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> round_{0};

    static void pause() {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }
};

struct Member {  // one thread of the team
    int index, size;
    Barrier *barrier;

    void wait() const { barrier->wait(size); }
    Range share(int64_t n) const { return {n * index / size, n * (index + 1) / size}; }
};

// Runs work(member) on up to n_threads threads at once; fewer where the system gives fewer.
template <typename Work> void with_team(int64_t n_threads, const Work &work) {
    Barrier barrier;
#if defined(_OPENMP)
#pragma omp parallel num_threads(static_cast<int>(n_threads))
    work(Member{omp_get_thread_num(), omp_get_num_threads(), &barrier});
#else
    (void)n_threads;
    work(Member{0, 1, &barrier});
#endif
}
