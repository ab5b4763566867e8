// Choosing tokens from logits, for Python and, text by text, for native generation (decode.cpp).
//
// The reference, rule by rule, is generation/sampling.py and generation/penalties.py: bans, biases,
// penalties, temperature, top_k, top_p, min_p, draw. Logits are (n, V) float32 and are used up.
//
// A vocabulary is read a few times in vectors and never sorted as a whole. top_k keeps the likeliest
// k while reading, against the smallest of them. top_p and min_p first gather the tokens that can
// matter, then find where a share of their odds lies by halving an interval of odds; only the few
// tokens in the last interval are sorted. Exponentials of all are taken once, where they matter.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "vector.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace {

enum Outcome : int { done = 0, not_finite = 1, all_banned = 2, no_memory = 3 };

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
constexpr int64_t few = 64;      // as many tokens are sorted without a second thought
constexpr int64_t block = 512;  // numbers summed in float before they join a sum in double

}  // namespace

extern "C" {

struct Rules {
    double temperature, top_p, min_p;
    double repetition_penalty, frequency_penalty, presence_penalty;
    int64_t top_k, no_repeat_ngram, repeat_last_n, penalize_prompt, min_new_tokens;
    int64_t vocab_size;
    const int64_t *never;  // tokens that are never drawn
    int64_t n_never;
    const int64_t *ends;  // tokens that end a text
    int64_t n_ends;
    const int64_t *biased;  // tokens to whose logits a bias is added
    const float *biases;
    int64_t n_biased;
};

// Texts in the making, row by row: ids (rows, capacity) hold the prompt and what was drawn.
struct Texts {
    int64_t *ids;
    int64_t capacity;
    int64_t *lengths;
    const int64_t *prompt_lengths;
    const int64_t *limits;  // the length at which a text is full
    const uint64_t *seeds;
};

// One text that is being drawn natively; `outcome` says how the last choice went.
struct Writer {
    const Rules *rules;
    const Texts *texts;
    int64_t row, outcome;
};
}

namespace {

struct Candidate {
    float value;
    int32_t id;
};

inline bool is_ahead(const Candidate &a, const Candidate &b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// ---- reading a whole row ----

float largest_of_row(const float *x, int64_t n) {
    Floats most = all(minus_infinity);
    int64_t i = 0;
    for (; i + lanes<float> <= n; i += lanes<float>) {
        const Floats v = load(x + i);
        most = v > most ? v : most;
    }
    float result = largest(most);
    for (; i < n; ++i) result = std::max(result, x[i]);
    return result;
}

bool are_finite(const float *x, int64_t n) {
    Floats zeros{};
    int64_t i = 0;
    for (; i + lanes<float> <= n; i += lanes<float>) zeros += load(x + i) * 0.0f;
    float rest = sum(zeros);  // NaN if any number was NaN or infinite
    for (; i < n; ++i) rest += x[i] * 0.0f;
    return rest == 0.0f;
}

int64_t first_of_largest(const float *x, int64_t n) {
    const float most = largest_of_row(x, n);
    return std::find(x, x + n, most) - x;
}

// What turns logits into odds relative to the likeliest token's: e^((x - most) / temperature).
struct Scale {
    float most, factor;

    Floats operator()(Floats x) const { return vexp_of_negative((x - most) * factor); }
    double exactly(float x) const {
        return std::exp((static_cast<double>(x) - most) * static_cast<double>(factor));
    }
};

// Replace at most `block` logits by their odds; returns the sum.
double to_odds(float *x, int64_t n, const Scale &scale) {
    Floats total{};
    int64_t i = 0;
    for (; i + lanes<float> <= n; i += lanes<float>) {
        const Floats odds = scale(load(x + i));
        store(x + i, odds);
        total += odds;
    }
    double result = sum(total);
    for (; i < n; ++i) {
        x[i] = static_cast<float>(scale.exactly(x[i]));
        result += x[i];
    }
    return result;
}

// The k largest in falling order, equal ones by id.
void find_likeliest(const float *x, int64_t n, int64_t k, std::vector<Candidate> &found) {
    constexpr int64_t stretch = 4 * lanes<float>;
    const size_t wanted = static_cast<size_t>(k), room = 2 * wanted + 64;
    float mark = minus_infinity;  // what a newcomer must exceed
    found.clear();
    found.reserve(room + stretch);
    for (int64_t i = 0; i < n; i += stretch) {
        const int64_t end = std::min(n, i + stretch);
        if (end - i == stretch && largest_of_row(x + i, stretch) <= mark &&
            found.size() >= wanted) {
            continue;
        }
        for (int64_t j = i; j < end; ++j) {
            if (x[j] > mark || found.size() < wanted) {
                found.push_back({x[j], static_cast<int32_t>(j)});
            }
        }
        if (found.size() >= room) {
            std::nth_element(found.begin(), found.begin() + (k - 1), found.end(), is_ahead);
            found.resize(wanted);
            mark = found.back().value;
        }
    }
    const size_t kept = std::min(wanted, found.size());
    std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(kept), found.end(),
                      is_ahead);
    found.resize(kept);
}

// ---- what has been written ----

struct History {
    const int64_t *ids;
    int64_t n;
};

// Counts tokens; `seen` lists those whose count is not 0, each once.
struct Tally {
    std::vector<int32_t> counts;
    std::vector<int64_t> seen;

    explicit Tally(int64_t vocab_size) : counts(static_cast<size_t>(vocab_size)) {}

    void add(int64_t id) {
        if (id < 0 || id >= static_cast<int64_t>(counts.size())) return;
        if (counts[static_cast<size_t>(id)]++ == 0) seen.push_back(id);
    }
};

void penalize_seen(const Rules &rules, const History &history, float *x) {
    Tally tally(rules.vocab_size);
    const bool is_cut = rules.repeat_last_n > 0 && rules.repeat_last_n < history.n;
    const int64_t first = is_cut ? history.n - rules.repeat_last_n : 0;
    for (int64_t i = first; i < history.n; ++i) tally.add(history.ids[i]);
    const float factor = static_cast<float>(rules.repetition_penalty);
    for (const int64_t id : tally.seen) {
        float &value = x[id];
        if (factor != 1.0f) value = value > 0 ? value / factor : value * factor;
        const double n = tally.counts[static_cast<size_t>(id)];
        value -= static_cast<float>(rules.frequency_penalty * n + rules.presence_penalty);
    }
}

void ban_repeated_ngrams(const Rules &rules, const History &history, float *x) {
    const int64_t n = rules.no_repeat_ngram, n_tail = n - 1;
    if (history.n < n) return;
    Tally followers(rules.vocab_size);
    const int64_t *tail = history.ids + history.n - n_tail;
    for (int64_t i = 0; i + n <= history.n; ++i) {
        if (std::equal(tail, tail + n_tail, history.ids + i)) followers.add(history.ids[i + n_tail]);
    }
    int64_t n_allowed = 0;
    for (int64_t i = 0; i < rules.vocab_size; ++i) {
        n_allowed += x[i] > minus_infinity && followers.counts[static_cast<size_t>(i)] == 0;
    }
    if (n_allowed == 0) return;
    for (const int64_t id : followers.seen) x[id] = minus_infinity;
}

// ---- the draw ----

double uniform(uint64_t seed, uint64_t index) {
    uint64_t x = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

// Draw from all tokens in the order of their ids.
int64_t draw_from_all(float *x, int64_t n, const Scale &scale, double number) {
    std::vector<double> sums;
    double total = 0;
    for (int64_t i = 0; i < n; i += block) {
        total += to_odds(x + i, std::min(block, n - i), scale);
        sums.push_back(total);
    }
    const double mark = number * total;
    const int64_t part = std::upper_bound(sums.begin(), sums.end(), mark) - sums.begin();
    const int64_t begin = std::min(part, static_cast<int64_t>(sums.size()) - 1) * block;
    double cumulative = begin == 0 ? 0 : sums[static_cast<size_t>(begin / block - 1)];
    int64_t last = begin;
    for (int64_t i = begin; i < std::min(n, begin + block); ++i) {
        if (x[i] > 0) last = i;
        cumulative += x[i];
        if (cumulative > mark) return i;
    }
    return last;
}

// Draw from the k likeliest, of which top_p and min_p may leave fewer.
int64_t draw_from_likeliest(const Rules &rules, const float *x, const Scale &scale,
                            double number) {
    std::vector<Candidate> candidates;
    find_likeliest(x, rules.vocab_size, rules.top_k, candidates);
    std::vector<double> odds;
    double total = 0;
    for (const Candidate &one : candidates) {
        odds.push_back(scale.exactly(one.value));
        total += odds.back();
    }
    size_t n_kept = 0;
    double kept = 0;
    for (; n_kept < odds.size(); ++n_kept) {
        const bool is_cut = (rules.top_p < 1 && kept >= rules.top_p * total) ||
                            odds[n_kept] < rules.min_p * odds[0];
        if (n_kept > 0 && is_cut) break;
        kept += odds[n_kept];
    }
    const double mark = number * kept;
    double cumulative = 0;
    size_t last = 0;
    for (size_t i = 0; i < n_kept; ++i) {
        if (odds[i] > 0) last = i;
        cumulative += odds[i];
        if (cumulative > mark) return candidates[i].id;
    }
    return candidates[last].id;
}

// The odds of some tokens, in the order of their ids.
struct Gathered {
    std::unique_ptr<float[]> odds;  // left as it comes: clearing would cost as much as reading
    std::unique_ptr<int32_t[]> ids;
    int64_t n = 0;

    // Takes those of n_all tokens whose odds are above `low` and at most `high`. Without
    // `from_ids` a token's id is its place.
    Gathered(const float *from, const int32_t *from_ids, int64_t n_all, float low, float high)
        : odds(new float[static_cast<size_t>(n_all + lanes<float>)]),
          ids(new int32_t[static_cast<size_t>(n_all + lanes<float>)]) {
        int64_t i = 0;
#if defined(__AVX512F__)
        const __m512i lane = same_bits<__m512i>(lane_numbers<float>());
        for (; i + 16 <= n_all; i += 16) {
            const __m512 values = _mm512_loadu_ps(from + i);
            const __m512i places = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(i)));
            const __m512i numbers =
                from_ids == nullptr ? places : _mm512_loadu_si512(from_ids + i);
            const __mmask16 taken = _mm512_cmp_ps_mask(values, _mm512_set1_ps(low), _CMP_GT_OQ) &
                                    _mm512_cmp_ps_mask(values, _mm512_set1_ps(high), _CMP_LE_OQ);
            _mm512_storeu_ps(&odds[n], _mm512_maskz_compress_ps(taken, values));
            _mm512_storeu_si512(&ids[n], _mm512_maskz_compress_epi32(taken, numbers));
            n += __builtin_popcount(taken);
        }
#endif
        for (; i < n_all; ++i) {
            odds[n] = from[i];
            ids[n] = from_ids == nullptr ? static_cast<int32_t>(i) : from_ids[i];
            n += from[i] > low && from[i] <= high;
        }
    }

    struct Above {
        double mass;
        int64_t count;
    };

    // The tokens whose odds are greater than `mark`.
    Above above(float mark) const {
        Above result{0, 0};
        int64_t i = 0;
        for (int64_t end; (end = std::min(n, i + block)) - i >= lanes<float>;) {
            Floats mass{};
            Integers<float> counts{};
            for (; i + lanes<float> <= end; i += lanes<float>) {
                const Floats v = load(&odds[i]);
                mass += v > mark ? v : Floats{};
                counts -= v > mark;
            }
            result.mass += sum(mass);
            for (int lane = 0; lane < lanes<float>; ++lane) result.count += counts[lane];
        }
        for (; i < n; ++i) {
            const float v = odds[i];
            if (v > mark) result.mass += v, ++result.count;
        }
        return result;
    }

    struct Found {
        int64_t id;
        double mass;  // of the token and all that are ahead of it
    };

    // The token on which a mark falls when odds are laid end to end, the likeliest first. All odds
    // here lie above `low` and at most at `high`, as the bits of floats, which order as the floats
    // do; `ahead` is the mass that lies before them.
    Found at(double mark, uint32_t low, uint32_t high, double ahead) const {
        Above above_low{0, n}, above_high{0, 0};
        int64_t n_between = n;
        while (n_between > few && high - low > 1) {
            if (2 * n_between <= n) {
                return between(low, high).at(mark, low, high, ahead + above_high.mass);
            }
            const uint32_t middle = low + (high - low) / 2;
            const Above found = above(same_bits<float>(middle));
            const bool is_likelier = ahead + found.mass > mark;
            (is_likelier ? low : high) = middle;
            (is_likelier ? above_low : above_high) = found;
            n_between = above_low.count - above_high.count;
        }
        const Gathered rest = between(low, high);
        std::vector<Candidate> sorted;
        for (int64_t i = 0; i < rest.n; ++i) sorted.push_back({rest.odds[i], rest.ids[i]});
        std::sort(sorted.begin(), sorted.end(), is_ahead);
        double mass = ahead + above_high.mass;
        for (const Candidate &one : sorted) {
            mass += one.value;
            if (mass > mark) return {one.id, mass};
        }
        return {sorted.empty() ? ids[0] : sorted.back().id, mass};
    }

    Gathered between(uint32_t low, uint32_t high) const {
        return {odds.get(), ids.get(), n, same_bits<float>(low), same_bits<float>(high)};
    }
};

// Draw from what top_p and min_p leave of all tokens.
int64_t draw_from_share(const Rules &rules, float *x, const Scale &scale, double number) {
    const int64_t n = rules.vocab_size;
    double total = 0;
    for (int64_t i = 0; i < n; i += block) total += to_odds(x + i, std::min(block, n - i), scale);
    // All tokens below this together have less than what top_p leaves out.
    const double spare = (1 - rules.top_p) * total / static_cast<double>(n);
    const float least = static_cast<float>(std::max({rules.min_p, spare * (1 - 1e-6), 1e-37}));
    const uint32_t high = same_bits<uint32_t>(1.0f), low = same_bits<uint32_t>(least) - 1;
    const Gathered gathered(x, nullptr, n, same_bits<float>(low), 1.0f);
    if (gathered.n == 0) return 0;  // penalties overflowed: no odds are numbers
    double kept = gathered.above(0).mass;
    if (rules.top_p < 1) kept = std::min(kept, gathered.at(rules.top_p * total, low, high, 0).mass);
    return gathered.at(number * kept, low, high, 0).id;
}

int64_t draw(const Rules &rules, float *x, double number) {
    const int64_t n = rules.vocab_size;
    // An infinite factor would turn the likeliest token's odds into NaN.
    constexpr double most_factor = std::numeric_limits<float>::max();
    const double factor = std::min(1 / rules.temperature, most_factor);
    const Scale scale{largest_of_row(x, n), static_cast<float>(factor)};
    if (rules.top_k > 0 && rules.top_k < n) return draw_from_likeliest(rules, x, scale, number);
    if (rules.top_p < 1 || rules.min_p > 0) return draw_from_share(rules, x, scale, number);
    return draw_from_all(x, n, scale, number);
}

Outcome choose_of(const Rules &rules, const Texts &texts, int64_t row, float *x, int64_t &chosen) {
    const int64_t n = rules.vocab_size;
    if (!are_finite(x, n)) return not_finite;
    const int64_t prompt_length = texts.prompt_lengths[row];
    const int64_t n_drawn = texts.lengths[row] - prompt_length;
    for (int64_t i = 0; i < rules.n_biased; ++i) x[rules.biased[i]] += rules.biases[i];
    for (int64_t i = 0; i < rules.n_never; ++i) x[rules.never[i]] = minus_infinity;
    if (n_drawn < rules.min_new_tokens) {
        for (int64_t i = 0; i < rules.n_ends; ++i) x[rules.ends[i]] = minus_infinity;
    }
    if (rules.n_never + rules.n_ends >= n && largest_of_row(x, n) == minus_infinity) return all_banned;
    const int64_t first = rules.penalize_prompt ? 0 : prompt_length;
    const History history{texts.ids + row * texts.capacity + first, texts.lengths[row] - first};
    if (rules.repetition_penalty != 1 || rules.frequency_penalty != 0 ||
        rules.presence_penalty != 0) {
        penalize_seen(rules, history, x);
    }
    if (rules.no_repeat_ngram > 0) ban_repeated_ngrams(rules, history, x);
    if (rules.temperature == 0) {
        chosen = first_of_largest(x, n);
        return done;
    }
    chosen = draw(rules, x, uniform(texts.seeds[row], static_cast<uint64_t>(n_drawn)));
    return done;
}

int choose(const Rules &rules, const Texts &texts, int64_t row, float *x, int64_t &chosen) {
    try {
        return choose_of(rules, texts, row, x, chosen);
    } catch (const std::bad_alloc &) {
        return no_memory;
    }
}

}  // namespace

extern "C" {

int64_t tinyllm_default_threads() {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

// Choose a token for each of n rows of the texts from logits (n, V). Returns an Outcome.
int tinyllm_sample(const Rules *rules, const Texts *texts, const int64_t *rows, int64_t n,
                   float *logits, int64_t *chosen, int64_t n_threads) {
    int worst = done;
    const int n_used = static_cast<int>(std::max<int64_t>(1, std::min(n, n_threads)));
    (void)n_used;
#pragma omp parallel for num_threads(n_used) schedule(dynamic) reduction(max : worst) if (n_used > 1)
    for (int64_t i = 0; i < n; ++i) {
        float *x = logits + i * rules->vocab_size;
        const int outcome = choose(*rules, *texts, rows[i], x, chosen[i]);
        worst = std::max(worst, outcome);
    }
    return worst;
}

// Choose the next token of one text and write it down. Returns the token, or -1 when nothing
// follows it: after an end token, when the text is full, and when the outcome is not `done`.
int64_t tinyllm_write(float *logits, int64_t, void *state) {
    auto &writer = *static_cast<Writer *>(state);
    const Texts &texts = *writer.texts;
    int64_t chosen = -1;
    writer.outcome = choose(*writer.rules, texts, writer.row, logits, chosen);
    if (writer.outcome != done) return -1;
    const int64_t length = texts.lengths[writer.row]++;
    texts.ids[writer.row * texts.capacity + length] = chosen;
    const Rules &rules = *writer.rules;
    const bool is_end = std::find(rules.ends, rules.ends + rules.n_ends, chosen) !=
                        rules.ends + rules.n_ends;
    return is_end || length + 1 >= texts.limits[writer.row] ? -1 : chosen;
}
}
