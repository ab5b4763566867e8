// From scores to shares, a vector at a time. Included by attention.cpp alone.

#pragma once

inline V larger(V x, V y) {  // y where x is NaN
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<Real, float>) {
        return same_bits<V>(_mm512_max_ps(same_bits<__m512>(x), same_bits<__m512>(y)));
    }
#endif
    return x > y ? x : y;
}

inline V at_most_zero(V x) {  // NaN stays NaN
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<Real, float>) {
        return same_bits<V>(_mm512_min_ps(_mm512_setzero_ps(), same_bits<__m512>(x)));
    }
#endif
    return x > 0 ? V{} : x;
}

// 2^x, above 2^100 only known to be so. To bfloat16 a relative error of 8e-5 is none.
inline V share_of(V x) {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<Real, float>) {
        const __m512 in = same_bits<__m512>(x);
        const __m512 whole = _mm512_roundscale_ps(in, _MM_FROUND_TO_NEAREST_INT);
        const V rest = x - same_bits<V>(whole);
        V power;
        if constexpr (std::is_same_v<Io, Bf16>) {
            power = rest * 0.0551716698f + 0.242611128f;  // least squares, towards the minimax
            power = power * rest + 0.693260986f;
            power = power * rest + 0.999928073f;
        } else {
            constexpr auto &c = Exponent<float>::polynomial;
            power = all<Real>(c[0]);
            for (unsigned i = 1; i < sizeof c / sizeof c[0]; ++i) power = power * rest + c[i];
        }
        return same_bits<V>(_mm512_scalef_ps(same_bits<__m512>(power), whole));
    }
#endif
    return power_of_two<Real>(x > 100 ? all<Real>(100) : x);
}
