"""The rules of `Sampling` by the processors of `transformers`, in our order."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from tinyllm.config.generation import Sampling

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers.generation import logits_process as reference


def reference_odds(
    logits: np.ndarray,
    prompt: Sequence[int],
    drawn: Sequence[int],
    sampling: Sampling,
    *,
    never: Sequence[int] = (),
    end_ids: Sequence[int] = (0,),
) -> np.ndarray:
    """Return the odds (V,) that a draw from logits (V,) follows after a prompt and drawn tokens."""
    scores = torch.tensor(logits)[None]
    scores = _banned(scores, [*prompt, *drawn], len(prompt), sampling, never, end_ids)
    history = [*prompt, *drawn] if sampling.penalize_prompt else list(drawn)
    scores = _penalized(scores, history, sampling)
    for warper in _warpers(sampling):
        scores = warper(None, scores)
    odds: np.ndarray = torch.softmax(scores.double(), dim=-1)[0].numpy()
    return odds


def _banned(scores, ids, prompt_length, sampling, never, end_ids):
    tokens = torch.tensor([ids])
    if sampling.logit_bias:
        biases = {(token_id,): float(bias) for token_id, bias in sampling.logit_bias.items()}
        scores = reference.SequenceBiasLogitsProcessor(biases)(tokens, scores)
    if never:
        scores = reference.SuppressTokensLogitsProcessor(list(never))(tokens, scores)
    if sampling.min_new_tokens:
        scores = reference.MinNewTokensLengthLogitsProcessor(
            prompt_length, sampling.min_new_tokens, list(end_ids)
        )(tokens, scores)
    return scores


def _penalized(scores, history, sampling):
    """Frequency and presence penalties, which it lacks, are as OpenAI's reference writes them."""
    recent = history[-sampling.repeat_last_n :] if sampling.repeat_last_n else history
    if sampling.repetition_penalty != 1 and recent:
        process = reference.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)
        scores = process(torch.tensor([recent]), scores)
    counts = torch.bincount(torch.tensor(recent, dtype=torch.int64), minlength=scores.shape[1])
    scores = scores - counts * sampling.frequency_penalty
    scores = scores - (counts > 0) * sampling.presence_penalty
    if sampling.no_repeat_ngram and history:
        process = reference.NoRepeatNGramLogitsProcessor(sampling.no_repeat_ngram)
        scores = process(torch.tensor([history]), scores)
    return scores


def _warpers(sampling):
    yield reference.TemperatureLogitsWarper(sampling.temperature)
    if sampling.top_k:
        yield reference.TopKLogitsWarper(sampling.top_k)
    if sampling.top_p < 1:
        yield reference.TopPLogitsWarper(sampling.top_p)
    if sampling.min_p:
        yield reference.MinPLogitsWarper(sampling.min_p)
