// Blocks of attention in bfloat16 products, two at a time, added up in float.
//
// One word holds two bfloat16 that are multiplied with those of another word and added together:
// two dimensions of a key (scores), two keys (mixing), or two queries (gradients of keys and
// values). Shares and their gradients are kept in bfloat16. Included by attention.cpp alone.

#pragma once

inline void add_products(V &sum, Words a, Words b) {
    sum = same_bits<V>(_mm512_dpbf16_ps(same_bits<__m512>(sum), same_bits<__m512bh>(a),
                                             same_bits<__m512bh>(b)));
}

inline Words load_words(const uint32_t *p) { return from_memory<Words>(p); }
inline Words widened_words(const uint16_t *p) {
    return same_bits<Words>(_mm512_cvtepu16_epi32(from_memory<__m256i>(p)));
}
inline Words all_words(uint32_t x) { return Words{} + x; }

inline void store_rounded(uint16_t *p, V x) {
    const auto halves = _mm512_cvtneps_pbh(same_bits<__m512>(x));
    memcpy(p, &halves, sizeof halves);
}

inline const uint32_t *words(const Real *p) { return reinterpret_cast<const uint32_t *>(p); }
inline uint16_t *halves(Real *p) { return reinterpret_cast<uint16_t *>(p); }
inline const uint16_t *halves(const Real *p) { return reinterpret_cast<const uint16_t *>(p); }

struct InTurn {  // the places of two vectors of halves, one from each in turn
    alignas(64) uint16_t x[2 * tile];

    constexpr InTurn() : x{} {
        for (int i = 0; i < 2 * tile; ++i) x[i] = static_cast<uint16_t>(i / 2 + i % 2 * tile);
    }
};
constexpr InTurn in_turn;

struct Paired {
    static inline void put_shares(Real *row, int64_t j, V x) { store_rounded(halves(row) + j, x); }

    struct Head {  // of one token
        alignas(64) uint16_t x[padded];

        Head() = default;
        explicit Head(const Io *from) : x{} { memcpy(x, from, width * sizeof *x); }
        static inline Head rounded(const Real *from) {
            Head head;
            for (int d = 0; d < padded; d += vl) store_rounded(head.x + d, load(from + d));
            return head;
        }
    };

    // Dimensions in pairs: words (E / 2, stride).
    static inline void put(const Head &head, Real *turned, int64_t stride, int64_t t) {
        for (int i = 0; i < width / 2; ++i) memcpy(turned + i * stride + t, head.x + 2 * i, 4);
    }

    // What is mixed: tokens in pairs, words (T / 2, padded), or, where a head does not fill a
    // vector, halves (E, 2 stride).
    static inline void put_mixed(const Head &head, Real *to, int64_t stride, int64_t t) {
        if constexpr (is_narrow) {
            for (int d = 0; d < width; ++d) halves(to + d * stride)[t] = head.x[d];
        } else {
            for (int d = 0; d < padded; d += vl) {
                Real *at = to + t / 2 * padded + d;
                const Words x = widened_words(head.x + d);
                const Words both = t % 2 ? load_words(words(at)) | x << 16 : x;
                memcpy(at, &both, sizeof both);
            }
        }
    }

    struct Queries {
        alignas(64) uint16_t x[rows * padded];

        explicit Queries(const Real *from) {
            for (int i = 0; i < rows * padded; i += vl) store_rounded(x + i, load(from + i));
        }
    };

    static inline void products(const Real *turned, int64_t stride, const Queries &queries,
                                int64_t j, V (&a)[rows], V (&b)[rows]) {
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) a[r] = b[r] = V{};
        for (int i = 0; i < width / 2; ++i) {
            const uint32_t *at = words(turned) + i * stride + j;
            const Words left = load_words(at), right = load_words(at + vl);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                uint32_t pair;
                memcpy(&pair, queries.x + r * padded + 2 * i, sizeof pair);
                add_products(a[r], all_words(pair), left);
                add_products(b[r], all_words(pair), right);
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
    static inline void mix_columns_from(const Real *values, const Real *shares, int64_t stride,
                                        int64_t first, int64_t end, Real *to) {
        if constexpr (at < n_vectors) {
            constexpr int left = n_vectors - at, count = left == 4 ? 2 : left < 3 ? left : 3;
            mix_columns<count>(words(values) + at * vl, shares, stride, first, end, to + at * vl);
            mix_columns_from<at + count>(values, shares, stride, first, end, to);
        }
    }

    // Two keys to a lane, for as many queries as have all their sums in one transposition.
    static inline void mix_lanes(const Real *values, const Real *shares, int64_t stride,
                                 int64_t first, int64_t end, Real *__restrict to) {
        V mixed[vl] = {};
        for (int64_t j = first; j < end; j += tile) {
            Words value[width];
            for (int d = 0; d < width; ++d) {
                value[d] = load_words(words(values + d * stride) + j / 2);
            }
#pragma GCC unroll 8
            for (int r = 0; r < together; ++r) {
                const Words share = load_words(words(shares + r * stride) + j / 2);
#pragma GCC unroll 16
                for (int d = 0; d < width; ++d) {
                    add_products(mixed[(r * width + d) % vl], share, value[d]);
                }
            }
        }
        const V summed = sums(mixed);
        for (int r = 0; r < together; ++r) {
            V row{};
            for (int d = 0; d < width; ++d) row[d % vl] = summed[(r * width + d) % vl];
            store(to + r * padded, row);
        }
    }

    static inline void mix(const Real *values, const Real *shares, int64_t stride, int64_t first,
                           int64_t end, Real *to) {
        if constexpr (is_narrow) {
            for (int r = 0; r < rows; r += together) {
                mix_lanes(values, shares + r * stride, stride, first, end, to + r * padded);
            }
        } else {
            mix_columns_from<0>(values, shares, stride, first, end, to);
        }
    }

    // gradient[d][j] += sum over r of x[r][d] * shares[r][j]
    static inline void add_outer(Real *__restrict gradient, int64_t stride, const Real *x,
                                 const Real *shares, int64_t first, int64_t end) {
        alignas(64) uint32_t queries[rows / 2][padded];
        for (int r = 0; r < rows; r += 2) {
            const Head even = Head::rounded(x + r * padded);
            const Head odd = Head::rounded(x + (r + 1) * padded);
            for (int d = 0; d < padded; d += vl) {
                const Words both = widened_words(even.x + d) | widened_words(odd.x + d) << 16;
                memcpy(queries[r / 2] + d, &both, sizeof both);
            }
        }
        const auto low = from_memory<__m512i>(in_turn.x);
        const auto high = from_memory<__m512i>(in_turn.x + tile);
        for (int64_t j = first; j < end; j += tile) {
            Words left[rows / 2], right[rows / 2];
#pragma GCC unroll 4
            for (int r = 0; r < rows / 2; ++r) {
                const Real *at = shares + 2 * r * stride;
                const auto even = from_memory<__m512i>(halves(at) + j);
                const auto odd = from_memory<__m512i>(halves(at + stride) + j);
                left[r] = same_bits<Words>(_mm512_permutex2var_epi16(even, low, odd));
                right[r] = same_bits<Words>(_mm512_permutex2var_epi16(even, high, odd));
            }
            for (int d = 0; d < width; ++d) {
                Real *at = gradient + d * stride + j;
                V a = load(at), b = load(at + vl);
#pragma GCC unroll 4
                for (int r = 0; r < rows / 2; ++r) {
                    add_products(a, all_words(queries[r][d]), left[r]);
                    add_products(b, all_words(queries[r][d]), right[r]);
                }
                store(at, a);
                store(at + vl, b);
            }
        }
    }
};
