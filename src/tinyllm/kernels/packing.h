// How a matrix W (R, C) and the rows x (n, C) it meets lie in memory, in float32, bf16 or int8.
//
// W is stored in panels of `panel_rows` rows, a row per lane, so that one sequential stream of
// memory feeds every product and no lane is ever summed across. Columns go by units of four bytes:
// one float32, two bf16 or four int8, whatever one lane multiplies in one instruction.
//
//     values[panel][unit][row of the panel]    uint32_t
//     scales[panel][group][row of the panel]   float, int8 only: a group is `group_values` columns
//
// x is packed to match: tiles of up to `tile_tokens` rows, in a tile values[unit][token of the
// tile], rounded to bf16 or to int8 with a scale per token and group. Rows and columns that fill up
// the last panel and unit are zero. An int8 weight q is stored as q + 128, since the instruction
// wants one unsigned factor; the surplus 128 * sum(x) is what a sum starts from, with a minus.

#pragma once

#include <cstdint>

#include "vector.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

constexpr int panel_vectors = register_bytes == 16 ? 4 : 2;
constexpr int panel_rows = panel_vectors * lanes<float>;
constexpr int tile_tokens = register_bytes == 64 ? 14 : 6;
#if !defined(TINYLLM_INT8_GROUP)
#define TINYLLM_INT8_GROUP 64
#endif
constexpr int group_values = TINYLLM_INT8_GROUP;

using SignedWords = Integers<float>;

struct Matrix {
    const uint32_t *values;
    const float *scales;
    int64_t rows, columns;
};

constexpr int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
constexpr int64_t padded(int64_t n, int64_t to) { return divided_up(n, to) * to; }

// ---- formats: how a unit of weights meets a unit of activations ----

struct Float32Format {
    using Sum = Floats;
    static constexpr int values_per_unit = 1, splits = 1;
    static Sum step(Sum sum, Words weights, const uint32_t *x) {
        return sum + same_bits<Floats>(weights) * all(same_bits<float>(*x));
    }
};

struct Bf16Format {
    using Sum = Floats;
    static constexpr int values_per_unit = 2, splits = 2;
    static Sum step(Sum sum, Words weights, const uint32_t *x) {
#if defined(__AVX512BF16__)
        const __m512i both = _mm512_set1_epi32(static_cast<int>(*x));
        return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)both);
#else
        const float first = same_bits<float>(*x << 16), second = same_bits<float>(*x & 0xffff0000u);
        sum += same_bits<Floats>(weights << 16) * all(first);
        return sum + same_bits<Floats>(weights & 0xffff0000u) * all(second);
#endif
    }
};

struct Int8Format {
    using Sum = SignedWords;
    static constexpr int values_per_unit = 4, splits = 2;
    static Sum step(Sum sum, Words weights, const uint32_t *x) {
        const int four = static_cast<int>(*x);
#if defined(__AVX512VNNI__)
        return (Sum)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(four));
#elif defined(__AVX2__) && !defined(__AVX512F__)
        const __m256i pairs = _mm256_set1_epi32(four), w = (__m256i)weights;
        const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)),
                                               _mm256_srai_epi16(_mm256_slli_epi16(pairs, 8), 8));
        const __m256i odd =
            _mm256_madd_epi16(_mm256_srli_epi16(w, 8), _mm256_srai_epi16(pairs, 8));
        return sum + (Sum)_mm256_add_epi32(even, odd);
#else
        for (int byte = 0; byte < 4; ++byte) {
            const int32_t factor = static_cast<int8_t>(four >> (8 * byte));
            sum += same_bits<Sum>((weights >> (8 * byte)) & 255u) * factor;
        }
        return sum;
#endif
    }
};

template <typename Format> constexpr bool is_int8 = Format::values_per_unit == 4;
template <typename Format>
constexpr int64_t units_per_group = group_values / Format::values_per_unit;

template <typename Format> int64_t count_units(int64_t columns) {
    return divided_up(columns, Format::values_per_unit);
}

template <typename Format> int64_t count_groups(int64_t columns) {
    return is_int8<Format> ? divided_up(columns, group_values) : 1;
}

// ---- activations ----

struct Activations {
    uint32_t *values;  // tile after tile
    float *scales;     // (n_tokens, groups), int8 only
    int32_t *starts;   // (n_tokens, groups), int8 only: what sums start from
    int64_t n_tokens;

    int64_t tile_size() const { return divided_up(n_tokens, divided_up(n_tokens, tile_tokens)); }
};

inline float largest_magnitude(const float *x, int64_t n) {  // n is a multiple of lanes<float>
    Floats most{};
    for (int64_t i = 0; i < n; i += lanes<float>) {
        const Floats value = load(x + i), magnitude = value < 0 ? -value : value;
        most = most > magnitude ? most : magnitude;
    }
    return largest(most);
}

template <typename Format>
constexpr int chunk_values = is_int8<Format> ? group_values : lanes<float>;
template <typename Format>
constexpr int chunk_units = chunk_values<Format> / Format::values_per_unit;

// Packs a chunk of x; for int8 also gives its scale and what sums over it start from.
template <typename Format>
void pack_chunk(const float *x, uint32_t *units, float &scale, int32_t &start) {
    if constexpr (Format::values_per_unit == 1) {
        memcpy(units, x, sizeof(Floats));
    } else if constexpr (Format::values_per_unit == 2) {
        store(reinterpret_cast<Bf16 *>(units), load(x));
    } else {
        using Bytes = typename Pack<uint8_t, lanes<float>>::type;
        constexpr float rounder = Exponent<float>::rounder;
        const float most = largest_magnitude(x, group_values);
        const float factor = most > 1e-30f ? 127.0f / most : 0.0f;
        SignedWords total{};
        for (int i = 0; i < group_values; i += lanes<float>) {
            const auto whole = same_bits<SignedWords>(load(x + i) * factor + rounder) -
                               same_bits<SignedWords>(all(rounder));
            const Bytes bytes = __builtin_convertvector(whole, Bytes);
            memcpy(reinterpret_cast<char *>(units) + i, &bytes, sizeof bytes);
            total += whole;
        }
        scale = most / 127.0f;
        start = -128 * sum_of<int32_t, lanes<float>>(total);
    }
}

// Packs x (columns), its units `stride` apart; scales and starts may go nowhere but for int8.
template <typename Format>
void pack_row(const float *x, int64_t columns, uint32_t *values, int64_t stride, float *scales,
              int64_t scales_stride, int32_t *starts) {
    constexpr int chunk = chunk_values<Format>, width = Format::values_per_unit;
    for (int64_t first = 0; first < columns; first += chunk, values += chunk / width * stride) {
        const int64_t n = columns - first < chunk ? columns - first : chunk;
        float part[chunk] = {}, scale;
        const float *from = x + first;
        if (n < chunk) from = static_cast<float *>(memcpy(part, from, static_cast<size_t>(n) * 4));
        int32_t start;
        uint32_t units[chunk_units<Format>];
        const bool is_whole = stride == 1 && n == chunk;
        pack_chunk<Format>(from, is_whole ? values : units, scale, start);
        if (!is_whole) {
            for (int64_t i = 0; i * width < n; ++i) values[i * stride] = units[i];
        }
        if constexpr (is_int8<Format>) {
            scales[first / chunk * scales_stride] = scale;
            if (starts != nullptr) starts[first / chunk] = start;
        }
    }
}

// Packs x (columns) as token `token` of the activations.
template <typename Format>
void pack_token(const float *x, int64_t columns, const Activations &to, int64_t token) {
    const int64_t size = to.tile_size(), tile = token / size * size;
    const int64_t stride = to.n_tokens - tile < size ? to.n_tokens - tile : size;
    const int64_t groups = token * count_groups<Format>(columns);
    uint32_t *values = to.values + tile * count_units<Format>(columns) + (token - tile);
    pack_row<Format>(x, columns, values, stride, to.scales + groups, 1, to.starts + groups);
}

// ---- weights ----

// Packs one panel of W (rows, columns), rows from first_row on.
template <typename Format>
void pack_panel(const float *w, int64_t rows, int64_t columns, int64_t first_row, uint32_t *values,
                float *scales) {
    const int64_t n_units = count_units<Format>(columns) * panel_rows;
    const int64_t n_scales = is_int8<Format> ? count_groups<Format>(columns) * panel_rows : 0;
    memset(values, 0, static_cast<size_t>(n_units) * 4);
    memset(scales, 0, static_cast<size_t>(n_scales) * 4);
    for (int64_t row = 0; row < panel_rows && first_row + row < rows; ++row) {
        pack_row<Format>(w + (first_row + row) * columns, columns, values + row, panel_rows,
                         scales + row, panel_rows, nullptr);
    }
    if (!is_int8<Format>) return;
    for (int64_t i = 0; i < n_units; ++i) values[i] ^= 0x80808080u;
}
