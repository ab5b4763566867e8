// A whole network's forward pass for new tokens, and generation without a return to Python.
//
// network.h says what is computed, packing.h how weights lie in memory, cached_attention.h how keys
// and values do. All memory belongs to the caller: nothing here allocates, nothing can fail but for
// more threads than `Scratch` has room for (returned as 1; 0 is success).

#include <algorithm>

#include "writing.h"

namespace {

template <typename Format>
void pack(const float *w, int64_t rows, int64_t columns, uint32_t *values, float *scales,
          int64_t n_threads) {
    const int64_t panel_units = count_units<Format>(columns) * panel_rows;
    const int64_t panel_scales = count_groups<Format>(columns) * panel_rows;
    with_team(n_threads, [&](const Member &member) {
        const Range mine = member.share(divided_up(rows, panel_rows));
        for (int64_t panel = mine.first; panel < mine.last; ++panel) {
            pack_panel<Format>(w, rows, columns, panel * panel_rows, values + panel * panel_units,
                               scales + panel * panel_scales);
        }
    });
}

template <typename Format> int64_t value_bytes(int64_t rows, int64_t columns) {
    return padded(rows, panel_rows) * count_units<Format>(columns) * 4;
}

template <typename Work> void with_format(int64_t format, const Work &work) {
    if (format == 0) return work(Float32Format{});
    if (format == 1) return work(Bf16Format{});
    work(Int8Format{});
}

// What writing needs beside the texts.
struct Place {
    const Model &model;
    const Cache &cache;
    char *memory;
    int64_t n_threads, n_positions;
};

// Writes on with all threads at every row. One parallel region serves all steps, unless the machine
// is busy: then some are done alone.
template <typename Format>
void write_together(const Place &place, Writing &writing, Crowd &crowd) {
    Scratch scratch;
    Batch &batch = writing.batch;
    scratch.lay_out(place.model, batch.n_tokens, place.n_threads, place.n_positions, place.memory);
    writing.begin();
    for (bool is_going = batch.n_tokens > 0; is_going;) {
        bool is_over = false;  // the run of this team
        const int64_t size = crowd.team_size(place.n_threads, batch.n_tokens);
        with_team(size, [&](const Member &member) {
            Network<Format> network(place.model, place.cache, scratch, member);
            while (!is_over) {
                network.forward(batch);
                const Range mine = member.share(batch.n_tokens);
                for (int64_t i = mine.first; i < mine.last; ++i) writing.choose_for(i);
                member.wait();
                if (member.index == 0) {
                    const bool is_lost = crowd.is_lost(*member.barrier, batch.n_tokens);
                    is_going = writing.go_on();
                    is_over = !is_going || is_lost || (member.size == 1 && place.n_threads > 1);
                }
                member.wait();
            }
        });
    }
}

// Writes group by group, each to its end; threads take them in turn.
template <typename Format>
void write_in_groups(const Place &place, const Writing &writing, const Groups &groups) {
    Scratch counted;
    const int64_t n_bytes = counted.lay_out(place.model, groups.largest(), 1, place.n_positions,
                                            nullptr);
    std::atomic<int64_t> n_taken{0};
    on_threads(std::min(place.n_threads, groups.n), [&](int64_t thread) {
        Scratch scratch;
        scratch.lay_out(place.model, groups.largest(), 1, place.n_positions,
                        place.memory + thread * n_bytes);
        Barrier barrier;
        Network<Format> network(place.model, place.cache, scratch, {0, 1, &barrier});
        for (int64_t group; (group = n_taken.fetch_add(1)) < groups.n;) {
            Writing some = writing.part(groups[group]);
            some.begin();
            do {
                network.forward(some.batch);
                for (int64_t i = 0; i < some.batch.n_tokens; ++i) some.choose_for(i);
            } while (some.go_on());
        }
    });
}

}  // namespace

extern "C" {

int64_t tinyllm_decode_panel_rows() { return panel_rows; }
int64_t tinyllm_decode_lanes() { return lanes<float>; }
int64_t tinyllm_decode_grouped_bytes() { return Groups::most_weight_bytes; }

int64_t tinyllm_decode_value_bytes(int64_t format, int64_t rows, int64_t columns) {
    int64_t bytes = 0;
    with_format(format, [&](auto f) { bytes = value_bytes<decltype(f)>(rows, columns); });
    return bytes;
}

int64_t tinyllm_decode_scale_bytes(int64_t format, int64_t rows, int64_t columns) {
    return format == 2 ? padded(rows, panel_rows) * count_groups<Int8Format>(columns) * 4 : 0;
}

void tinyllm_decode_pack(int64_t format, const float *w, int64_t rows, int64_t columns,
                         uint32_t *values, float *scales, int64_t n_threads) {
    with_format(format, [&](auto f) {
        pack<decltype(f)>(w, rows, columns, values, scales, n_threads);
    });
}

int64_t tinyllm_decode_scratch_bytes(const Model *model, int64_t n_tokens, int64_t n_threads,
                                     int64_t n_positions) {
    if (n_threads > Scratch::most_threads) return -1;
    Scratch scratch;
    const Groups groups(*model, n_tokens, n_threads);
    const int64_t for_all = scratch.lay_out(*model, n_tokens, n_threads, n_positions, nullptr);
    const int64_t for_one = scratch.lay_out(*model, groups.largest(), 1, n_positions, nullptr);
    return std::max(for_all, n_threads * for_one);
}

int64_t tinyllm_decode_forward(const Model *model, const Cache *cache, const Batch *batch,
                               char *memory, int64_t n_threads, int64_t n_positions,
                               Crowd *crowd) {
    if (n_threads > Scratch::most_threads) return 1;
    Scratch scratch;
    scratch.lay_out(*model, batch->n_tokens, n_threads, n_positions, memory);
    n_threads = crowd->team_size(n_threads, batch->n_tokens);
    with_format(model->format, [&](auto format) {
        with_team(n_threads, [&](const Member &member) {
            Network<decltype(format)>(*model, *cache, scratch, member).forward(*batch);
            if (member.index == 0) crowd->is_lost(*member.barrier, batch->n_tokens);
        });
    });
    return 0;
}

// Feeds batch->tokens and n_steps times chooses the next token of every row and feeds that; the
// last choice is not fed. `chosen` (n_tokens, n_steps) gets the choices, -1 from a row's end on;
// batch's tokens, rows and positions are used up, and `places` (n_tokens) is for bookkeeping.
int64_t tinyllm_decode_generate(const Model *model, const Cache *cache, const Batch *batch,
                                char *memory, int64_t n_threads, int64_t n_positions,
                                Crowd *crowd, int64_t n_steps, Choose choose, void *const *states,
                                int64_t *chosen, int64_t *places) {
    if (n_threads > Scratch::most_threads) return 1;
    const Place place{*model, *cache, memory, n_threads, n_positions};
    Writing writing{*batch, n_steps, model->vocab_size, choose, states, chosen, places};
    const Groups groups(*model, batch->n_tokens, n_threads);
    with_format(model->format, [&](auto format) {
        if (groups.n > 1) return write_in_groups<decltype(format)>(place, writing, groups);
        write_together<decltype(format)>(place, writing, *crowd);
    });
    return 0;
}

// Chooses the likeliest token; the state is not read.
int64_t tinyllm_decode_choose_likeliest(float *logits, int64_t vocab_size, void *) {
    Floats most = all(-INFINITY);
    int64_t i = 0;
    for (; i + lanes<float> <= vocab_size; i += lanes<float>) {
        const Floats value = load(logits + i);
        most = most > value ? most : value;
    }
    float best = largest(most);
    for (; i < vocab_size; ++i) best = best > logits[i] ? best : logits[i];
    for (i = 0; i < vocab_size; ++i) {
        if (logits[i] == best) return i;
    }
    return 0;
}

// Reads whole half kilobytes of n_bytes n_times and returns something of them: what it takes is what
// a step can hope for.
uint32_t tinyllm_decode_read(const uint32_t *memory, int64_t n_bytes, int64_t n_times,
                             int64_t n_threads) {
    constexpr int64_t together = 8;
    std::atomic<uint32_t> result{0};
    with_team(n_threads, [&](const Member &member) {
        const Range mine = member.share(n_bytes / (together * register_bytes));
        Words seen[together] = {};
        for (int64_t time = 0; time < n_times; ++time) {
            for (int64_t i = mine.first; i < mine.last; ++i) {
                const uint32_t *from = memory + i * together * lanes<float>;
                for (int64_t j = 0; j < together; ++j) {
                    seen[j] ^= from_memory<Words>(from + j * lanes<float>);
                }
            }
            for (int64_t j = 1; j < together; ++j) seen[0] ^= seen[j] + 1;
        }
        result.fetch_xor(seen[0][0] ^ seen[0][lanes<float> - 1]);
    });
    return result.load();
}
}
