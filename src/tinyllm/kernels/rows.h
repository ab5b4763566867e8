// What happens to one row of floats between products: norms, activations, rotation.

#pragma once

#include <cmath>
#include <cstdint>

#include "vector.h"

template <typename Term> float sum_over(int64_t n, const Term &term, const float *x) {
    Floats total{};
    int64_t i = 0;
    for (; i + lanes<float> <= n; i += lanes<float>) total += term(load(x + i));
    float rest = 0.0f;
    for (; i < n; ++i) rest += term(all(x[i]))[0];
    return sum(total) + rest;
}

inline void rms_norm(const float *x, int64_t n, float eps, const float *weight, float *out) {
    const float squares = sum_over(n, [](Floats v) { return v * v; }, x);
    const float factor = 1.0f / sqrtf(squares / static_cast<float>(n) + eps);
    for (int64_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

inline void layer_norm(const float *x, int64_t n, float eps, const float *weight,
                       const float *bias, float *out) {
    const float size = static_cast<float>(n);
    const float mean = sum_over(n, [](Floats v) { return v; }, x) / size;
    const float squares = sum_over(n, [=](Floats v) { return (v - mean) * (v - mean); }, x);
    const float factor = 1.0f / sqrtf(squares / size + eps);
    for (int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * factor * weight[i] + bias[i];
}

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + vexp(-x)); }

inline Floats gelu(Floats x) {  // tanh form: (1 + tanh(u)) / 2 = sigmoid(2 u)
    return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));
}

// x[i] becomes its activation, times its partner `gap` floats behind for llama's gate.
inline void activate(float *x, int64_t first, int64_t last, int64_t gap) {
    for (int64_t i = first; i < last; i += lanes<float>) {
        const Floats value = load(x + i);
        store(x + i, gap > 0 ? value * sigmoid(value) * load(x + gap + i) : gelu(value));
    }
}

// Turns pairs (i, i + E/2) of one head by the angles of its position.
inline void rotate(float *x, int64_t width, const float *cosines, const float *sines) {
    for (int64_t i = 0; i < width / 2; ++i) {
        const float left = x[i], right = x[i + width / 2];
        x[i] = left * cosines[i] - right * sines[i];
        x[i + width / 2] = right * cosines[i] + left * sines[i];
    }
}
