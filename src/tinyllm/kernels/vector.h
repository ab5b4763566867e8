// Vectors of float, double and bfloat16: one source for AVX-512, AVX2, NEON and whatever comes.
//
//     Vector<T>               as many T as a register holds: lanes<T>; Floats is Vector<float>
//     load(p) store(p, v)     anywhere in memory, from and to T or, for floats, Bf16
//     load_part store_part    the first n lanes only; the others read as 0
//     all(x)  choose(m, a, b) every lane the same; a where the comparison m holds, b elsewhere
//     smaller(a, b)  larger(a, b)
//     sum(v)  largest(v)      over all lanes
//     sums(v)                 of as many vectors as there are lanes, as one vector
//     vexp(v) vexp2(v)        e^x and 2^x, relative error below 2e-7 (float) and 1e-15 (double)
//
// Everything is written with the vector extensions that g++ and clang++ share. Arithmetic and
// comparisons on vectors are the language's own operators.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int register_bytes = 64;
#elif defined(__AVX2__)
constexpr int register_bytes = 32;
#else
constexpr int register_bytes = 16;
#endif

struct Bf16 {  // the upper half of a float
    uint16_t bits;
};

template <typename T> constexpr int lanes = register_bytes / static_cast<int>(sizeof(T));

template <typename T, int n> struct Pack {
    typedef T type __attribute__((vector_size(sizeof(T) * n)));
};
template <typename T> using Vector = typename Pack<T, lanes<T>>::type;

template <typename T> struct Integer;  // the signed integer that is as wide as T
template <> struct Integer<float> { using type = int32_t; };
template <> struct Integer<double> { using type = int64_t; };
template <typename T> using Integers = Vector<typename Integer<T>::type>;

using Floats = Vector<float>;
using Doubles = Vector<double>;
using Words = Vector<uint32_t>;
using HalfWords = typename Pack<uint16_t, lanes<float>>::type;

template <typename To, typename From> inline To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "only types of one size share their bits");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

// ---- one number ----

inline float widen(Bf16 x) { return same_bits<float>(static_cast<uint32_t>(x.bits) << 16); }
inline float widen(float x) { return x; }
inline double widen(double x) { return x; }

inline void narrow(float x, float &to) { to = x; }
inline void narrow(double x, double &to) { to = x; }
inline void narrow(float x, Bf16 &to) {  // to the nearest, ties to even; NaN stays NaN
    const uint32_t bits = same_bits<uint32_t>(x);
    const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
    to.bits = static_cast<uint16_t>(x != x ? 0x7fc0 : rounded >> 16);
}

// ---- memory ----

template <typename T> inline Vector<T> all(T x) { return x - Vector<T>{}; }

template <typename V> inline V from_memory(const void *p, int64_t bytes = sizeof(V)) {
    V v{};
    memcpy(&v, p, static_cast<size_t>(bytes));
    return v;
}

inline Floats load(const float *p) { return from_memory<Floats>(p); }
inline Doubles load(const double *p) { return from_memory<Doubles>(p); }
#if defined(__AVX512F__)  // a copy to a vector in memory would be read before it is written
inline Floats load_part(const float *p, int64_t n) {
    return same_bits<Floats>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p));
}
#else
inline Floats load_part(const float *p, int64_t n) { return from_memory<Floats>(p, 4 * n); }
#endif
inline Doubles load_part(const double *p, int64_t n) { return from_memory<Doubles>(p, 8 * n); }

inline void store(float *p, Floats v) { memcpy(p, &v, sizeof v); }
inline void store(double *p, Doubles v) { memcpy(p, &v, sizeof v); }

inline Floats widened(HalfWords halves) {
#if defined(__AVX512F__)  // g++ widens in two halves
    const Words words = same_bits<Words>(_mm512_cvtepu16_epi32(same_bits<__m256i>(halves)));
#else
    const Words words = __builtin_convertvector(halves, Words);
#endif
    return same_bits<Floats>(words << 16);
}

inline Floats load(const Bf16 *p) { return widened(from_memory<HalfWords>(p)); }
inline Floats load_part(const Bf16 *p, int64_t n) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    const auto counts = static_cast<__mmask16>((1u << n) - 1);
    return widened(same_bits<HalfWords>(_mm256_maskz_loadu_epi16(counts, p)));
#else
    return widened(from_memory<HalfWords>(p, 2 * n));
#endif
}

#if defined(__AVX512BF16__)
inline void store(Bf16 *p, Floats v) {  // the same, but for denormals, which become 0
    const __m256bh halves = _mm512_cvtneps_pbh(same_bits<__m512>(v));
    memcpy(p, &halves, sizeof halves);
}
#else
inline void store(Bf16 *p, Floats v) {
    const Words bits = same_bits<Words>(v);
    const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const Words words = v == v ? rounded : Words{} + 0x7fc0;
    const HalfWords halves = __builtin_convertvector(words, HalfWords);
    memcpy(p, &halves, sizeof halves);
}
#endif

template <typename T, typename V> inline void store_part(T *p, V v, int64_t n) {
    T whole[sizeof(V) / sizeof(v[0])];
    store(whole, v);
    memcpy(p, whole, sizeof(T) * static_cast<size_t>(n));
}

// ---- lanes ----

template <typename M, typename V> inline V choose(M condition, V a, V b) {
    return condition ? a : b;
}

// Lane by lane; b where a is NaN.
template <typename V> inline V smaller(V a, V b) { return a < b ? a : b; }
template <typename V> inline V larger(V a, V b) { return a > b ? a : b; }
#if defined(__AVX512F__)
template <> inline Floats smaller<Floats>(Floats a, Floats b) {
    return same_bits<Floats>(_mm512_min_ps(same_bits<__m512>(a), same_bits<__m512>(b)));
}
template <> inline Floats larger<Floats>(Floats a, Floats b) {
    return same_bits<Floats>(_mm512_max_ps(same_bits<__m512>(a), same_bits<__m512>(b)));
}
#endif

template <typename T> inline Integers<T> lane_numbers() {
    Integers<T> numbers;
    for (int i = 0; i < lanes<T>; ++i) numbers[i] = i;
    return numbers;
}

template <typename T, int n> inline T sum_of(typename Pack<T, n>::type v) {
    if constexpr (n == 2) {
        return v[0] + v[1];
    } else {
        typename Pack<T, n / 2>::type halves[2];
        memcpy(halves, &v, sizeof v);
        return sum_of<T, n / 2>(halves[0] + halves[1]);
    }
}

template <typename T, int n> inline T largest_of(typename Pack<T, n>::type v) {
    if constexpr (n == 2) {
        return v[0] > v[1] ? v[0] : v[1];
    } else {
        typename Pack<T, n / 2>::type halves[2];
        memcpy(halves, &v, sizeof v);
        return largest_of<T, n / 2>(halves[0] > halves[1] ? halves[0] : halves[1]);
    }
}

inline float sum(Floats v) { return sum_of<float, lanes<float>>(v); }
inline double sum(Doubles v) { return sum_of<double, lanes<double>>(v); }
inline float largest(Floats v) { return largest_of<float, lanes<float>>(v); }
inline double largest(Doubles v) { return largest_of<double, lanes<double>>(v); }

// The sums of as many vectors as there are lanes, in their order: sums[i] = sum(v[i]).
// Halves of two vectors are added into one until each lane holds one vector's sum.
template <typename V, int group> inline V sum_halves(V a, V b) {
    constexpr int n = sizeof(V) / sizeof(a[0]);
    using Index = typename Pack<typename Integer<std::decay_t<decltype(a[0])>>::type, n>::type;
    Index near{}, far{};
    for (int i = 0; i < n; ++i) {
        near[i] = i / group * 2 * group + i % group;  // from n on, a lane of b
        far[i] = near[i] + group;
    }
#if defined(__clang__)
    V both[2] = {a, b}, x, y;
    const auto *flat = reinterpret_cast<const std::decay_t<decltype(a[0])> *>(both);
    for (int i = 0; i < n; ++i) x[i] = flat[near[i]], y[i] = flat[far[i]];
    return x + y;
#else
    return __builtin_shuffle(a, b, near) + __builtin_shuffle(a, b, far);
#endif
}

template <typename V, int count> inline V sums_of(const V *v) {
    if constexpr (count == 1) {
        return v[0];
    } else {
        constexpr int group = sizeof(V) / sizeof(v[0][0]) / count;
        return sum_halves<V, group>(sums_of<V, count / 2>(v), sums_of<V, count / 2>(v + count / 2));
    }
}

inline Floats sums(const Floats *v) { return sums_of<Floats, lanes<float>>(v); }
inline Doubles sums(const Doubles *v) { return sums_of<Doubles, lanes<double>>(v); }

// ---- exponentials: 2^x = 2^round(x) * 2^f, |f| <= 1/2, the latter by a polynomial ----

template <typename T> struct Exponent;
template <> struct Exponent<float> {
    static constexpr int bits = 23;
    static constexpr float low = -127.0f, high = 127.999f;
    static constexpr float rounder = 12582912.0f;  // 1.5 * 2^23: adding it leaves a whole number
    static constexpr float log2_e = 1.44269504f;
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    // Relative error 2e-9, by weighted least squares iterated towards the minimax.
    static constexpr float polynomial[] = {0.000153533612f, 0.00133988747f, 0.00961843736f,
                                           0.0555033247f,   0.240226479f,   0.693147203f, 1.0f};
    // For what is rounded to bfloat16 later: relative errors 3e-6 and 1e-4. All end in 1, so that
    // 2^low is 0.
    static constexpr float polynomial_4[] = {0.0095828604f, 0.0559064448f, 0.240240991f,
                                             0.693124175f, 1.0f};
    static constexpr float polynomial_3[] = {0.0550086051f, 0.242211014f, 0.693282962f, 1.0f};
};
template <> struct Exponent<double> {
    static constexpr int bits = 52;
    static constexpr double low = -1023.0, high = 1023.999;
    static constexpr double rounder = 6755399441055744.0;
    static constexpr double log2_e = 1.4426950408889634;
    static constexpr double ln2_high = 0.69314718036912382, ln2_low = 1.9082149292705877e-10;
    // The Taylor series: ln(2)^k / k!.
    static constexpr double polynomial[] = {
        1.3691488853904128e-12, 2.5678435993488202e-11, 4.4455382718708116e-10,
        7.0549116208011233e-09, 1.0178086009239699e-07, 1.3215486790144310e-06,
        1.5252733804059841e-05, 1.5403530393381610e-04, 1.3333558146428443e-03,
        9.6181291076284772e-03, 5.5504108664821580e-02, 2.4022650695910072e-01,
        6.9314718055994531e-01, 1.0};
};

template <typename T, unsigned n>
inline Vector<T> evaluate(const T (&polynomial)[n], Vector<T> x) {
    Vector<T> value = all<T>(polynomial[0]);
    for (unsigned i = 1; i < n; ++i) value = value * x + polynomial[i];
    return value;
}

// 2^(whole + fraction) from `whole` + rounder and a fraction of at most 1/2 either way.
template <typename T, unsigned n>
inline Vector<T> scaled_power(Vector<T> shifted, Vector<T> fraction, const T (&polynomial)[n]) {
    using E = Exponent<T>;
    const Vector<T> power = evaluate(polynomial, fraction);
    const Integers<T> whole =
        same_bits<Integers<T>>(shifted) - same_bits<Integers<T>>(all<T>(E::rounder));
    return same_bits<Vector<T>>(same_bits<Integers<T>>(power) + (whole << E::bits));
}

// 2^x for x of at most 127 (1023). At and below -127 (-1023) exactly 0, a little above it denormal
// and rough; NaN stays NaN. The polynomial says how exact it is.
template <typename T, unsigned n>
inline Vector<T> power_of_two(Vector<T> x, const T (&polynomial)[n]) {
    using E = Exponent<T>;
#if defined(__AVX512F__)
    // one instruction rounds, and one multiplies by a power of two
    if constexpr (std::is_same_v<T, float>) {
        const __m512 in = same_bits<__m512>(x);
        const __m512 whole = _mm512_roundscale_ps(in, _MM_FROUND_TO_NEAREST_INT);
        const Floats power = evaluate(polynomial, x - same_bits<Floats>(whole));
        const __mmask16 counts = _mm512_cmp_ps_mask(in, _mm512_set1_ps(E::low), _CMP_NLE_UQ);
        return same_bits<Floats>(_mm512_maskz_scalef_ps(counts, same_bits<__m512>(power), whole));
    }
#endif
    x = x < E::low ? all<T>(E::low) : x;
    const Vector<T> shifted = x + E::rounder;
    return scaled_power<T>(shifted, x - (shifted - E::rounder), polynomial);
}

template <typename T> inline Vector<T> power_of_two(Vector<T> x) {
    return power_of_two<T>(x, Exponent<T>::polynomial);
}

template <typename T> inline Vector<T> any_power_of_two(Vector<T> x) {
    using E = Exponent<T>;
    const Vector<T> power = power_of_two<T>(x < E::high ? x : all<T>(E::high));
    const Vector<T> above = x < E::high ? power : all<T>(static_cast<T>(__builtin_inf()));
    const Vector<T> both = x < E::low ? Vector<T>{} : above;
    return x == x ? both : x;
}

// e^x for x of at most 0; the same bits as vexp's, but 0 of NaN.
inline Floats vexp_of_negative(Floats x) {
    using E = Exponent<float>;
    const Floats low = all(E::low / E::log2_e), inside = larger(x, low);
    const Floats shifted = inside * E::log2_e + E::rounder, whole = shifted - E::rounder;
    const Floats rest = (inside - whole * E::ln2_high) - whole * E::ln2_low;
    const Floats power = scaled_power<float>(shifted, rest * E::log2_e, E::polynomial);
    return x >= low ? power : Floats{};
}

template <typename T> inline Vector<T> any_power_of_e(Vector<T> x) {
    using E = Exponent<T>;
    constexpr T low = E::low / E::log2_e, high = E::high / E::log2_e;
    Vector<T> inside = x > low ? x : all<T>(low);
    inside = inside < high ? inside : all<T>(high);
    const Vector<T> shifted = inside * E::log2_e + E::rounder, whole = shifted - E::rounder;
    const Vector<T> rest = (inside - whole * E::ln2_high) - whole * E::ln2_low;
    const Vector<T> power = scaled_power<T>(shifted, rest * E::log2_e, E::polynomial);
    const Vector<T> above = x < high ? power : all<T>(static_cast<T>(__builtin_inf()));
    const Vector<T> both = x < low ? Vector<T>{} : above;
    return x == x ? both : x;
}

inline Floats vexp2(Floats x) { return any_power_of_two<float>(x); }
inline Doubles vexp2(Doubles x) { return any_power_of_two<double>(x); }
inline Floats vexp(Floats x) { return any_power_of_e<float>(x); }
inline Doubles vexp(Doubles x) { return any_power_of_e<double>(x); }
