// Blocks of attention in products of Real, one at a time. Included by attention.cpp alone.

#pragma once

struct Single {
    static inline void put_shares(Real *row, int64_t j, V x) { store(row + j, x); }

    struct Head {
        Real x[padded];

        Head() = default;
        explicit Head(const Io *from) { widen_head(from, x); }
        static inline Head rounded(const Real *from) {  // to what it is already
            Head head;
            memcpy(head.x, from, sizeof head.x);
            return head;
        }
    };

    static inline void put(const Head &head, Real *turned, int64_t stride, int64_t t) {
        for (int d = 0; d < width; ++d) turned[d * stride + t] = head.x[d];
    }

    static inline void put_mixed(const Head &head, Real *in_rows, int64_t, int64_t t) {
        for (int d = 0; d < width; ++d) in_rows[t * padded + d] = head.x[d];
    }

    struct Queries {
        const Real *x;
        explicit Queries(const Real *from) : x(from) {}
    };

    // A tile of products from key j on: a[r], b[r] = sum over d of x[r][d] * turned[d][j ..]
    static inline void products(const Real *__restrict turned, int64_t stride,
                                const Queries &queries, int64_t j, V (&a)[rows], V (&b)[rows]) {
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) a[r] = b[r] = V{};
        for (int d = 0; d < width; ++d) {
            const Real *at = turned + d * stride + j;
            const V left = load(at), right = load(at + vl);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                const V factor = all(queries.x[r * padded + d]);
                a[r] += factor * left;
                b[r] += factor * right;
            }
        }
    }

    // to[r][d] = sum over j of shares[r][j] * values[j][d], for `count` vectors of dimensions
    template <int count>
    static inline void mix_columns(const Real *__restrict values, const Real *__restrict shares,
                                   int64_t stride, int64_t first, int64_t end,
                                   Real *__restrict to) {
        V mixed[rows][count] = {};
        for (int64_t j = first; j < end; ++j) {
            V value[count];
            for (int c = 0; c < count; ++c) value[c] = load(values + j * padded + c * vl);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                const V share = all(shares[r * stride + j]);
                for (int c = 0; c < count; ++c) mixed[r][c] += share * value[c];
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
            constexpr int left = n_vectors - at, most = rows == 8 ? 3 : 2;
            constexpr int count = left == 4 && most == 3 ? 2 : left < most ? left : most;
            mix_columns<count>(values + at * vl, shares, stride, first, end, to + at * vl);
            mix_columns_from<at + count>(values, shares, stride, first, end, to);
        }
    }

    static inline void mix(const Real *values, const Real *shares, int64_t stride, int64_t first,
                           int64_t end, Real *to) {
        mix_columns_from<0>(values, shares, stride, first, end, to);
    }

    // gradient[d][j] += sum over r of x[r][d] * shares[r][j]
    static inline void add_outer(Real *__restrict gradient, int64_t stride,
                                 const Real *__restrict x, const Real *__restrict shares,
                                 int64_t first, int64_t end) {
        for (int64_t j = first; j < end; j += tile) {
            V left[rows], right[rows];
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                left[r] = load(shares + r * stride + j);
                right[r] = load(shares + r * stride + j + vl);
            }
            for (int d = 0; d < width; ++d) {
                Real *at = gradient + d * stride + j;
                V a = load(at), b = load(at + vl);
#pragma GCC unroll 8
                for (int r = 0; r < rows; ++r) {
                    const V factor = all(x[r * padded + d]);
                    a += factor * left[r];
                    b += factor * right[r];
                }
                store(at, a);
                store(at + vl, b);
            }
        }
    }
};
