"""Empirical frequencies of each rule follow the exact odds, natively and in numpy."""

import numpy as np
import pytest
from scipy import stats

from tests.generation.reference_rules import reference_odds
from tinyllm.config.generation import Sampling
from tinyllm.generation.sampler import Sampler
from tinyllm.generation.texts import TextTable
from tinyllm.kernels import build
from tinyllm.seeding import derive_seed

N_DRAWS = 20_000
VOCAB_SIZE = 12
PROMPT = (1, 2, 3, 1, 2)
DRAWN = (4, 5, 4, 6, 5, 7, 4, 5)
ENDS = (0, 9)


def plain(**rules: object) -> Sampling:
    """Settings in which nothing is on but these rules."""
    return Sampling.model_validate({"temperature": 1.0, "top_p": 1.0} | rules)


RULES = {
    "none": plain(),
    "cold": plain(temperature=0.5),
    "hot": plain(temperature=1.7),
    "top_k": plain(top_k=4),
    "top_p": plain(top_p=0.7),
    "min_p": plain(min_p=0.2),
    "repetition": plain(repetition_penalty=1.6),
    "repetition of the prompt too": plain(repetition_penalty=1.6, penalize_prompt=True),
    "frequency": plain(frequency_penalty=0.45),
    "presence": plain(presence_penalty=1.1),
    "window": plain(repetition_penalty=1.8, frequency_penalty=0.7, repeat_last_n=3),
    "bias": plain(logit_bias={3: 2.5, 4: -100.0, 0: -1.0}),
    "ngram": plain(no_repeat_ngram=2),
    "ends too early": plain(min_new_tokens=9),
    "all": plain(
        temperature=1.2,
        top_k=9,
        top_p=0.95,
        min_p=0.01,
        repetition_penalty=1.1,
        frequency_penalty=0.1,
        presence_penalty=0.2,
        repeat_last_n=5,
        no_repeat_ngram=3,
        logit_bias={8: 1.0},
        min_new_tokens=9,
    ),
}


def draws(logits: np.ndarray, sampling: Sampling, *, native: bool, never: list[int]) -> list[int]:
    """Draw the next token of many texts that hold the same and differ in their seeds."""
    sampler = Sampler(
        sampling, vocab_size=VOCAB_SIZE, end_id=0, never=np.array(never, np.int64), ends=ENDS
    )
    if not native:
        sampler._native = None
    seeds = [derive_seed(3, "sample", i) for i in range(N_DRAWS)]
    texts = TextTable([PROMPT] * N_DRAWS, [32] * N_DRAWS, seeds)
    rows = np.arange(N_DRAWS)
    for token in DRAWN:
        texts.append(rows, np.full(N_DRAWS, token))
    chosen: list[int] = sampler.choose(
        np.repeat(logits[None], N_DRAWS, axis=0), texts, rows
    ).tolist()
    return chosen


@pytest.mark.parametrize("native", [False, True], ids=["numpy", "native"])
@pytest.mark.parametrize("is_banned", [False, True], ids=["free", "banned"])
@pytest.mark.parametrize("name", RULES)
def test_frequencies_follow_the_exact_odds(name, is_banned, native):
    if native and not build.available():
        pytest.skip("needs a C++ compiler (Debian: g++)")
    never = [2, 10] if is_banned else []
    logits = np.random.default_rng(11).standard_normal(VOCAB_SIZE).astype(np.float32) * 1.5
    expected = reference_odds(logits, PROMPT, DRAWN, RULES[name], never=never, end_ids=ENDS)
    drawn = draws(logits, RULES[name], native=native, never=never)
    counts = np.bincount(drawn, minlength=VOCAB_SIZE)
    possible = expected * N_DRAWS >= 5  # where the statistic means something
    assert counts[expected == 0].sum() == 0
    observed = [*counts[possible], counts[~possible].sum()]
    wanted = [*(expected[possible] * N_DRAWS), expected[~possible].sum() * N_DRAWS]
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    assert len(wanted) > 1
    assert stats.chisquare(observed, np.array(wanted) * N_DRAWS / sum(wanted)).pvalue > 1e-4


def test_each_rule_changes_the_odds():
    logits = np.random.default_rng(11).standard_normal(VOCAB_SIZE).astype(np.float32) * 1.5
    odds = {
        name: reference_odds(logits, PROMPT, DRAWN, rules, end_ids=ENDS)
        for name, rules in RULES.items()
    }
    for name, found in odds.items():
        others = [odds[other] for other in odds if other != name]
        assert all(np.abs(found - other).max() > 0.005 for other in others), name
