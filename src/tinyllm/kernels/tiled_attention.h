// From queries to shares, a tile of scores in registers at a time.
//
// Scores are never written down. They are shifted by the largest of the tile that holds the queries
// themselves, of which each sees at least itself: the sum of a query's shares is then at least 1.
// Where it grows past `most_total` the shares are calculated again, shifted by the largest of all.
// Included by attention.cpp alone.

#pragma once

// t .. t + rows of one head, and the tiles of keys that they see between them.
struct TiledQueries {
    Sight sights[rows];
    int64_t first, inside, last, end;  // from `inside` to `last`, every query sees every key

    TiledQueries(const Attention &call, int64_t b, int64_t t)
        : first(t / tile * tile), inside(0), last(first), end(first + tile) {
        for (int r = 0; r < rows; ++r) {
            sights[r] = sight_of(call, b, t + r);
            const int64_t start = t + r < call.time ? sights[r].start : t;
            first = start < first ? start / tile * tile : first;
            inside = start > inside ? start : inside;
        }
        inside = round_up(inside, tile);
        inside = inside < last ? inside : last;
    }
};

template <bool is_edge>
inline void hide_unseen(const TiledQueries &queries, int64_t j, V (&a)[rows], V (&b)[rows]) {
    for (int r = 0; r < rows; ++r) {
        a[r] = hidden_where_unseen<is_edge>(a[r], queries.sights[r], j);
        b[r] = hidden_where_unseen<is_edge>(b[r], queries.sights[r], j + vl);
    }
}

// Writes the shares of a tile's scores and adds them to the sums.
inline void put_tile(const V (&a)[rows], const V (&b)[rows], const V (&shift)[rows], int64_t stride,
                     int64_t j, Real *shares, V (&totals)[rows]) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        const V left = share_of(a[r] - shift[r]), right = share_of(b[r] - shift[r]);
        Blocks::put_shares(shares + r * stride, j, left);
        Blocks::put_shares(shares + r * stride, j + vl, right);
        totals[r] += left + right;
    }
}

template <bool is_edge>
inline void weigh_tile(const TiledQueries &queries, const typename Blocks::Queries &x,
                       const Real *keys, int64_t stride, int64_t j, const V (&shift)[rows],
                       Real *shares, V (&totals)[rows]) {
    V a[rows], b[rows];
    Blocks::products(keys, stride, x, j, a, b);
    hide_unseen<is_edge>(queries, j, a, b);
    put_tile(a, b, shift, stride, j, shares, totals);
}

// The same from the start, shifted by the largest scores of all. Rare, so it takes its time.
inline void weigh_by_largest(const TiledQueries &queries, const typename Blocks::Queries &x,
                             const Real *keys, int64_t stride, Real *shares, Softmax *softmax) {
    V a[rows], b[rows], most[rows], totals[rows] = {};
    for (V &x : most) x = all(hidden);
    for (int64_t j = queries.first; j < queries.end; j += tile) {
        Blocks::products(keys, stride, x, j, a, b);
        hide_unseen<true>(queries, j, a, b);
        for (int r = 0; r < rows; ++r) most[r] = larger(larger(a[r], b[r]), most[r]);
    }
    for (V &x : most) x = all(largest(x));
    for (int64_t j = queries.first; j < queries.end; j += tile) {
        weigh_tile<true>(queries, x, keys, stride, j, most, shares, totals);
    }
    for (int r = 0; r < rows; ++r) {
        const Real total = sum(totals[r]);
        softmax[r] = {most[r][0] + std::log2(total), 1 / total};
    }
}

// Writes powers of two for the caller to divide by their sums.
inline void weigh(const TiledQueries &queries, const Real *keys, int64_t stride, const Real *from,
                  Real *shares, Softmax *softmax) {
    const typename Blocks::Queries x(from);
    V a[rows], b[rows], shift[rows], totals[rows] = {};
    Blocks::products(keys, stride, x, queries.last, a, b);
    hide_unseen<true>(queries, queries.last, a, b);
    for (int r = 0; r < rows; ++r) shift[r] = all(largest(larger(a[r], b[r])));
    put_tile(a, b, shift, stride, queries.last, shares, totals);
    int64_t j = queries.first;
    for (; j < queries.inside; j += tile) {
        weigh_tile<true>(queries, x, keys, stride, j, shift, shares, totals);
    }
    for (; j < queries.last; j += tile) {
        weigh_tile<false>(queries, x, keys, stride, j, shift, shares, totals);
    }
    bool are_fit = true;
    for (int r = 0; r < rows; ++r) {
        const Real total = sum(totals[r]);
        are_fit = are_fit && total < most_total;
        softmax[r] = {shift[r][0] + std::log2(total), 1 / total};
    }
    if (!are_fit) weigh_by_largest(queries, x, keys, stride, shares, softmax);
}

// Writes the shares, and one of the shares' gradients the scores' gradients.
template <bool is_edge>
inline void weigh_tile_back(const TiledQueries &queries, const typename Blocks::Queries &x,
                            const typename Blocks::Queries &gradients, const Real *keys,
                            const Real *values, int64_t stride, int64_t j, const Real *log_sum,
                            const Real *mean, Real *shares, Real *share_gradient) {
    V a[rows], b[rows], left[rows], right[rows];
    Blocks::products(keys, stride, x, j, a, b);
    hide_unseen<is_edge>(queries, j, a, b);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {  // above 0 only by rounding, which grows with the scores
        left[r] = share_of(at_most_zero(a[r] - log_sum[r]));
        right[r] = share_of(at_most_zero(b[r] - log_sum[r]));
        Blocks::put_shares(shares + r * stride, j, left[r]);
        Blocks::put_shares(shares + r * stride, j + vl, right[r]);
    }
    Blocks::products(values, stride, gradients, j, a, b);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        Blocks::put_shares(share_gradient + r * stride, j, left[r] * (a[r] - mean[r]));
        Blocks::put_shares(share_gradient + r * stride, j + vl, right[r] * (b[r] - mean[r]));
    }
}

inline void weigh_back(const TiledQueries &queries, const Real *keys, const Real *values,
                       int64_t stride, const Real *from, const Real *gradients_from,
                       const Real *log_sum, const Real *mean, Real *shares, Real *share_gradient) {
    const typename Blocks::Queries x(from), gradients(gradients_from);
    const auto weigh = [&](int64_t j, auto is_edge) {
        weigh_tile_back<is_edge>(queries, x, gradients, keys, values, stride, j, log_sum, mean,
                                 shares, share_gradient);
    };
    int64_t j = queries.first;
    for (; j < queries.inside; j += tile) weigh(j, std::true_type{});
    for (; j < queries.last; j += tile) weigh(j, std::false_type{});
    weigh(j, std::true_type{});
}
