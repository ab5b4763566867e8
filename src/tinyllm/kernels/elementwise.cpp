// What stands between the matrix products of a layer: residual sum and norm, GELU, SwiGLU, forward
// and backward, each in one pass over memory.
//
//     add_norm   stream = x + delta;  normed = scale(stream) * weight + bias       rows of D
//     gelu       y = gelu(x + bias), its tanh form                                 rows of F
//     swiglu     y = silu(gate) * up                                               any n
//
// The residual stream is of type X, products and what they read of type Y: float32 and bfloat16
// under mixed precision, else one type. Gradients of weights and biases are summed by thread into
// `partial` (threads, D) and added up by the caller.

#include <cmath>
#include <type_traits>

#include "vector.h"

#if defined(_OPENMP)
#include <omp.h>
static inline int64_t thread_number() { return omp_get_thread_num(); }
#else
static inline int64_t thread_number() { return 0; }
#endif

template <typename T> struct Working { using type = float; };
template <> struct Working<double> { using type = double; };
template <typename T> using Work = typename Working<T>::type;

// Calls f(i, width) for every vector of n numbers; the last may be narrower.
template <typename W, typename F> static inline void by_vectors(int64_t n, F f) {
    constexpr int step = lanes<W>;
    int64_t i = 0;
    for (; i + step <= n; i += step) f(i, std::integral_constant<int, 0>{});
    if (i < n) f(i, static_cast<int>(n - i));
}

// Whole vectors are told apart from the last part by the type of `width`.
using Whole = std::integral_constant<int, 0>;
template <typename T> static inline auto get(const T *p, Whole) { return load(p); }
template <typename T> static inline auto get(const T *p, int width) { return load_part(p, width); }
template <typename T, typename V> static inline void put(T *p, V v, Whole) { store(p, v); }
template <typename T, typename V> static inline void put(T *p, V v, int width) {
    store_part(p, v, width);
}
// Lanes behind the last number count as zero.
template <typename W> static inline Vector<W> kept(Vector<W> v, Whole) { return v; }
template <typename W> static inline Vector<W> kept(Vector<W> v, int width) {
    for (int k = width; k < lanes<W>; ++k) v[k] = 0;
    return v;
}

// ---- residual sum and norm ----

template <typename X, typename Y>
static void add_norm_row(const X *x, const Y *delta, const Work<X> *weight, const Work<X> *bias,
                         X *stream, Y *normed, Work<X> *mean_out, Work<X> *scale_out, int64_t n,
                         Work<X> eps) {
    using W = Work<X>;
    Vector<W> total = {}, squares = {};
    if (delta != nullptr) {
        by_vectors<W>(n, [&](int64_t i, auto width) {
            put(stream + i, get(x + i, width) + get(delta + i, width), width);
        });
        x = stream;
    }
    W mean = 0;
    if (bias != nullptr) {
        by_vectors<W>(n, [&](int64_t i, auto width) { total += get(x + i, width); });
        mean = sum(total) / static_cast<W>(n);
    }
    by_vectors<W>(n, [&](int64_t i, auto width) {
        const Vector<W> centred = kept<W>(get(x + i, width) - mean, width);
        squares += centred * centred;
    });
    const W scale = 1 / std::sqrt(sum(squares) / static_cast<W>(n) + eps);
    by_vectors<W>(n, [&](int64_t i, auto width) {
        Vector<W> y = (get(x + i, width) - mean) * scale * get(weight + i, width);
        if (bias != nullptr) y += get(bias + i, width);
        put(normed + i, y, width);
    });
    *mean_out = mean;
    *scale_out = scale;
}

template <typename X, typename Y>
static void add_norm_row_backward(const Y *d_normed, const X *d_stream, const X *stream,
                                  const Work<X> *weight, Work<X> mean, Work<X> scale, X *d_x,
                                  Y *d_delta, Work<X> *d_weight, Work<X> *d_bias, int64_t n) {
    using W = Work<X>;
    Vector<W> sum_g = {}, sum_gx = {};
    by_vectors<W>(n, [&](int64_t i, auto width) {
        const Vector<W> d = get(d_normed + i, width);
        const Vector<W> centred = (get(stream + i, width) - mean) * scale;
        const Vector<W> g = d * get(weight + i, width);
        put(d_weight + i, get(d_weight + i, width) + d * centred, width);
        if (d_bias != nullptr) put(d_bias + i, get(d_bias + i, width) + d, width);
        sum_g += g;
        sum_gx += g * centred;
    });
    const W mean_g = d_bias != nullptr ? sum(sum_g) / static_cast<W>(n) : 0;
    const W mean_gx = sum(sum_gx) / static_cast<W>(n);
    by_vectors<W>(n, [&](int64_t i, auto width) {
        const Vector<W> centred = (get(stream + i, width) - mean) * scale;
        const Vector<W> g = get(d_normed + i, width) * get(weight + i, width);
        Vector<W> d = (g - mean_g - centred * mean_gx) * scale;
        if (d_stream != nullptr) d += get(d_stream + i, width);
        put(d_x + i, d, width);
        if (d_delta != nullptr) put(d_delta + i, d, width);
    });
}

// A bias makes it a layer norm, none an RMS norm. Without delta, stream is not written.
template <typename X, typename Y>
static void add_norm(const X *x, const Y *delta, const Work<X> *weight, const Work<X> *bias,
                     X *stream, Y *normed, Work<X> *means, Work<X> *scales, int64_t n_rows,
                     int64_t n, double eps, int64_t n_threads) {
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t row = 0; row < n_rows; ++row) {
        const int64_t at = row * n;
        add_norm_row<X, Y>(x + at, delta == nullptr ? nullptr : delta + at, weight, bias,
                           stream == nullptr ? nullptr : stream + at, normed + at, means + row,
                           scales + row, n, static_cast<Work<X>>(eps));
    }
    (void)n_threads;
}

// d_stream, d_delta and d_bias may be null; d_weight and d_bias are (threads, n), zero at first.
template <typename X, typename Y>
static void add_norm_backward(const Y *d_normed, const X *d_stream, const X *stream,
                              const Work<X> *weight, const Work<X> *means, const Work<X> *scales,
                              X *d_x, Y *d_delta, Work<X> *d_weight, Work<X> *d_bias,
                              int64_t n_rows, int64_t n, int64_t n_threads) {
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t row = 0; row < n_rows; ++row) {
        const int64_t at = row * n, mine = thread_number() * n;
        add_norm_row_backward<X, Y>(
            d_normed + at, d_stream == nullptr ? nullptr : d_stream + at, stream + at, weight,
            means[row], scales[row], d_x + at, d_delta == nullptr ? nullptr : d_delta + at,
            d_weight + mine, d_bias == nullptr ? nullptr : d_bias + mine, n);
    }
    (void)n_threads;
}

// ---- GELU: x * sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), which is its tanh form ----

template <typename W> struct Sigmoid {
    Vector<W> value, rest;  // rest = 1 - value, exact even where value is nearly 1
};

// 1 / (1 + 2^minus). A T is what comes of it is rounded to: bfloat16 lets two errors of 1e-4 pass.
template <typename T> static inline Sigmoid<Work<T>> sigmoid_of_power(Vector<Work<T>> minus) {
    using W = Work<T>;
    minus = smaller(minus, all<W>(115));  // NaN too; the product with x is NaN again
    if constexpr (std::is_same_v<T, Bf16>) {
        const Floats power = power_of_two<float>(minus, Exponent<float>::polynomial_3);
#if defined(__AVX512F__)
        const Floats value = same_bits<Floats>(_mm512_rcp14_ps(same_bits<__m512>(1 + power)));
#else
        const Floats value = 1 / (1 + power);
#endif
        return {value, power * value};
    } else {
        const Vector<W> power = power_of_two<W>(minus), value = 1 / (1 + power);
        return {value, power * value};
    }
}

template <typename T> static inline Sigmoid<Work<T>> sigmoid(Vector<Work<T>> z) {
    return sigmoid_of_power<T>(z * -Exponent<Work<T>>::log2_e);
}

constexpr double gelu_slope = 1.5957691216057308, gelu_cube = 0.044715;

// The sigmoid that GELU multiplies x with.
template <typename T> static inline Sigmoid<Work<T>> gelu_share(Vector<Work<T>> x) {
    using W = Work<T>;
    constexpr W slope = static_cast<W>(-gelu_slope * Exponent<double>::log2_e);
    return sigmoid_of_power<T>(x * (slope + static_cast<W>(slope * gelu_cube) * (x * x)));
}

template <typename T>
static void gelu(const T *x, const Work<T> *bias, T *y, int64_t n_rows, int64_t n,
                 int64_t n_threads) {
    using W = Work<T>;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t row = 0; row < n_rows; ++row) {
        const int64_t at = row * n;
        by_vectors<W>(n, [&](int64_t i, auto width) {
            const Vector<W> v = get(x + at + i, width) + get(bias + i, width);
            put(y + at + i, v * gelu_share<T>(v).value, width);
        });
    }
    (void)n_threads;
}

// d_bias is (threads, n), zero at first.
template <typename T>
static void gelu_backward(const T *d_y, const T *x, const Work<T> *bias, T *d_x, Work<T> *d_bias,
                          int64_t n_rows, int64_t n, int64_t n_threads) {
    using W = Work<T>;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t row = 0; row < n_rows; ++row) {
        const int64_t at = row * n;
        W *mine = d_bias + thread_number() * n;
        by_vectors<W>(n, [&](int64_t i, auto width) {
            const Vector<W> v = get(x + at + i, width) + get(bias + i, width);
            const auto [s, rest] = gelu_share<T>(v);
            const Vector<W> slope = static_cast<W>(gelu_slope) +
                                    static_cast<W>(3 * gelu_slope * gelu_cube) * (v * v);
            const Vector<W> d = get(d_y + at + i, width) * (s + v * s * rest * slope);
            put(d_x + at + i, d, width);
            put(mine + i, get(mine + i, width) + d, width);
        });
    }
    (void)n_threads;
}

// ---- SwiGLU ----

constexpr int64_t block = 4096;

template <typename T>
static void swiglu(const T *gate, const T *up, T *y, int64_t n, int64_t n_threads) {
    using W = Work<T>;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t first = 0; first < n; first += block) {
        by_vectors<W>(n - first < block ? n - first : block, [&](int64_t i, auto width) {
            const Vector<W> g = get(gate + first + i, width);
            put(y + first + i, g * sigmoid<T>(g).value * get(up + first + i, width), width);
        });
    }
    (void)n_threads;
}

template <typename T>
static void swiglu_backward(const T *d_y, const T *gate, const T *up, T *d_gate, T *d_up,
                            int64_t n, int64_t n_threads) {
    using W = Work<T>;
#pragma omp parallel for num_threads(n_threads) schedule(static)
    for (int64_t first = 0; first < n; first += block) {
        by_vectors<W>(n - first < block ? n - first : block, [&](int64_t i, auto width) {
            const Vector<W> g = get(gate + first + i, width);
            const auto [s, rest] = sigmoid<T>(g);
            const Vector<W> d = get(d_y + first + i, width);
            put(d_up + first + i, d * g * s, width);
            put(d_gate + first + i, d * get(up + first + i, width) * s * (1 + g * rest), width);
        });
    }
    (void)n_threads;
}

// ---- the C interface: one function for each combination of types ----

#define TINYLLM_ADD_NORM(SUFFIX, X, Y)                                                            \
    extern "C" void tinyllm_add_norm_##SUFFIX(                                                    \
        const X *x, const Y *delta, const Work<X> *weight, const Work<X> *bias, X *stream,        \
        Y *normed, Work<X> *means, Work<X> *scales, int64_t n_rows, int64_t n, double eps,        \
        int64_t n_threads) {                                                                      \
        add_norm<X, Y>(x, delta, weight, bias, stream, normed, means, scales, n_rows, n, eps,     \
                       n_threads);                                                                \
    }                                                                                             \
    extern "C" void tinyllm_add_norm_backward_##SUFFIX(                                           \
        const Y *d_normed, const X *d_stream, const X *stream, const Work<X> *weight,             \
        const Work<X> *means, const Work<X> *scales, X *d_x, Y *d_delta, Work<X> *d_weight,       \
        Work<X> *d_bias, int64_t n_rows, int64_t n, int64_t n_threads) {                          \
        add_norm_backward<X, Y>(d_normed, d_stream, stream, weight, means, scales, d_x, d_delta,  \
                                d_weight, d_bias, n_rows, n, n_threads);                          \
    }

#define TINYLLM_ACTIVATIONS(SUFFIX, T)                                                            \
    extern "C" void tinyllm_gelu_##SUFFIX(const T *x, const Work<T> *bias, T *y, int64_t n_rows,  \
                                          int64_t n, int64_t n_threads) {                         \
        gelu<T>(x, bias, y, n_rows, n, n_threads);                                                \
    }                                                                                             \
    extern "C" void tinyllm_gelu_backward_##SUFFIX(                                               \
        const T *d_y, const T *x, const Work<T> *bias, T *d_x, Work<T> *d_bias, int64_t n_rows,   \
        int64_t n, int64_t n_threads) {                                                           \
        gelu_backward<T>(d_y, x, bias, d_x, d_bias, n_rows, n, n_threads);                        \
    }                                                                                             \
    extern "C" void tinyllm_swiglu_##SUFFIX(const T *gate, const T *up, T *y, int64_t n,          \
                                            int64_t n_threads) {                                  \
        swiglu<T>(gate, up, y, n, n_threads);                                                     \
    }                                                                                             \
    extern "C" void tinyllm_swiglu_backward_##SUFFIX(const T *d_y, const T *gate, const T *up,    \
                                                     T *d_gate, T *d_up, int64_t n,               \
                                                     int64_t n_threads) {                         \
        swiglu_backward<T>(d_y, gate, up, d_gate, d_up, n, n_threads);                            \
    }

TINYLLM_ADD_NORM(float32_float32, float, float)
TINYLLM_ADD_NORM(float32_bfloat16, float, Bf16)
TINYLLM_ADD_NORM(bfloat16_bfloat16, Bf16, Bf16)
TINYLLM_ADD_NORM(float64_float64, double, double)
TINYLLM_ACTIVATIONS(float32, float)
TINYLLM_ACTIVATIONS(bfloat16, Bf16)
TINYLLM_ACTIVATIONS(float64, double)
