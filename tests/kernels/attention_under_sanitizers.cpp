// Runs attention forwards and backwards over awkward lengths, in memory of exactly the right size:
// built with AddressSanitizer and UBSan, it ends with an error at the first access out of bounds.

#include "attention.cpp"

#include <vector>

template <typename T> static std::vector<T> filled(int64_t n) {
    std::vector<T> numbers(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) {
        narrow(static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 25, numbers[static_cast<size_t>(i)]);
    }
    return numbers;
}

static int run(int64_t time, int64_t n_heads, int64_t n_kv_heads, bool has_features) {
    const int64_t batch = 2, e = HEAD_DIM, n_q = batch * time * n_heads * e;
    const int64_t n_k = batch * time * n_kv_heads * e;
    const auto qkv = filled<Io>(n_q + 2 * n_k), grad_out = filled<Io>(n_q);
    const auto cos = filled<Real>(time * (e / 2)), sin = filled<Real>(batch * time * (e / 2));
    const auto weight = filled<Real>(e);
    std::vector<int32_t> starts;
    for (int64_t i = 0; i < batch * time; ++i) {
        starts.push_back(static_cast<int32_t>(i % time < 5 ? -3 : i % time - (i % 3) * 4));
    }
    std::vector<Io> out(n_q), grad_qkv(n_q + 2 * n_k);
    std::vector<Real> log_sums(batch * n_heads * time);
    std::vector<Real> grad_q_weight(batch * n_heads * e), grad_k_weight(batch * n_kv_heads * e);
    Attention call{batch,   time,    n_heads, n_kv_heads, nullptr, nullptr, nullptr,
                   nullptr, nullptr, time,    0,          0.25,    1e-5,    2};
    if (has_features) {
        call.starts = starts.data();
        call.cos = cos.data(), call.sin = sin.data();
        call.q_weight = call.k_weight = weight.data();
    }
    if (tinyllm_attention_forward(&call, qkv.data(), out.data(), log_sums.data())) {
        return 1;
    }
    const Tensors tensors{qkv.data(),      out.data(),           grad_out.data(),
                          log_sums.data(), grad_qkv.data(),      grad_q_weight.data(),
                          grad_k_weight.data()};
    return tinyllm_attention_backward(&call, &tensors);
}

int main() {
    for (const int64_t time : {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130}) {
        for (const bool has_features : {false, true}) {
            if (run(time, 4, 2, has_features) || run(time, 1, 1, has_features)) return 1;
        }
    }
    return 0;
}
