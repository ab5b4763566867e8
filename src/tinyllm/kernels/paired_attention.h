// Blocks of attention in bfloat16 products, two at a time, added up in float.
//
// One word holds two bfloat16 that are multiplied with those of another word and added together:
// two dimensions of a key (scores), two keys (mixing), or two queries (gradients of keys and
// values). Shares and their gradients are rounded to bfloat16 and written over the row of scores
// they come from. Included by attention.cpp alone.

#pragma once

inline void add_products(V &sum, Words a, Words b) {
    sum = same_bits<V>(_mm512_dpbf16_ps(same_bits<__m512>(sum), same_bits<__m512bh>(a),
                                             same_bits<__m512bh>(b)));
}

inline Words load_words(const uint32_t *p) { return from_memory<Words>(p); }
inline Words all_words(uint32_t x) { return Words{} + x; }

inline void store_rounded(uint16_t *p, V x) {
    const auto halves = _mm512_cvtneps_pbh(same_bits<__m512>(x));
    memcpy(p, &halves, sizeof halves);
}

inline const uint32_t *words(const Real *p) { return reinterpret_cast<const uint32_t *>(p); }
inline uint16_t *halves(Real *p) { return reinterpret_cast<uint16_t *>(p); }
inline const uint16_t *halves(const Real *p) { return reinterpret_cast<const uint16_t *>(p); }

struct Rounded {  // a head of one token, padded
    alignas(64) uint16_t x[padded];

    explicit Rounded(const Real *from) {
        for (int d = 0; d < padded; d += vl) store_rounded(x + d, load(from + d));
    }
};

struct Paired {
    // Write shares where the scores of later keys have been read.
    static inline void put_shares(Real *row, int64_t j, V x) { store_rounded(halves(row) + j, x); }

    // Dimensions in pairs: words (E / 2, stride).
    static inline void put(const Real *x, Real *turned, int64_t stride, int64_t t) {
        const Rounded head(x);
        uint16_t *to = halves(turned) + 2 * t;
        for (int d = 0; d < width; ++d) to[d / 2 * stride * 2 + d % 2] = head.x[d];
    }

    // Tokens in pairs: words (T / 2, padded).
    static inline void put_row(const Real *x, Real *in_rows, int64_t t) {
        const Rounded head(x);
        uint16_t *to = halves(in_rows) + t / 2 * padded * 2 + t % 2;
        for (int d = 0; d < width; ++d) to[2 * d] = head.x[d];
    }

    static inline void scores(const Real *turned, int64_t stride, const Real *x, int64_t first,
                              int64_t end, Real *__restrict to) {
        alignas(64) uint16_t rounded[rows * padded];
        for (int i = 0; i < rows * padded; i += vl) store_rounded(rounded + i, load(x + i));
        for (int64_t j = first; j < end; j += tile) {
            V a[rows] = {}, b[rows] = {};
            for (int i = 0; i < width / 2; ++i) {
                const uint32_t *at = words(turned) + i * stride + j;
                const Words left = load_words(at), right = load_words(at + vl);
#pragma GCC unroll 8
                for (int r = 0; r < rows; ++r) {
                    uint32_t pair;
                    memcpy(&pair, rounded + r * padded + 2 * i, sizeof pair);
                    add_products(a[r], all_words(pair), left);
                    add_products(b[r], all_words(pair), right);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                store(to + r * stride + j, a[r]);
                store(to + r * stride + j + vl, b[r]);
            }
        }
    }

    template <int count>
    static inline void mix_columns(const uint32_t *values, const Real *shares, int64_t stride,
                                   int64_t first, int64_t end, Real *__restrict to) {
        V mixed[rows][count] = {};
        for (int64_t i = first / 2; i < end / 2; ++i) {
            Words value[count];
            for (int c = 0; c < count; ++c) value[c] = load_words(values + i * padded + c * vl);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                const Words share = all_words(words(shares)[r * stride + i]);
                for (int c = 0; c < count; ++c) add_products(mixed[r][c], share, value[c]);
            }
        }
        for (int r = 0; r < rows; ++r) {
            for (int c = 0; c < count; ++c) store(to + r * padded + c * vl, mixed[r][c]);
        }
    }

    template <int at>
    static inline void mix_from(const Real *values, const Real *shares, int64_t stride,
                                int64_t first, int64_t end, Real *to) {
        if constexpr (at < n_vectors) {
            constexpr int left = n_vectors - at, count = left == 4 ? 2 : left < 3 ? left : 3;
            mix_columns<count>(words(values) + at * vl, shares, stride, first, end, to + at * vl);
            mix_from<at + count>(values, shares, stride, first, end, to);
        }
    }

    // gradient[d][j] += sum over r of x[r][d] * shares[r][j]
    static inline void add_outer(Real *__restrict gradient, int64_t stride, const Real *x,
                                 const Real *shares, int64_t first, int64_t end) {
        alignas(64) uint16_t queries[rows / 2][2 * padded];
        for (int r = 0; r < rows; ++r) {
            const Rounded head(x + r * padded);
            for (int d = 0; d < padded; ++d) queries[r / 2][2 * d + r % 2] = head.x[d];
        }
        for (int64_t j = first; j < end; j += tile) {
            Words left[rows / 2], right[rows / 2];
#pragma GCC unroll 4
            for (int r = 0; r < rows / 2; ++r) {
                const uint16_t *even = halves(shares + 2 * r * stride) + j;
                const uint16_t *odd = even + 2 * stride;
                for (Words *to : {&left[r], &right[r]}) {
                    const auto low = from_memory<HalfWords>(even);
                    const auto high = from_memory<HalfWords>(odd);
                    *to = __builtin_convertvector(low, Words) |
                          __builtin_convertvector(high, Words) << 16;
                    even += vl, odd += vl;
                }
            }
            for (int d = 0; d < width; ++d) {
                Real *at = gradient + d * stride + j;
                V a = load(at), b = load(at + vl);
#pragma GCC unroll 4
                for (int r = 0; r < rows / 2; ++r) {
                    uint32_t pair;
                    memcpy(&pair, &queries[r][2 * d], sizeof pair);
                    add_products(a, all_words(pair), left[r]);
                    add_products(b, all_words(pair), right[r]);
                }
                store(at, a);
                store(at + vl, b);
            }
        }
    }
};
