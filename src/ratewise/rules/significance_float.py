"""The rank tests of `significance` for one run on Python floats: a loss costs a few bisections.

It must never find anything by itself: the tests compare every field with `significance.Evidence`
after every loss.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from functools import cache
from operator import add
from typing import Any

from ratewise.rules import schema
from ratewise.rules.greedy_config import GreedyConfig
from ratewise.rules.significance import EXCESS, TREND, excess_variance, trend_variance
from ratewise.rules.smoothing import slots

#: What `FloatEvidence.state` must look like; `check_evidence` has what depends on the settings.
EVIDENCE = {
    "values": schema.several(schema.number()),
    "best": schema.several(schema.number()),
    "mean": schema.number(),
    "before": schema.number(),
    "errors": schema.number(),
}
#: What `FloatEvidence.judge` may find.
OPEN, BETTER, WORSE, LOST, FULL = range(5)
_NONE = math.nan, math.nan, math.nan


class FloatEvidence:
    """The losses since the last verdict, and the best stretch before it.

    Args:
        config: the rule's settings.

    >>> evidence = FloatEvidence(GreedyConfig(criterion="significance"))
    >>> for loss in (6.0, 5.0, 4.0, 3.0, 2.0, 1.0):
    ...     evidence.push(loss)
    >>> evidence.judge(0.0) == BETTER, evidence.trend
    (True, -15)
    """

    __slots__ = (
        "_apart",
        "_best_sorted",
        "_known",
        "_sorted",
        "before",
        "best",
        "errors",
        "excess",
        "mean",
        "relative",
        "threshold",
        "trend",
        "up",
        "values",
        "window",
    )

    def __init__(self, config: GreedyConfig) -> None:
        self.window, self.threshold = config.window, config.threshold
        self.relative = config.threshold_mode == "rel"
        self.up = -1 if config.mode == "max" else 1
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.values: list[float] = []
        self.best: list[float] = []
        self._sorted: list[float] = []
        self._best_sorted: list[float] = []
        self._apart: dict[int, float] = {}  # n -> tau of the best stretch as it is
        self._known = 0, _NONE  # n, and the means of so many losses
        self.trend = self.excess = 0
        self.mean = self.before = self.errors = 0.0

    def push(self, value: float) -> None:
        """Take in a loss, which is finite and for which there is room."""
        kept, best = self._sorted, self._best_sorted
        place = bisect_right(kept, value)
        ties = place and kept[place - 1] == value
        self.trend += (bisect_left(kept, value) if ties else place) + place - len(kept)
        kept.insert(place, value)
        if best:
            place = bisect_right(best, value)
            ties = place and best[place - 1] == value
            self.excess += (bisect_left(best, value) if ties else place) + place - len(best)
        self.values.append(value)

    def judge(self, reference: float) -> int:
        """Return the verdict; `reference` is the mean of the best stretch."""
        n, up = len(self.values), self.up
        moved, lies = up * self.trend, up * self.excess
        trend, lost = abs(moved) > _least_trend(n), False
        if lies > 0 <= moved:
            if n not in self._apart:
                self._apart[n] = math.sqrt(excess_variance(n, len(self.best)))
            apart = self._apart[n]
            lost = lies > EXCESS * apart
        if not (trend or lost or n >= self.window):
            return OPEN
        older, newer, _ = self._means()
        margin = self.threshold * (abs(reference) if self.relative else 1.0)
        above = up * (newer - reference)
        if lost and above > margin and math.isfinite(above):
            self._tell(newer, reference, self.excess / apart)
            return LOST
        margin = self.threshold * (abs(older) if self.relative else 1.0)
        risen = up * (newer - older)
        if trend and abs(risen) > margin and math.isfinite(risen) and (risen > 0) == (moved > 0):
            verdict = WORSE if moved > 0 else BETTER
        elif n >= self.window:
            verdict = FULL
        else:
            return OPEN
        self._tell(newer, older, self.trend / _spread(n))
        return verdict

    def conclude(self, verdict: int, reference: float) -> float:
        """Begin a new stretch; return the mean of the best one.

        Args:
            verdict: that ends the old one, or `OPEN` if something else does.
            reference: mean of the best stretch so far.
        """
        low = self.up * self.excess < 0 or not self.best or verdict == LOST
        whole = self._means()[2] if self.values and low else math.nan
        if math.isfinite(whole):
            self.best, self._best_sorted = self.values, self._sorted
            self._apart = {}
            reference = whole
        self.values, self._sorted = [], []
        self._known = 0, _NONE
        self.trend = self.excess = 0
        if verdict == OPEN:
            self._tell(0.0, 0.0, 0.0)
        return reference

    def _tell(self, mean: float, before: float, errors: float) -> None:
        """Note the numbers behind a verdict, for those who tell of it."""
        sound = math.isfinite(mean) and math.isfinite(before)
        self.mean, self.before, self.errors = (mean, before, errors) if sound else (0.0, 0.0, 0.0)

    def _means(self) -> tuple[float, float, float]:
        """Return the mean of the older half of the losses, of the newer, and of all."""
        n, half = len(self.values), len(self.values) // 2
        known, means = self._known
        if known == n:
            return means
        size = slots(self.window)
        older = _sum(self.values[:half] + [0.0] * (size - half))
        newer = _sum([0.0] * half + self.values[half:] + [0.0] * (size - n))
        means = older / max(half, 1), newer / (n - half), (older + newer) / n
        self._known = n, means
        return means

    def state(self) -> dict[str, Any]:
        """Return everything as plain copied data; the counts of pairs follow from the losses."""
        return {
            "values": list(self.values),
            "best": list(self.best),
            "mean": self.mean,
            "before": self.before,
            "errors": self.errors,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state()` returned."""
        self.clear()
        self.best = list(map(float, state["best"]))
        self._best_sorted = sorted(self.best)
        for value in state["values"]:
            self.push(float(value))
        self.mean, self.before, self.errors = (
            float(state[k]) for k in ("mean", "before", "errors")
        )


def check_evidence(name: str, evidence: dict[str, Any], window: int) -> None:
    """Raise `InvalidState` unless evidence that fits `EVIDENCE` fits the settings, too."""
    for field, most in (("values", window - 1), ("best", window)):
        legal = len(evidence[field]) <= most
        schema.require(legal, f"{name}[{field!r}]", f"at most {most} long", evidence[field])


@cache
def _least_trend(n: int) -> float:
    """Return what S must exceed."""
    return TREND * _spread(n)


@cache
def _spread(n: int) -> float:
    """Return the standard deviation of S."""
    return math.sqrt(trend_variance(n))


def _sum(values: list[float]) -> float:
    """Return the sum in the order of `smoothing.pairwise_sum`."""
    while len(values) > 1:
        half = len(values) // 2
        values = list(map(add, values[:half], values[half:]))
    return values[0]
