// What the compiler knew of this processor: the smallest library, and the proof that building works.

#include "vector.h"

extern "C" const char *tinyllm_processor_features() {
    return ""
#if defined(__AVX2__)
           "avx2 "
#endif
#if defined(__FMA__)
           "fma "
#endif
#if defined(__AVX512F__)
           "avx512 "
#endif
#if defined(__AVX512BF16__)
           "avx512_bf16 "
#endif
#if defined(__AVX512VNNI__)
           "avx512_vnni "
#endif
#if defined(__AMX_BF16__)
           "amx_bf16 "
#endif
#if defined(__ARM_NEON)
           "neon "
#endif
#if defined(__ARM_FEATURE_BF16)
           "neon_bf16 "
#endif
#if defined(_OPENMP)
           "openmp "
#endif
        ;
}

extern "C" int64_t tinyllm_processor_lanes() { return lanes<float>; }

// Applies exp and exp2 to n floats each, for tests of the vector functions.
extern "C" void tinyllm_processor_exp(const float *x, float *natural, float *binary, int64_t n) {
    for (int64_t i = 0; i < n; i += lanes<float>) {
        const int64_t rest = n - i < lanes<float> ? n - i : lanes<float>;
        const Floats value = load_part(x + i, rest);
        store_part(natural + i, vexp(value), rest);
        store_part(binary + i, vexp2(value), rest);
    }
}

// Rounds n floats to bfloat16 and widens them again, for tests of the vector functions.
extern "C" void tinyllm_processor_bf16(const float *x, Bf16 *narrow, float *wide, int64_t n) {
    for (int64_t i = 0; i < n; i += lanes<float>) {
        const int64_t rest = n - i < lanes<float> ? n - i : lanes<float>;
        store_part(narrow + i, load_part(x + i, rest), rest);
        store_part(wide + i, load_part(narrow + i, rest), rest);
    }
}
