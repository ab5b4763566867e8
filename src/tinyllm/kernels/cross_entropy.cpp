// Softmax cross-entropy of a block of logits, turned into its own gradient where it lies.
//
//     logits (rows, classes)  ->  losses (rows)   log(sum exp(logits)) - logits[target], in nats
//                                 logits          softmax(logits) - one_hot(target)
//
// A row is read three times: for its maximum, for the exponentials, which wait as floats in the
// thread's `scratch` (threads, classes), and to write the gradient. All rows fit in the cache, so
// that only the matrix products before and after touch memory. A NaN or an infinity anywhere in a
// row makes its loss NaN.

#include <cmath>

#include "vector.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

template <typename T> struct Working { using type = float; };
template <> struct Working<double> { using type = double; };
template <typename T> using Work = typename Working<T>::type;

template <typename T> static Work<T> largest_logit(const T *logits, int64_t n) {
    using W = Work<T>;
    constexpr int step = lanes<W>;
    const W least = -static_cast<W>(__builtin_inf());
    Vector<W> best[4] = {all(least), all(least), all(least), all(least)};
    int64_t i = 0;
    for (; i + 4 * step <= n; i += 4 * step) {
        for (int k = 0; k < 4; ++k) {
            const Vector<W> x = load(logits + i + k * step);
            best[k] = larger(x, best[k]);
        }
    }
    for (int k = 1; k < 4; ++k) best[0] = larger(best[k], best[0]);
    W most = largest(best[0]);
    for (; i < n; ++i) most = widen(logits[i]) > most ? widen(logits[i]) : most;
    return most;
}

// exp(x - shift), by powers of two; NaN stays NaN. Bfloat16 logits carry errors of 4e-3, beside
// which 3e-6 do not count.
template <typename T> static inline Vector<Work<T>> shifted_exp(Vector<Work<T>> x, Work<T> shift) {
    using W = Work<T>;
    using E = Exponent<W>;
    if constexpr (std::is_same_v<T, Bf16>) {
        return power_of_two<W>(x * E::log2_e - shift * E::log2_e, E::polynomial_4);
    } else {
        const Vector<W> power = power_of_two<W>((x - shift) * E::log2_e);
        return x == x ? power : x;
    }
}

// The sum of exp(logits - shift); the terms go to `terms` (n) unless it is null.
template <typename T>
static Work<T> sum_of_exponentials(const T *logits, int64_t n, Work<T> shift, Work<T> *terms) {
    using W = Work<T>;
    constexpr int step = lanes<W>;
    Vector<W> total[2] = {};
    int64_t i = 0;
    for (; i + 2 * step <= n; i += 2 * step) {
        for (int k = 0; k < 2; ++k) {
            const Vector<W> term = shifted_exp<T>(load(logits + i + k * step), shift);
            if (terms != nullptr) store(terms + i + k * step, term);
            total[k] += term;
        }
    }
    W rest = 0;
    for (; i < n; i += step) {
        const int64_t width = n - i < step ? n - i : step;
        const Vector<W> term = shifted_exp<T>(load_part(logits + i, width), shift);
        for (int k = 0; k < width; ++k) {
            if (terms != nullptr) terms[i + k] = term[k];
            rest += term[k];
        }
    }
    return sum(total[0] + total[1]) + rest;
}

template <typename T>
static void write_gradient(T *logits, int64_t n, int64_t target, Work<T> scale, const Work<T> *terms) {
    using W = Work<T>;
    constexpr int step = lanes<W>;
    int64_t i = 0;
    for (; i + step <= n; i += step) store(logits + i, load(terms + i) * scale);
    for (; i < n; ++i) narrow(terms[i] * scale, logits[i]);
    narrow(terms[target] * scale - 1, logits[target]);
}

template <typename T>
static double row_loss(T *logits, int64_t n, int64_t target, Work<T> *terms, bool with_gradient) {
    using W = Work<T>;
    const W most = largest_logit(logits, n);
    const W at_target = widen(logits[target]);
    const W total = sum_of_exponentials(logits, n, most, with_gradient ? terms : nullptr);
    if (with_gradient) write_gradient(logits, n, target, 1 / total, terms);
    return std::log(static_cast<double>(total)) + (static_cast<double>(most) - at_target);
}

// Returns 0, or 1 when a target is no class; then nothing is written.
template <typename T>
static int rows_loss(T *logits, const int64_t *targets, double *losses, Work<T> *scratch,
                     int64_t n_rows, int64_t n_classes, int64_t with_gradient, int64_t n_threads) {
    for (int64_t row = 0; row < n_rows; ++row) {
        if (targets[row] < 0 || targets[row] >= n_classes) return 1;
    }
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t row = 0; row < n_rows; ++row) {
#if defined(_OPENMP)
        Work<T> *terms = scratch + omp_get_thread_num() * n_classes;
#else
        Work<T> *terms = scratch;
#endif
        losses[row] = row_loss(logits + row * n_classes, n_classes, targets[row], terms,
                               with_gradient != 0);
    }
    (void)n_threads;
    return 0;
}

#define TINYLLM_CROSS_ENTROPY(NAME, T)                                                           \
    extern "C" int NAME(T *logits, const int64_t *targets, double *losses, Work<T> *scratch,     \
                        int64_t n_rows, int64_t n_classes, int64_t with_gradient,                \
                        int64_t n_threads) {                                                     \
        return rows_loss<T>(logits, targets, losses, scratch, n_rows, n_classes, with_gradient,  \
                            n_threads);                                                          \
    }

TINYLLM_CROSS_ENTROPY(tinyllm_cross_entropy_float32, float)
TINYLLM_CROSS_ENTROPY(tinyllm_cross_entropy_bfloat16, Bf16)
TINYLLM_CROSS_ENTROPY(tinyllm_cross_entropy_float64, double)
