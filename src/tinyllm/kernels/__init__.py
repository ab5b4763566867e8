"""Native code for the processor: small C++ files, compiled where they run, each one optional.

    build.py        finds a compiler, compiles `NAME.cpp` on first use, keeps the result in a cache
    vector.h        vector types, loads and stores, exp: one source for AVX-512, AVX2 and NEON
    processor.cpp   what the compiler knew of this processor
    NAME.cpp        a kernel: plain C functions over pointers and sizes
    NAME.py         its Python face; the same mathematics in plain PyTorch or numpy lies beside it
    function.py     a kernel and its derivative, as eager mode calls them

Without a compiler, for shapes a kernel does not know, and with `TINYLLM_KERNELS=off`, everything
runs on the plain twin: slower, with the same results up to rounding.

Data layout: row-major, no strides but the ones drawn in a kernel's own docstring. Numbers are
float32 or bfloat16 outside and float32 inside; attention is also built in float64, for tests.
"""
