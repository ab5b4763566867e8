"""How long to wait after a failure that names no time: full jitter, and never nothing."""

from random import Random

from tinyllm.config.providers import Retries

_LEAST_SHARE = 0.25


def backoff_seconds(n_failures: int, retries: Retries, random: Random) -> float:
    """Draw the wait after the n-th failure in a row (from 1).

    Evenly from nothing to a bound that doubles (full jitter, Brooker 2015), but never below a
    quarter of the first bound: a server that is down is not hammered.
    """
    bound = min(retries.longest_seconds, retries.base_seconds * 2.0 ** min(n_failures - 1, 30))
    return max(least_seconds(retries), random.uniform(0.0, bound))


def least_seconds(retries: Retries) -> float:
    """Return the shortest wait, also where a server asks for none."""
    return _LEAST_SHARE * retries.base_seconds
