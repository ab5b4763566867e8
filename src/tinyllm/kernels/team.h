// A team of threads inside one parallel region: shares of work, and a barrier that costs little.
//
// The barrier spins a bounded while and then gives the processor away at every look, so that a
// machine with other work is not punished and one without waits a fraction of a microsecond.

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

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
        for (int looks = 0; looks < most_looks; ++looks) {
            if (round_.load(std::memory_order_acquire) != now) return;
            pause();
        }
        const auto started = Clock::now();
        while (round_.load(std::memory_order_acquire) == now) sched_yield();
        if (Clock::now() - started > too_long) n_lost_.fetch_add(1, std::memory_order_relaxed);
    }

    // Waits of any member, since the last call, that took so long that others had the processor.
    int take_lost() { return n_lost_.exchange(0, std::memory_order_relaxed); }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr int most_looks = 2000;
    static constexpr std::chrono::microseconds too_long{500};
    std::atomic<int> n_lost_{0};
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

// Whether small work is better done alone: for a while after others kept members from their turns.
struct Crowd {
    static constexpr int64_t most_tokens = 16;  // what small work is: more gains by any help
    static constexpr int64_t times_alone = 64;
    int64_t alone_left;

    int64_t team_size(int64_t n_threads, int64_t n_tokens) {
        if (n_tokens > most_tokens || alone_left == 0) return n_threads;
        --alone_left;
        return 1;
    }

    // Takes note of one round of work; true when it is time to work alone.
    bool is_lost(Barrier &barrier, int64_t n_tokens) {
        if (barrier.take_lost() < 2 || n_tokens > most_tokens) return false;
        alone_left = times_alone;
        return true;
    }
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

// Runs work(thread) on up to n threads at once, which meet only when all have ended; nobody spins.
template <typename Work> void on_threads(int64_t n, const Work &work) {
    std::vector<std::thread> others;
    try {
        others.reserve(static_cast<size_t>(n));
        for (int64_t thread = 1; thread < n; ++thread) others.emplace_back(work, thread);
    } catch (const std::exception &) {  // the system gives no more: fewer do it all
    }
    work(int64_t{0});
    for (std::thread &other : others) other.join();
}
