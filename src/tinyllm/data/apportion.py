"""Which source gives the next document, so that every beginning of a mixture has the right shares.

After T units of output, source i should have given w_i·T. Of the sources that are not ahead of
that, we take the one whose deadline comes first: the T at which it would be a whole document
behind. This is earliest-deadline-first scheduling (Tijdeman's chairman assignment, 1980, for
documents of one size). Taking the largest deficit instead is simpler, and with three sources or
more it strays by more than one document.
"""

from collections.abc import Sequence


class Apportioner:
    """Keeps what each source has given.

    `weights` are shares of any positive sum, `longest` is the size of the longest document of any
    source. At every moment `abs(weight_i * total - given[i]) <= longest`.
    """

    def __init__(self, weights: Sequence[float], longest: int) -> None:
        total = sum(weights)
        self.weights = [weight / total for weight in weights]
        self.given = [0] * len(weights)
        self.total = 0
        self._longest = longest
        self._active = [i for i, weight in enumerate(self.weights) if weight > 0]

    def choose(self) -> int:
        """Return the source that gives next."""
        total, longest = self.total, self._longest
        best, first_deadline = self._active[0], float("inf")
        for i in self._active:
            weight, given = self.weights[i], self.given[i]
            if weight * total - given < -1e-9 * total:
                continue  # ahead of its share
            deadline = (given + longest) / weight
            if deadline < first_deadline:
                best, first_deadline = i, deadline
        return best

    def give(self, source: int, size: int) -> None:
        """Count a document of `size` units as given by `source`."""
        self.given[source] += size
        self.total += size

    def shares(self) -> list[float]:
        """Return what each source has given, as shares of the total."""
        return [given / self.total if self.total else 0.0 for given in self.given]
