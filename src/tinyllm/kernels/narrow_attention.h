// Blocks of attention for heads that do not fill a vector: one pass over the keys, nothing stored.
//
// With few dimensions the products are cheap, and writing scores down to read them again is what
// takes the time. So `n` queries go over the keys together, and a vector of scores is calculated,
// made a power of two, and mixed while it is in registers. The softmax shifts a query's scores by
// the score of its own token, which it always sees, in place of the largest, which only a pass of
// its own would tell: the sum is then at least 1. Where it grows past `most_total`, or where scores
// are so huge that rounding alone leaves it near 0, the caller starts over with the largest. The
// shift is subtracted from the whole product: the largest score less itself is then exactly 0.
//
// Keys, values and their gradients are turned, (E, stride). Included by attention.cpp alone.

#pragma once

constexpr Real least_total = static_cast<Real>(0.5);

// The queries of one pass: as many as have all their mixed values in one transposition.
template <int n> struct NarrowQueries {
    const Real *x, *gradient;  // (n, padded): the queries, and what backward mixes the values with
    Sight sights[n];
    Real shift[n], mean[n];
};

// Calls step(j, is_edge) for every vector of keys that any of the queries sees.
template <int n, typename Step>
inline void for_seen_keys(const NarrowQueries<n> &queries, Step step) {
    int64_t first = queries.sights[0].first, inside = 0;
    const int64_t last = queries.sights[0].last;  // of all: n divides a vector
    for (const Sight &sight : queries.sights) {
        first = sight.first < first ? sight.first : first;
        const int64_t whole = round_up(sight.start, vl);
        inside = whole > inside ? whole : inside;
    }
    int64_t j = first;
    for (; j < inside && j < last; j += vl) step(j, std::true_type{});
    for (; j < last; j += vl) step(j, std::false_type{});
    step(last, std::true_type{});
}

inline V product(const Real *__restrict turned, int64_t stride, const Real *__restrict x,
                 int64_t j) {
    V result{};
#pragma GCC unroll 16
    for (int d = 0; d < width; ++d) result += all(x[d]) * load(turned + d * stride + j);
    return result;
}

template <int n>
inline void shift_by_largest(const Real *keys, int64_t stride, NarrowQueries<n> &queries) {
    V most[n];
    for (V &x : most) x = all(hidden);
    for_seen_keys<n>(queries, [&](int64_t j, auto is_edge) {
        for (int r = 0; r < n; ++r) {
            const V x = product(keys, stride, queries.x + r * padded, j);
            most[r] = larger(hidden_where_unseen<is_edge>(x, queries.sights[r], j), most[r]);
        }
    });
    for (int r = 0; r < n; ++r) queries.shift[r] = largest(most[r]);
}

// to[r] = the values mixed by powers of two; returns whether all sums, in `totals`, are fit to use.
template <int n>
inline bool mix_seen(const Real *__restrict keys, const Real *__restrict values, int64_t stride,
                     const NarrowQueries<n> &queries, Real *to, Real *totals) {
    V mixed[vl] = {}, total[n] = {};
    for_seen_keys<n>(queries, [&](int64_t j, auto is_edge) {
#pragma GCC unroll 8
        for (int r = 0; r < n; ++r) {
            const V x = product(keys, stride, queries.x + r * padded, j) - queries.shift[r];
            const V share = share_of(hidden_where_unseen<is_edge>(x, queries.sights[r], j));
            total[r] += share;
#pragma GCC unroll 16
            for (int d = 0; d < width % vl; ++d) {
                mixed[(r * width + d) % vl] += share * load(values + d * stride + j);
            }
        }
    });
    const V summed = sums(mixed);
    bool are_fit = true;
    for (int r = 0; r < n; ++r) {
        totals[r] = sum(total[r]);
        are_fit = are_fit && totals[r] > least_total && totals[r] < most_total;
        for (int d = 0; d < width; ++d) to[r * padded + d] = summed[(r * width + d) % vl];
    }
    return are_fit;
}

template <int n>
inline void attend_narrow(const Real *keys, const Real *values, int64_t stride,
                          NarrowQueries<n> &queries, Real *to, Softmax *softmax) {
    for (int r = 0; r < n; ++r) {
        queries.shift[r] = 0;
        for (int d = 0; d < width; ++d) {
            const Real key = keys[d * stride + queries.sights[r].query];
            queries.shift[r] += queries.x[r * padded + d] * key;
        }
    }
    Real totals[n];
    if (!mix_seen<n>(keys, values, stride, queries, to, totals)) {
        shift_by_largest<n>(keys, stride, queries);
        mix_seen<n>(keys, values, stride, queries, to, totals);
    }
    for (int r = 0; r < n; ++r) {
        softmax[r] = {queries.shift[r] + std::log2(totals[r]), 1 / totals[r]};
    }
}

// to[r] = the gradient of query r; adds to the gradients of keys and values. `shift` holds the
// logarithms of the sums.
template <int n>
inline void attend_narrow_back(const Real *__restrict keys, const Real *__restrict values,
                               int64_t stride, const NarrowQueries<n> &queries,
                               Real *__restrict key_gradient, Real *__restrict value_gradient,
                               Real *to) {
    V mixed[vl] = {};
    for_seen_keys<n>(queries, [&](int64_t j, auto is_edge) {
        V of_key[width], of_value[width];
#pragma GCC unroll 16
        for (int d = 0; d < width; ++d) {
            of_key[d] = load(key_gradient + d * stride + j);
            of_value[d] = load(value_gradient + d * stride + j);
        }
#pragma GCC unroll 8
        for (int r = 0; r < n; ++r) {
            const Real *query = queries.x + r * padded, *gradient = queries.gradient + r * padded;
            const V x = product(keys, stride, query, j) - queries.shift[r];
            const V share =
                share_of(at_most_zero(hidden_where_unseen<is_edge>(x, queries.sights[r], j)));
            const V back = share * (product(values, stride, gradient, j) - queries.mean[r]);
#pragma GCC unroll 16
            for (int d = 0; d < width; ++d) {
                mixed[(r * width + d) % vl] += back * load(keys + d * stride + j);
                of_value[d] += all(gradient[d]) * share;
                of_key[d] += all(query[d]) * back;
            }
        }
#pragma GCC unroll 16
        for (int d = 0; d < width; ++d) {
            store(key_gradient + d * stride + j, of_key[d]);
            store(value_gradient + d * stride + j, of_value[d]);
        }
    });
    const V summed = sums(mixed);
    for (int r = 0; r < n; ++r) {
        for (int d = 0; d < width; ++d) to[r * padded + d] = summed[(r * width + d) % vl];
    }
}
