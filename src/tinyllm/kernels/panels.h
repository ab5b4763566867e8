// Products with a fixed matrix: y (n, R) = x (n, C) W^T, panel by panel; packing.h draws both.
//
// Nothing is prefetched: the processor's own prefetching reaches the bandwidth of a plain read,
// and instructions for it took up to two thirds of that away.

#pragma once

#include <cstdint>

#include "packing.h"
#include "team.h"

constexpr int64_t block_bytes = 256 * 1024;  // weights that a run over all tiles keeps in the cache

struct Output {  // y[token * stride + row], plus bias[row] if there is one, plus y itself if adding
    float *values;
    int64_t stride;
    const float *bias;
    bool is_added;
};

template <int n_tokens>
inline void store_sums(const Floats (&sums)[n_tokens][panel_vectors], const Matrix &w,
                       int64_t panel, const Output &y) {
    for (int v = 0; v < panel_vectors; ++v) {
        const int64_t row = panel * panel_rows + v * lanes<float>;
        const int64_t rest = w.rows - row < lanes<float> ? w.rows - row : lanes<float>;
        if (rest <= 0) return;
        const bool is_whole = rest == lanes<float>;
        Floats bias{};
        if (y.bias != nullptr) bias = is_whole ? load(y.bias + row) : load_part(y.bias + row, rest);
#pragma GCC unroll 16
        for (int t = 0; t < n_tokens; ++t) {
            float *to = y.values + t * y.stride + row;
            Floats value = sums[t][v] + bias;
            if (y.is_added) value += is_whole ? load(to) : load_part(to, rest);
            if (is_whole) {
                store(to, value);
            } else {
                store_part(to, value, rest);
            }
        }
    }
}

// Multiplies n_tokens tokens of a tile with panels of W; x and y begin at the first of them, and the
// tile has x.n_tokens. The order in which a sum is taken does not depend on the number of tokens, so
// that a token's result does not depend, to the bit, on the tokens beside it. The whole numbers of
// int8 have the same sum in any order.
template <typename Format, int n_tokens>
void multiply_tokens(const Matrix &w, Range panels, const Activations &x, const Output &y) {
    using Sum = typename Format::Sum;
    constexpr int splits = is_int8<Format> && n_tokens > 2 ? 1 : Format::splits;
    const int64_t units = count_units<Format>(w.columns), groups = count_groups<Format>(w.columns);
    for (int64_t panel = panels.first; panel < panels.last; ++panel) {
        const uint32_t *weights = w.values + panel * units * panel_rows;
        Floats totals[n_tokens][panel_vectors];  // set by the one group there is, but for int8
        if constexpr (is_int8<Format>) memset(totals, 0, sizeof totals);
        for (int64_t group = 0; group < groups; ++group) {
            const int64_t begin = is_int8<Format> ? group * units_per_group<Format> : 0;
            const int64_t end = is_int8<Format> && units - begin > units_per_group<Format>
                                    ? begin + units_per_group<Format> : units;
            Sum sums[splits][n_tokens][panel_vectors] = {};
            if constexpr (is_int8<Format>) {
#pragma GCC unroll 16
                for (int t = 0; t < n_tokens; ++t) {
                    for (int v = 0; v < panel_vectors; ++v) {
                        sums[0][t][v] = Sum{} + x.starts[t * groups + group];
                    }
                }
            }
            const auto step = [&](int64_t unit, int split) __attribute__((always_inline)) {
                const uint32_t *column = weights + unit * panel_rows;
                Words lanes_of_weights[panel_vectors];
#pragma GCC unroll 4
                for (int v = 0; v < panel_vectors; ++v) {
                    lanes_of_weights[v] = from_memory<Words>(column + v * lanes<float>);
                }
#pragma GCC unroll 16
                for (int t = 0; t < n_tokens; ++t) {
#pragma GCC unroll 4
                    for (int v = 0; v < panel_vectors; ++v) {
                        sums[split][t][v] = Format::step(sums[split][t][v], lanes_of_weights[v],
                                                         x.values + unit * x.n_tokens + t);
                    }
                }
            };
            int64_t unit = begin;
            for (; unit + splits <= end; unit += splits) {
#pragma GCC unroll 4
                for (int split = 0; split < splits; ++split) step(unit + split, split);
            }
            for (; unit < end; ++unit) step(unit, 0);
#pragma GCC unroll 16
            for (int t = 0; t < n_tokens; ++t) {
#pragma GCC unroll 4
                for (int v = 0; v < panel_vectors; ++v) {
                    for (int split = 1; split < splits; ++split) {
                        sums[0][t][v] += sums[split][t][v];
                    }
                    if constexpr (is_int8<Format>) {
                        const float *scales =
                            w.scales + (panel * groups + group) * panel_rows + v * lanes<float>;
                        totals[t][v] += __builtin_convertvector(sums[0][t][v], Floats) *
                                        (load(scales) * x.scales[t * groups + group]);
                    } else {
                        totals[t][v] = sums[0][t][v];
                    }
                }
            }
        }
        store_sums<n_tokens>(totals, w, panel, y);
    }
}

// Tokens whose sums the registers hold.
template <typename Format>
constexpr int most_tokens = is_int8<Format> ? tile_tokens : tile_tokens / Format::splits;

template <typename Format, int n_tokens = most_tokens<Format>>
void multiply_tokens_of(int64_t n, const Matrix &w, Range panels, const Activations &x,
                        const Output &y) {
    if constexpr (n_tokens > 0) {
        if (n == n_tokens) return multiply_tokens<Format, n_tokens>(w, panels, x, y);
        multiply_tokens_of<Format, n_tokens - 1>(n, w, panels, x, y);
    }
}

// Multiplies a tile with panels of W; x and y begin at the tile's first token.
template <typename Format>
void multiply_tile(const Matrix &w, Range panels, const Activations &x, const Output &y) {
    const int64_t groups = count_groups<Format>(w.columns);
    const int64_t n_parts = divided_up(x.n_tokens, most_tokens<Format>);
    for (int64_t part = 0; part < n_parts; ++part) {
        const int64_t first = x.n_tokens * part / n_parts;
        const int64_t last = x.n_tokens * (part + 1) / n_parts;
        Activations tokens = x;
        tokens.values += first;
        if (is_int8<Format>) {
            tokens.scales += first * groups;
            tokens.starts += first * groups;
        }
        Output to = y;
        to.values += first * y.stride;
        multiply_tokens_of<Format>(last - first, w, panels, tokens, to);
    }
}

// Multiplies all tokens with panels of W.
template <typename Format>
void multiply(const Matrix &w, Range panels, const Activations &x, const Output &y) {
    const int64_t units = count_units<Format>(w.columns), groups = count_groups<Format>(w.columns);
    const int64_t size = x.tile_size();
    int64_t n_at_once = block_bytes / (units * panel_rows * 4);
    n_at_once = size == x.n_tokens ? panels.last - panels.first : n_at_once > 1 ? n_at_once : 1;
    for (int64_t first = panels.first; first < panels.last; first += n_at_once) {
        const int64_t last = first + n_at_once < panels.last ? first + n_at_once : panels.last;
        for (int64_t token = 0; token < x.n_tokens; token += size) {
            Activations tile = x;
            tile.values += token * units;
            if (is_int8<Format>) {
                tile.scales += token * groups;
                tile.starts += token * groups;
            }
            Output to = y;
            to.values += token * y.stride;
            tile.n_tokens = x.n_tokens - token < size ? x.n_tokens - token : size;
            multiply_tile<Format>(w, {first, last}, tile, to);
        }
    }
}
