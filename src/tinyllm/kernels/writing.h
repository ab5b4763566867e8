// Texts that native code writes on: which tokens come next, and which rows are still at it.

#pragma once

#include <cstdint>

#include "network.h"

// Picks a token from logits (vocab,), which it may change; negative ends the row.
typedef int64_t (*Choose)(float *logits, int64_t vocab_size, void *state);

// The rows of a batch, or some of them side by side, that write n_steps tokens each. The batch's
// tokens, rows and positions are used up.
struct Writing {
    Batch batch;
    int64_t n_steps, vocab_size;
    Choose choose;
    void *const *states;
    int64_t *chosen;  // (n_tokens, n_steps): -1 from a row's end on
    int64_t *places;  // (n_tokens,): of the rows that go on, where they began
    int64_t step = 0;

    Writing part(Range range) const {
        Writing some = *this;
        some.batch.n_tokens = some.batch.n_outputs = range.last - range.first;
        some.batch.tokens += range.first;
        some.batch.rows += range.first;
        some.batch.positions += range.first;
        some.batch.logits += range.first * vocab_size;
        some.states += range.first;
        some.chosen += range.first * n_steps;
        some.places += range.first;
        return some;
    }

    void begin() {
        for (int64_t i = 0; i < batch.n_tokens * n_steps; ++i) chosen[i] = -1;
        for (int64_t i = 0; i < batch.n_tokens; ++i) places[i] = i;
    }

    void choose_for(int64_t i) const {
        const int64_t place = places[i];
        float *logits = batch.logits + i * vocab_size;
        chosen[place * n_steps + step] = choose(logits, vocab_size, states[place]);
    }

    // Goes on to the next step, with the rows that have one; false when there are none.
    bool go_on() {
        auto *tokens = const_cast<int64_t *>(batch.tokens);
        auto *rows = const_cast<int64_t *>(batch.rows);
        auto *positions = const_cast<int64_t *>(batch.positions);
        int64_t kept = 0;
        for (int64_t i = 0; i < batch.n_tokens; ++i) {
            const int64_t token = chosen[places[i] * n_steps + step];
            if (token < 0) continue;
            tokens[kept] = token;
            rows[kept] = rows[i];
            positions[kept] = positions[i] + 1;
            places[kept++] = places[i];
        }
        batch.n_tokens = batch.n_outputs = kept;
        return ++step < n_steps && kept > 0;
    }
};

// Groups of rows that write by themselves, one thread each: nobody meets anybody before the end, and
// the keys and values of a group stay near: those of 14 rows do, those of 28 already less. Only for
// weights that every group finds in the cache.
struct Groups {
    static constexpr int64_t most_rows = padded(12, tile_tokens), least_rows = tile_tokens / 2;
    static constexpr int64_t most_weight_bytes = 16 * 1024 * 1024;
    int64_t n_rows, n;

    Groups(const Model &model, int64_t n_rows, int64_t n_threads) : n_rows(n_rows), n(1) {
        if (n_rows < 2 * least_rows || model.weight_bytes > most_weight_bytes) return;
        n = padded(divided_up(n_rows, most_rows), n_threads);
        if (n_rows < n * least_rows) n = divided_up(n_rows, most_rows);
    }

    int64_t largest() const { return divided_up(n_rows, n); }
    Range operator[](int64_t i) const { return {n_rows * i / n, n_rows * (i + 1) / n}; }
};
