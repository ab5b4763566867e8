// Attention of new tokens to the keys and values in a cache, one key/value head at a time.
//
// A cache holds, per row, layer and key/value head, blocks of lanes<float> positions:
//
//     keys   [block][E][position of the block]      values [block][E][position of the block]
//
// so that scores of a block need E multiplications and no sum across lanes, whatever E is. Lanes
// behind a row's length hold zeros or what a truncated row left there: scores mask them, and values
// that are not numbers are kept out too, so that a token knows nothing of those behind it.

#pragma once

#include <cmath>
#include <cstdint>

#include "vector.h"

constexpr int most_queries = 4;

struct HeadCache {  // of one row, layer and head
    float *keys, *values;
    int64_t head_dim;

    int64_t place(int64_t position, int64_t dimension) const {
        const int64_t block = position / lanes<float>;
        return (block * head_dim + dimension) * lanes<float> + position % lanes<float>;
    }
};

// n queries of one head, E floats each, `stride` apart, at consecutive positions from `position`.
struct Queries {
    const float *values;
    int64_t stride, position, window;
    float *out;  // E floats each, out_stride apart
    int64_t out_stride;
    float scale;

    int64_t first_visible(int64_t query) const {
        const int64_t first = position + query + 1 - window;
        return first > 0 ? first : 0;
    }
};

// Scores of n queries against blocks from..to, `together` blocks at once.
template <int n, int together>
int64_t score_blocks(const Queries &queries, const HeadCache &cache, int64_t from, int64_t to,
                     float *scores, int64_t scores_stride) {
    const int64_t width = cache.head_dim;
    for (; from + together <= to; from += together) {
        Floats sums[n][together] = {};
        const float *keys = cache.keys + from * width * lanes<float>;
        for (int64_t e = 0; e < width; ++e) {
            Floats key[together];
            for (int b = 0; b < together; ++b) key[b] = load(keys + (b * width + e) * lanes<float>);
            for (int q = 0; q < n; ++q) {
                const Floats query = all(queries.values[q * queries.stride + e]);
                for (int b = 0; b < together; ++b) sums[q][b] += query * key[b];
            }
        }
        for (int q = 0; q < n; ++q) {
            for (int b = 0; b < together; ++b) {
                store(scores + q * scores_stride + (from + b) * lanes<float>,
                      sums[q][b] * (queries.scale * Exponent<float>::log2_e));
            }
        }
    }
    return from;
}

inline void hide(float *scores, int64_t block, int64_t first, int64_t last) {
    for (int64_t lane = 0; lane < lanes<float>; ++lane) {
        const int64_t position = block * lanes<float> + lane;
        if (position < first || position > last) scores[position] = -INFINITY;
    }
}

// Turns scores of blocks from..to, in powers of two, into 2^(score - largest); returns their sum.
// A hidden score becomes about 1e-38 and not 0, which no sum can tell.
inline float exponentiate(float *scores, int64_t from, int64_t to) {
    Floats most = all(-INFINITY);
    for (int64_t i = from * lanes<float>; i < to * lanes<float>; i += lanes<float>) {
        const Floats score = load(scores + i);
        most = most > score ? most : score;
    }
    const Floats peak = all(largest(most));
    Floats total{};
    for (int64_t i = from * lanes<float>; i < to * lanes<float>; i += lanes<float>) {
        const Floats share = power_of_two<float>(load(scores + i) - peak);
        store(scores + i, share);
        total += share;
    }
    return sum(total);
}

// What a share adds to a sum; nothing where the value is hidden, for 0 times NaN would be NaN.
template <bool may_hide> inline Floats mixed(Floats share, Floats value) {
    if constexpr (may_hide) return share * choose(share > 2e-38f, value, Floats{});
    return share * value;
}

// Mixes `together` dimensions of the values of blocks from..to, e and on, for n queries.
template <bool may_hide, int n, int together>
inline void mix_blocks(const HeadCache &cache, int64_t e, int64_t from, int64_t to,
                       const float *shares, int64_t shares_stride, Floats (&sums)[n][together]) {
    for (int64_t block = from; block < to; ++block) {
        const float *values = cache.values + (block * cache.head_dim + e) * lanes<float>;
        Floats value[together];
        for (int d = 0; d < together; ++d) value[d] = load(values + d * lanes<float>);
        for (int q = 0; q < n; ++q) {
            const Floats share = load(shares + q * shares_stride + block * lanes<float>);
            for (int d = 0; d < together; ++d) sums[q][d] += mixed<may_hide>(share, value[d]);
        }
    }
}

// Mixes `together` dimensions of the values from e on, for n queries.
template <int n, int together>
int64_t mix_dimensions(const Queries &queries, const HeadCache &cache, int64_t e, int64_t from,
                       int64_t to, const float *shares, int64_t shares_stride,
                       const float *factors) {
    const int64_t whole = queries.position / lanes<float>;  // blocks that all queries see to the end
    for (; e + together <= cache.head_dim; e += together) {
        Floats sums[n][together] = {};
        mix_blocks<false>(cache, e, from, whole, shares, shares_stride, sums);
        mix_blocks<true>(cache, e, whole, to, shares, shares_stride, sums);
        for (int q = 0; q < n; ++q) {
            float *out = queries.out + q * queries.out_stride + e;
            if constexpr (together == lanes<float>) {
                store(out, ::sums(sums[q]) * factors[q]);
            } else {
                for (int d = 0; d < together; ++d) out[d] = sum(sums[q][d]) * factors[q];
            }
        }
    }
    return e;
}

// Attends n queries; scores holds n rows of scores_stride floats, a multiple of lanes<float>.
template <int n>
void attend_queries(const Queries &queries, const HeadCache &cache, float *scores,
                    int64_t scores_stride) {
    const int64_t from = queries.first_visible(0) / lanes<float>;
    const int64_t last_position = queries.position + n - 1;
    const int64_t to = last_position / lanes<float> + 1;
    const int64_t done =
        score_blocks<n, n == 1 ? 4 : 2>(queries, cache, from, to, scores, scores_stride);
    score_blocks<n, 1>(queries, cache, done, to, scores, scores_stride);
    float factors[n];
    for (int q = 0; q < n; ++q) {
        float *row = scores + q * scores_stride;
        const int64_t first = queries.first_visible(q), last = queries.position + q;
        for (int64_t block = from; block * lanes<float> < first; ++block) {
            hide(row, block, first, last);
        }
        for (int64_t block = last / lanes<float>; block < to; ++block) hide(row, block, first, last);
        factors[q] = 1.0f / exponentiate(row, from, to);
    }
    constexpr int together = n == 1 ? 8 : 4;
    int64_t e = 0;
    if constexpr (n == 1) {
        e = mix_dimensions<n, lanes<float>>(queries, cache, e, from, to, scores, scores_stride,
                                            factors);
    }
    e = mix_dimensions<n, together>(queries, cache, e, from, to, scores, scores_stride, factors);
    mix_dimensions<n, 1>(queries, cache, e, from, to, scores, scores_stride, factors);
}

inline void attend(int64_t n, const Queries &queries, const HeadCache &cache, float *scores,
                   int64_t scores_stride) {
    if (n == 1) return attend_queries<1>(queries, cache, scores, scores_stride);
    if (n == 2) return attend_queries<2>(queries, cache, scores, scores_stride);
    if (n == 3) return attend_queries<3>(queries, cache, scores, scores_stride);
    attend_queries<most_queries>(queries, cache, scores, scores_stride);
}
