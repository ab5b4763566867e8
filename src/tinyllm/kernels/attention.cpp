// Causal attention and its gradient, straight from the product that gives q, k and v.
//
//     qkv (B, T, (H + K + K) E)   out (B, T, H, E)   log_sums (B, H, T)
//
// A token's row holds its H query heads side by side, then its K key heads and its K value heads;
// so does the gradient of qkv. Query head h reads key head h / (H / K). Query t sees the keys
// starts[t] .. t: one lower bound says both how far back a window reaches and where a document
// began. Queries and keys are normalised (RMS, with a weight) and rotated (RoPE, dimension i with
// i + E/2) as they are read, and their gradients are taken back the same way as they are written.
//
// One thread works on one head of one row of the batch. It holds keys and values turned, so that
// one vector is one dimension of many keys, and those that are mixed in rows as well:
//
//     keys    (E, stride)     scores, and the gradient of keys: a vector of keys at a time
//     values  (T, padded E)   mixing, where E fills a vector; (E, stride) again where it does not
//
// It takes `rows` queries at a time through scores -> softmax (tiled_attention.h) -> mix, and keeps
// their shares, (rows, stride), in the cache; nothing grows with T * T. Products are of one number
// (single_attention.h) or, for bfloat16 where the processor has them, of pairs
// (paired_attention.h). Heads that do not fill a vector and are not taken in pairs go over the keys
// once, with nothing kept (narrow_attention.h). The softmax is of base 2: queries carry log2(e).
//
// Compile with HEAD_DIM (E), IO (float, Bf16, double: what tensors hold) and REAL (float, double:
// what is calculated with). Functions return 0, or 1 when there is no memory for the workspace.

#include <cmath>
#include <cstdlib>
#include <initializer_list>

#include "vector.h"

using Io = IO;
using Real = REAL;
using V = Vector<Real>;

struct Attention {  // mirrored in attention.py
    int64_t batch, time, n_heads, n_kv_heads;
    const int32_t *starts;  // (B or 1, T), null: all from the first key on
    const Real *cos, *sin;  // (B or 1, T, E/2), null: not rotated
    const Real *q_weight, *k_weight;  // (E,), null: not normalised
    int64_t starts_batch_stride, rotation_batch_stride;  // 0: one for the whole batch
    double scale, eps;
    int64_t n_threads;
};

namespace {

constexpr int width = HEAD_DIM;
constexpr int vl = lanes<Real>;
constexpr int tile = 2 * vl;
constexpr bool is_narrow = width < vl;  // a head does not fill a vector
constexpr int n_vectors = (width + vl - 1) / vl;
constexpr int padded = n_vectors * vl;
#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int rows = 4;  // 16 registers
#else
constexpr int rows = tile < 8 ? tile : 8;  // double in 16 bytes: a tile of 4
#endif
constexpr Real hidden = static_cast<Real>(-1e30);
constexpr Real log2_e = static_cast<Real>(1.4426950408889634);

static_assert(tile % rows == 0, "the last block of rows must end before the last tile of keys");

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// ---- one head of one token ----

template <class T> inline T *head_of(const Attention &call, T *qkv, int64_t token, int64_t number) {
    return qkv + (token * (call.n_heads + 2 * call.n_kv_heads) + number) * width;
}
template <class T> inline T *query_of(const Attention &call, T *qkv, int64_t token, int64_t h) {
    return head_of(call, qkv, token, h);
}
template <class T> inline T *key_of(const Attention &call, T *qkv, int64_t token, int64_t kv) {
    return head_of(call, qkv, token, call.n_heads + kv);
}
template <class T> inline T *value_of(const Attention &call, T *qkv, int64_t token, int64_t kv) {
    return head_of(call, qkv, token, call.n_heads + call.n_kv_heads + kv);
}

struct Place {  // a token's rotation; null where there is none
    const Real *cos, *sin;
};

inline Place place_of(const Attention &call, int64_t b, int64_t t) {
    if (!call.cos) return {nullptr, nullptr};
    const int64_t at = b * call.rotation_batch_stride + t * (width / 2);
    return {call.cos + at, call.sin + at};
}

// The sum of a[d] * b[d], in as many partial sums as divide a head and fit a vector.
inline Real dot(const Real *a, const Real *b) {
    constexpr int power = width & -width, n = power < vl ? power : vl;
    if constexpr (n == 1) {
        Real total = 0;
        for (int d = 0; d < width; ++d) total += a[d] * b[d];
        return total;
    } else {
        using Part = typename Pack<Real, n>::type;
        Part total{};
        for (int d = 0; d < width; d += n) {
            total += from_memory<Part>(a + d) * from_memory<Part>(b + d);
        }
        return sum_of<Real, n>(total);
    }
}

inline Real inverse_rms(const Real *x, Real eps) { return 1 / std::sqrt(dot(x, x) / width + eps); }

constexpr int part_of(int d) { return width - d < vl ? width - d : vl; }

inline void widen_head(const Io *from, Real *x) {  // x is padded, and so everywhere below
    for (int d = 0; d < width; d += vl) store(x + d, load_part(from + d, part_of(d)));
}

inline void narrow_head(const Real *x, Real factor, Io *to) {
    for (int d = 0; d < width; d += vl) store_part(to + d, load(x + d) * factor, part_of(d));
}

inline void scale_row(Real *x, Real factor) {
    for (int d = 0; d < width; d += vl) store(x + d, load(x + d) * factor);
}

inline void clear_row(Real *x) { memset(x, 0, sizeof(Real) * padded); }

// A token's head from where its dimensions lie apart, (E, stride).
inline void gather_head(const Real *turned, int64_t stride, int64_t t, Real factor, Real *x) {
    for (int d = 0; d < width; d += vl) {
        V part{};  // put together in a register: a vector read from numbers just written waits
        for (int i = 0; i < part_of(d); ++i) part[i] = turned[(d + i) * stride + t];
        store(x + d, part * factor);
    }
}

// Turn the pairs (d, d + E/2) by the place's angles; `direction` -1 turns them back.
inline void rotate(Real *x, Place place, Real direction) {
    if (!place.cos) return;
    constexpr int half = width / 2;
    for (int d = 0; d < half; ++d) {
        const Real left = x[d], right = x[d + half];
        const Real cos = place.cos[d], sin = direction * place.sin[d];
        x[d] = left * cos - right * sin;
        x[d + half] = right * cos + left * sin;
    }
}

inline void read_head(const Io *from, const Real *weight, Place place, Real eps, Real *x) {
    widen_head(from, x);
    if (weight) {
        const Real r = inverse_rms(x, eps);
        for (int d = 0; d < width; ++d) x[d] *= r * weight[d];
    }
    rotate(x, place, 1);
}

// Take g, the gradient of what read_head gave, back to what it read; add to the weight's gradient.
inline void take_back(const Io *from, const Real *weight, Place place, Real eps, Real *g,
                      Real *weight_gradient) {
    rotate(g, place, -1);
    if (!weight) return;
    Real x[padded];
    widen_head(from, x);
    const Real r = inverse_rms(x, eps);
    for (int d = 0; d < width; ++d) {
        x[d] *= r;
        weight_gradient[d] += g[d] * x[d];
        g[d] *= weight[d];
    }
    const Real mean = dot(g, x) / width;
    for (int d = 0; d < width; ++d) g[d] = r * (g[d] - x[d] * mean);
}

// How many queries go over the keys together where a head does not fill a vector.
constexpr int fitting = is_narrow ? vl / width : 1;
constexpr int together = fitting >= 8 ? rows : fitting >= 4 ? 4 : fitting >= 2 ? 2 : 1;

// ---- blocks: `rows` queries against keys first .. end, both multiples of a tile ----

#include "single_attention.h"
#if defined(__AVX512BF16__)
#include "paired_attention.h"
constexpr bool is_paired = std::is_same_v<Io, Bf16> && width % 2 == 0;
using Blocks = std::conditional_t<is_paired, Paired, Single>;
#else
constexpr bool is_paired = false;
using Blocks = Single;
#endif

// Heads that do not fill a vector are done in one pass where numbers are not taken in pairs.
constexpr bool in_one_pass = is_narrow && !is_paired;

#include "shares.h"

// A key as products take it: normalised, rotated.
inline Blocks::Head key_head(const Attention &call, const Io *from, int64_t b, int64_t t) {
    if (!call.k_weight && !call.cos) return Blocks::Head(from);
    Real x[padded] = {};
    read_head(from, call.k_weight, place_of(call, b, t), static_cast<Real>(call.eps), x);
    return Blocks::Head::rounded(x);
}

// ---- what a query sees ----

struct Sight {
    int64_t first, last;  // the vectors that hold its first and its last key
    int64_t start, query;
};

inline Sight sight_of(const Attention &call, int64_t b, int64_t t) {
    int64_t start = 0;
    if (call.starts && t < call.time) start = call.starts[b * call.starts_batch_stride + t];
    start = start < 0 ? 0 : start > t ? t : start;  // a token sees itself whatever was given
    return {start / vl * vl, t / vl * vl, start, t};
}

template <bool is_edge> inline V hidden_where_unseen(V x, const Sight &sight, int64_t j) {
    using Number = typename Integer<Real>::type;
    if constexpr (is_edge) {
        const Integers<Real> key = lane_numbers<Real>() + static_cast<Number>(j);
        x = key < static_cast<Number>(sight.start) ? all(hidden) : x;
        x = key > static_cast<Number>(sight.query) ? all(hidden) : x;
    }
    return x;
}

struct Softmax {
    Real log_sum, inverse_sum;
};

// Sums of shares that are fit to divide by. A shift other than the largest score may lead past it.
constexpr Real most_total = static_cast<Real>(1e19);

#include "tiled_attention.h"
#include "narrow_attention.h"

// Back, the gradients of a vector of keys need registers too.
constexpr int together_back = together > 1 ? together / 2 : 1;

template <int n>
inline NarrowQueries<n> narrow_queries(const Attention &call, int64_t b, int64_t t, const Real *x) {
    NarrowQueries<n> queries{x, nullptr, {}, {}, {}};
    for (int r = 0; r < n; ++r) {  // past the end the last query again, whose result nobody reads
        queries.sights[r] = sight_of(call, b, t + r < call.time ? t + r : call.time - 1);
    }
    return queries;
}

// ---- a thread's workspace ----

struct Workspace {
    int64_t stride;  // of keys: a vector more than all tiles, so that rows fall into other cache sets
    Real *keys, *values, *key_rows, *key_gradient, *value_gradient;
    Real *shares, *share_gradient, *queries, *mixed, *mixed_gradient;

    static int64_t stride_for(int64_t time) { return round_up(time, tile) + vl; }
    static int64_t turned_size(int64_t time) { return stride_for(time) * width; }
    static int64_t mixed_size(int64_t time) {
        const int64_t in_rows = round_up(time, tile) * padded;
        return turned_size(time) > in_rows ? turned_size(time) : in_rows;
    }
    static int64_t size(int64_t time) {
        return 3 * turned_size(time) + 2 * mixed_size(time) + 2 * rows * stride_for(time) +
               3 * rows * padded + 16 * vl;
    }

    Workspace(Real *at, int64_t time) : stride(stride_for(time)) {
        const auto take = [&at](int64_t n) {
            Real *taken = at;
            at += round_up(n, vl);
            return taken;
        };
        keys = take(turned_size(time));
        values = take(mixed_size(time));
        key_rows = take(mixed_size(time));
        key_gradient = take(turned_size(time));
        value_gradient = take(turned_size(time));
        shares = take(rows * stride);
        share_gradient = take(rows * stride);
        queries = take(rows * padded);
        mixed = take(rows * padded);
        mixed_gradient = take(rows * padded);
    }
};

struct Workspaces {  // one for every thread, in one allocation
    Real *memory;
    int64_t size;

    explicit Workspaces(const Attention &call) : size(round_up(Workspace::size(call.time), 64)) {
        const size_t bytes = sizeof(Real) * static_cast<size_t>(size * call.n_threads);
        memory = static_cast<Real *>(std::aligned_alloc(64, bytes));
        if (memory) memset(memory, 0, bytes);  // padding is read, and must be finite
    }
    ~Workspaces() { std::free(memory); }
    Workspaces(const Workspaces &) = delete;
    Workspaces &operator=(const Workspaces &) = delete;
};

// ---- forward: one query head of one row of the batch ----

inline void attend_rows(const Attention &call, int64_t b, int64_t t, const Workspace &space,
                        Softmax *softmax) {
    if constexpr (in_one_pass) {
        for (int r = 0; r < rows && t + r < call.time; r += together) {
            auto queries = narrow_queries<together>(call, b, t + r, space.queries + r * padded);
            attend_narrow<together>(space.keys, space.values, space.stride, queries,
                                    space.mixed + r * padded, softmax + r);
        }
    } else {
        const TiledQueries queries(call, b, t);
        weigh(queries, space.keys, space.stride, space.queries, space.shares, softmax);
        Blocks::mix(space.values, space.shares, space.stride, queries.first, t + rows,
                    space.mixed);
    }
}

void forward_head(const Attention &call, const Io *qkv, Io *out, Real *log_sums, int64_t b,
                  int64_t h, const Workspace &space) {
    const Real eps = static_cast<Real>(call.eps), factor = static_cast<Real>(call.scale) * log2_e;
    const int64_t kv = h / (call.n_heads / call.n_kv_heads), time = call.time;
    const int64_t token = b * time;
    for (int64_t t = 0; t < time; ++t) {
        const Io *key = key_of(call, qkv, token + t, kv);
        const Io *value = value_of(call, qkv, token + t, kv);
        Blocks::put(key_head(call, key, b, t), space.keys, space.stride, t);
        if (in_one_pass) Blocks::put(Blocks::Head(value), space.values, space.stride, t);
        else Blocks::put_mixed(Blocks::Head(value), space.values, space.stride, t);
    }
    for (int64_t t = 0; t < time; t += rows) {
        const int64_t n = time - t < rows ? time - t : rows;
        for (int64_t r = 0; r < rows; ++r) {
            Real *query = space.queries + r * padded;
            if (r < n) {
                const Io *from = query_of(call, qkv, token + t + r, h);
                read_head(from, call.q_weight, place_of(call, b, t + r), eps, query);
            }
            if (r < n) scale_row(query, factor);
            else clear_row(query);
        }
        Softmax softmax[rows];
        attend_rows(call, b, t, space, softmax);
        for (int64_t r = 0; r < n; ++r) {
            Io *to = out + ((token + t + r) * call.n_heads + h) * width;
            narrow_head(space.mixed + r * padded, softmax[r].inverse_sum, to);
            log_sums[(b * call.n_heads + h) * time + t + r] = softmax[r].log_sum;
        }
    }
}

// ---- backward: one key head of one row of the batch, and the query heads that share it ----

struct Tensors {
    const Io *qkv, *out, *grad_out;
    const Real *log_sums;
    Io *grad_qkv;
    Real *grad_q_weight, *grad_k_weight;  // (B, H or K, E): to be summed over B and heads
};

inline void attend_rows_back(const Attention &call, int64_t b, int64_t t, const Workspace &space,
                             const Real *log_sum, const Real *mean) {
    if constexpr (in_one_pass) {
        for (int r = 0; r < rows && t + r < call.time; r += together_back) {
            const Real *x = space.queries + r * padded;
            auto queries = narrow_queries<together_back>(call, b, t + r, x);
            queries.gradient = space.mixed_gradient + r * padded;
            for (int i = 0; i < together_back; ++i) {
                queries.shift[i] = log_sum[r + i];
                queries.mean[i] = mean[r + i];
            }
            attend_narrow_back<together_back>(space.keys, space.values, space.stride, queries,
                                         space.key_gradient, space.value_gradient,
                                         space.mixed + r * padded);
        }
    } else {
        const int64_t stride = space.stride;
        const Real *queries = space.queries, *gradients = space.mixed_gradient;
        const TiledQueries seen(call, b, t);
        weigh_back(seen, space.keys, space.values, stride, queries, gradients, log_sum, mean,
                   space.shares, space.share_gradient);
        Blocks::mix(space.key_rows, space.share_gradient, stride, seen.first, t + rows,
                    space.mixed);
        Blocks::add_outer(space.value_gradient, stride, gradients, space.shares, seen.first,
                          seen.end);
        Blocks::add_outer(space.key_gradient, stride, queries, space.share_gradient, seen.first,
                          seen.end);
    }
}

void backward_query_head(const Attention &call, const Tensors &all_of, int64_t b, int64_t h,
                         const Workspace &space) {
    const Real eps = static_cast<Real>(call.eps), scale = static_cast<Real>(call.scale);
    const int64_t time = call.time, token = b * time;
    Real weight_gradient[width] = {};
    for (int64_t t = 0; t < time; t += rows) {
        const int64_t n = time - t < rows ? time - t : rows;
        Real mean[rows] = {}, log_sum[rows] = {};
        for (int64_t r = 0; r < rows; ++r) {
            Real *query = space.queries + r * padded, *gradient = space.mixed_gradient + r * padded;
            if (r < n) {
                const int64_t at = ((token + t + r) * call.n_heads + h) * width;
                const Io *from = query_of(call, all_of.qkv, token + t + r, h);
                read_head(from, call.q_weight, place_of(call, b, t + r), eps, query);
                Real mixed[padded];
                widen_head(all_of.grad_out + at, gradient);
                widen_head(all_of.out + at, mixed);
                mean[r] = dot(gradient, mixed);
                log_sum[r] = all_of.log_sums[(b * call.n_heads + h) * time + t + r];
            }
            if (r < n) scale_row(query, scale * log2_e);
            else clear_row(query), clear_row(gradient);
        }
        attend_rows_back(call, b, t, space, log_sum, mean);
        for (int64_t r = 0; r < n; ++r) {
            Real *gradient = space.mixed + r * padded;
            scale_row(gradient, scale);
            const Io *from = query_of(call, all_of.qkv, token + t + r, h);
            take_back(from, call.q_weight, place_of(call, b, t + r), eps, gradient,
                      weight_gradient);
            narrow_head(gradient, 1, query_of(call, all_of.grad_qkv, token + t + r, h));
        }
    }
    if (!call.q_weight) return;
    Real *to = all_of.grad_q_weight + (b * call.n_heads + h) * width;
    for (int d = 0; d < width; ++d) to[d] = weight_gradient[d];
}

void backward_key_head(const Attention &call, const Tensors &all_of, int64_t b, int64_t kv,
                       const Workspace &space) {
    const Real eps = static_cast<Real>(call.eps);
    const int64_t time = call.time, token = b * time, n_shared = call.n_heads / call.n_kv_heads;
    Real x[padded] = {}, weight_gradient[width] = {};
    for (int64_t t = 0; t < time; ++t) {
        const Io *key = key_of(call, all_of.qkv, token + t, kv);
        const Io *value = value_of(call, all_of.qkv, token + t, kv);
        const auto head = key_head(call, key, b, t);
        Blocks::put(head, space.keys, space.stride, t);
        if (!in_one_pass) Blocks::put_mixed(head, space.key_rows, space.stride, t);
        Blocks::put(Blocks::Head(value), space.values, space.stride, t);
    }
    const size_t bytes = sizeof(Real) * static_cast<size_t>(Workspace::turned_size(time));
    memset(space.key_gradient, 0, bytes);
    memset(space.value_gradient, 0, bytes);
    for (int64_t h = kv * n_shared; h < (kv + 1) * n_shared; ++h) {
        backward_query_head(call, all_of, b, h, space);
    }
    for (int64_t t = 0; t < time; ++t) {
        gather_head(space.value_gradient, space.stride, t, 1, x);
        narrow_head(x, 1, value_of(call, all_of.grad_qkv, token + t, kv));
        gather_head(space.key_gradient, space.stride, t, 1 / log2_e, x);  // queries carried it
        const Io *key = key_of(call, all_of.qkv, token + t, kv);
        take_back(key, call.k_weight, place_of(call, b, t), eps, x, weight_gradient);
        narrow_head(x, 1, key_of(call, all_of.grad_qkv, token + t, kv));
    }
    if (!call.k_weight) return;
    Real *to = all_of.grad_k_weight + (b * call.n_kv_heads + kv) * width;
    for (int d = 0; d < width; ++d) to[d] = weight_gradient[d];
}

}  // namespace

#if defined(_OPENMP)
#include <omp.h>
#else
static int omp_get_thread_num() { return 0; }
#endif

extern "C" int tinyllm_attention_forward(const Attention *call, const Io *qkv, Io *out,
                                         Real *log_sums) {
    const Workspaces spaces(*call);
    if (!spaces.memory) return 1;
    const int64_t n_items = call->batch * call->n_heads;
#pragma omp parallel num_threads(call->n_threads)
    {
        const Workspace space(spaces.memory + spaces.size * omp_get_thread_num(), call->time);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n_items; ++i) {
            forward_head(*call, qkv, out, log_sums, i / call->n_heads, i % call->n_heads, space);
        }
    }
    return 0;
}

extern "C" int tinyllm_attention_backward(const Attention *call, const Tensors *tensors) {
    const Workspaces spaces(*call);
    if (!spaces.memory) return 1;
    const int64_t n_items = call->batch * call->n_kv_heads;
#pragma omp parallel num_threads(call->n_threads)
    {
        const Workspace space(spaces.memory + spaces.size * omp_get_thread_num(), call->time);
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < n_items; ++i) {
            backward_key_head(*call, *tensors, i / call->n_kv_heads, i % call->n_kv_heads, space);
        }
    }
    return 0;
}
