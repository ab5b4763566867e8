// The network on the processor: embed, layers, norm, head, for a batch of new tokens.
//
// A batch is any number of tokens, each with the cache row it continues and its position in it: one
// token of one row is a step, one token of many rows a batched step, many tokens of one row a
// prefill. All threads of a team run `forward` together; they meet after every product. With one
// token, what comes between products is done by every thread for itself, without a meeting.

#pragma once

#include <cmath>
#include <cstdint>

#include "cached_attention.h"
#include "panels.h"
#include "rows.h"

struct Layer {
    // q, k and v below each other, each padded to whole panels; so are gate and up
    Matrix qkv, output, up, down;
    const float *attention_norm, *attention_norm_bias, *q_norm, *k_norm;
    const float *qkv_bias;  // in the order and with the gaps of qkv, or NULL
    const float *output_bias;
    const float *mlp_norm, *mlp_norm_bias, *up_bias, *down_bias;
};

struct Model {
    int64_t format;  // 0 float32, 1 bf16, 2 int8
    int64_t is_neo;
    int64_t vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size;
    int64_t window;  // of local layers
    int64_t weight_bytes;  // of all matrices
    float norm_eps, attention_scale;
    const float *embeddings, *positions;  // (V, D); (context, D) or NULL
    const float *cosines, *sines;         // (context, E / 2) or NULL
    const float *norm, *norm_bias;
    Matrix head;
    const Layer *layers;

    int64_t q_width() const { return n_heads * head_dim; }
    int64_t k_offset() const { return padded(q_width(), panel_rows); }
    int64_t v_offset() const { return k_offset() + padded(n_kv_heads * head_dim, panel_rows); }
    int64_t up_offset() const { return is_neo ? 0 : padded(intermediate_size, panel_rows); }
};

struct Cache {  // values[row][layer][key or value][head][block][E][lane]
    float *values;
    int64_t n_blocks;

    HeadCache head(const Model &model, int64_t row, int64_t layer, int64_t head) const {
        const int64_t size = n_blocks * model.head_dim * lanes<float>;
        const int64_t index = (row * model.n_layers + layer) * 2 * model.n_kv_heads + head;
        float *keys = values + index * size;
        return {keys, keys + model.n_kv_heads * size, model.head_dim};
    }
};

struct Batch {
    int64_t n_tokens;
    const int64_t *tokens, *rows, *positions;  // (n_tokens,)
    int64_t n_outputs;
    const int64_t *outputs;  // (n_outputs,): which tokens' logits are wanted
    float *logits;           // (n_outputs, V)
};

// Memory between the products; `own` is one thread's.
struct Scratch {
    static constexpr int64_t most_threads = 64;
    struct Own {
        float *row, *query, *scores;
        Activations packed;
    };
    float *x, *qkv, *mixed, *hidden;
    int64_t x_stride, qkv_stride, mixed_stride, hidden_stride, scores_stride;
    Activations packed;
    Own own[most_threads];

    // Lays the parts out from `base` on (which may be NULL, to count) and returns their bytes.
    int64_t lay_out(const Model &model, int64_t n_tokens, int64_t n_threads, int64_t n_positions,
                    char *base) {
        int64_t used = 0;
        const auto floats = [&](int64_t n) {
            float *part = reinterpret_cast<float *>(base == nullptr ? nullptr : base + used);
            used += padded(n * 4, 64);
            return part;
        };
        const auto aligned = [](int64_t n) { return padded(n, panel_rows); };
        const int64_t widest = aligned(largest_width(model));
        const auto activations = [&](int64_t n) {
            const int64_t groups = n * divided_up(widest, group_values);
            auto *values = reinterpret_cast<uint32_t *>(floats(n * widest));
            float *scales = floats(groups);
            return Activations{values, scales, reinterpret_cast<int32_t *>(floats(groups)), n};
        };
        x_stride = aligned(model.hidden_size);
        qkv_stride = model.v_offset() + aligned(model.n_kv_heads * model.head_dim);
        mixed_stride = aligned(model.q_width());
        hidden_stride = model.up_offset() + aligned(model.intermediate_size);
        scores_stride = padded(n_positions, lanes<float>);
        x = floats(n_tokens * x_stride);
        qkv = floats(n_tokens * qkv_stride);
        mixed = floats(n_tokens * mixed_stride);
        hidden = floats(n_tokens * hidden_stride);
        packed = activations(n_tokens);
        for (int64_t i = 0; i < n_threads; ++i) {
            own[i].row = floats(widest);
            own[i].query = floats(most_queries * model.head_dim);
            own[i].scores = floats(most_queries * scores_stride);
            own[i].packed = activations(1);
            used += 64;  // no cache line is shared
        }
        return used;
    }

    static int64_t largest_width(const Model &model) {
        int64_t most = model.hidden_size > model.q_width() ? model.hidden_size : model.q_width();
        return most > model.intermediate_size ? most : model.intermediate_size;
    }
};

template <typename Format> class Network {
  public:
    Network(const Model &model, const Cache &cache, Scratch &scratch, const Member &member)
        : model_(model), cache_(cache), scratch_(scratch), member_(member) {}

    void forward(const Batch &batch) {
        embed(batch);
        for (int64_t i = 0; i < model_.n_layers; ++i) {
            const Layer &layer = model_.layers[i];
            const Activations &normed = activations(batch.n_tokens, model_.hidden_size, [&](auto t) {
                return normalised(t, layer.attention_norm, layer.attention_norm_bias);
            });
            product(layer.qkv, normed, {scratch_.qkv, scratch_.qkv_stride, layer.qkv_bias, false});
            member_.wait();
            attention(batch, i);
            member_.wait();
            const Activations &mixed = activations(batch.n_tokens, model_.q_width(), [&](auto t) {
                return scratch_.mixed + t * scratch_.mixed_stride;
            });
            product(layer.output, mixed, {scratch_.x, scratch_.x_stride, layer.output_bias, true});
            member_.wait();
            feed_forward(batch.n_tokens, layer);
        }
        if (batch.n_outputs == 0) return;
        const Activations &last = activations(batch.n_outputs, model_.hidden_size, [&](auto t) {
            return normalised(batch.outputs[t], model_.norm, model_.norm_bias);
        });
        product(model_.head, last, {batch.logits, model_.vocab_size, nullptr, false});
        member_.wait();
    }

  private:
    const Model &model_;
    const Cache &cache_;
    Scratch &scratch_;
    const Member member_;

    Scratch::Own &own() { return scratch_.own[member_.index]; }

    void embed(const Batch &batch) {
        const int64_t width = model_.hidden_size;
        const Range mine = member_.share(batch.n_tokens);
        for (int64_t t = mine.first; t < mine.last; ++t) {
            float *x = scratch_.x + t * scratch_.x_stride;
            const float *embedding = model_.embeddings + batch.tokens[t] * width;
            memcpy(x, embedding, static_cast<size_t>(width) * 4);
            if (model_.positions == nullptr) continue;
            const float *position = model_.positions + batch.positions[t] * width;
            for (int64_t i = 0; i < width; ++i) x[i] += position[i];
        }
        member_.wait();
    }

    const float *normalised(int64_t token, const float *weight, const float *bias) {
        const float *x = scratch_.x + token * scratch_.x_stride;
        if (bias == nullptr) {
            rms_norm(x, model_.hidden_size, model_.norm_eps, weight, own().row);
        } else {
            layer_norm(x, model_.hidden_size, model_.norm_eps, weight, bias, own().row);
        }
        return own().row;
    }

    // Packs row(t) for every token: each thread for itself when there is but one, else in shares.
    template <typename Row>
    const Activations &activations(int64_t n_tokens, int64_t columns, const Row &row) {
        if (n_tokens == 1) {
            own().packed.n_tokens = 1;
            pack_token<Format>(row(int64_t{0}), columns, own().packed, 0);
            return own().packed;
        }
        if (member_.index == 0) scratch_.packed.n_tokens = n_tokens;
        Activations packed = scratch_.packed;
        packed.n_tokens = n_tokens;
        const Range mine = member_.share(n_tokens);
        for (int64_t t = mine.first; t < mine.last; ++t) {
            pack_token<Format>(row(t), columns, packed, t);
        }
        member_.wait();
        return scratch_.packed;
    }

    void product(const Matrix &w, const Activations &x, const Output &y) {
        multiply<Format>(w, member_.share(divided_up(w.rows, panel_rows)), x, y);
    }

    void feed_forward(int64_t n_tokens, const Layer &layer) {
        const Activations &normed = activations(n_tokens, model_.hidden_size, [&](auto t) {
            return normalised(t, layer.mlp_norm, layer.mlp_norm_bias);
        });
        const int64_t gap = model_.up_offset(), gap_panels = gap / panel_rows;
        const Range mine = member_.share(divided_up(model_.intermediate_size, panel_rows));
        const Output hidden{scratch_.hidden, scratch_.hidden_stride, layer.up_bias, false};
        multiply<Format>(layer.up, mine, normed, hidden);
        if (gap > 0) {
            const Range partners{mine.first + gap_panels, mine.last + gap_panels};
            multiply<Format>(layer.up, partners, normed, hidden);
        }
        for (int64_t t = 0; t < n_tokens; ++t) {
            activate(scratch_.hidden + t * scratch_.hidden_stride, mine.first * panel_rows,
                     mine.last * panel_rows, gap);
        }
        member_.wait();
        const Activations &activated = activations(n_tokens, model_.intermediate_size, [&](auto t) {
            return scratch_.hidden + t * scratch_.hidden_stride;
        });
        product(layer.down, activated, {scratch_.x, scratch_.x_stride, layer.down_bias, true});
        member_.wait();
    }

    // Units are (key/value head, token): a thread writes the keys of its units and then, when no
    // row has more than one new token, needs nobody else's.
    void attention(const Batch &batch, int64_t layer) {
        const Range mine = member_.share(model_.n_kv_heads * batch.n_tokens);
        bool is_row_repeated = false;
        for (int64_t t = 1; t < batch.n_tokens; ++t) {
            is_row_repeated |= batch.rows[t] == batch.rows[t - 1];
        }
        for (int64_t unit = mine.first; unit < mine.last; ++unit) {
            remember(batch, layer, unit / batch.n_tokens, unit % batch.n_tokens);
        }
        if (is_row_repeated) member_.wait();
        for (int64_t unit = mine.first; unit < mine.last;) {
            const int64_t head = unit / batch.n_tokens, token = unit % batch.n_tokens;
            const int64_t rest = batch.n_tokens - token, left = mine.last - unit;
            const int64_t most = rest < left ? rest : left;
            int64_t n = 1;
            while (n < most && n < most_queries && batch.rows[token + n] == batch.rows[token]) ++n;
            look_back(batch, layer, head, token, n);
            unit += n;
        }
    }

    void place(float *head, const float *norm, int64_t position) {
        const int64_t width = model_.head_dim;
        if (norm != nullptr) rms_norm(head, width, model_.norm_eps, norm, head);
        if (model_.cosines == nullptr) return;
        const int64_t angles = position * (width / 2);
        rotate(head, width, model_.cosines + angles, model_.sines + angles);
    }

    // Writes one token's key and value of one head into the cache.
    void remember(const Batch &batch, int64_t layer, int64_t head, int64_t token) {
        const int64_t width = model_.head_dim, position = batch.positions[token];
        float *qkv = scratch_.qkv + token * scratch_.qkv_stride + head * width;
        float *key = qkv + model_.k_offset();
        const float *value = qkv + model_.v_offset();
        place(key, model_.layers[layer].k_norm, position);
        const HeadCache cache = cache_.head(model_, batch.rows[token], layer, head);
        for (int64_t e = 0; e < width; ++e) {
            const int64_t at = cache.place(position, e);
            cache.keys[at] = key[e];
            cache.values[at] = value[e];
        }
    }

    // Attends the query heads that share one key/value head, for n tokens of one row.
    void look_back(const Batch &batch, int64_t layer, int64_t head, int64_t token, int64_t n) {
        const int64_t width = model_.head_dim, group = model_.n_heads / model_.n_kv_heads;
        const bool is_local = model_.is_neo && layer % 2 == 1;
        const int64_t window = is_local ? model_.window : INT64_MAX / 2;
        const HeadCache cache = cache_.head(model_, batch.rows[token], layer, head);
        for (int64_t i = head * group; i < (head + 1) * group; ++i) {
            float *q = scratch_.qkv + token * scratch_.qkv_stride + i * width;
            for (int64_t t = 0; t < n; ++t) {
                place(q + t * scratch_.qkv_stride, model_.layers[layer].q_norm,
                      batch.positions[token + t]);
            }
            const Queries queries{q, scratch_.qkv_stride, batch.positions[token], window,
                                  scratch_.mixed + token * scratch_.mixed_stride + i * width,
                                  scratch_.mixed_stride, model_.attention_scale};
            attend(n, queries, cache, own().scores, scratch_.scores_stride);
        }
    }
};
