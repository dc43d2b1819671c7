"""What was wanted of learned schedules, and whether it is so, from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from evidence.claims import Claim, outcome
from evidence.learned.numbers import (
    COSINE,
    RATIO,
    TUNED_RATIO,
    Numbers,
    counts,
    interval,
    steps_interval,
)
from ratewise.compare.statistics import Interval

#: The families that are told apart, in words.
WORDS = {"mlp": "perceptrons", "convnet": "convnets", "gru": "GRUs", "transformer": "transformers"}


class Cell(NamedTuple):
    """What came out for one method; `held` is None where nothing can be said."""

    shown: str
    held: bool | None
    detail: str = ""  #: why, where the number alone does not say it


Judge = Callable[[str], Cell]


def claims(numbers: Numbers, measure: int) -> list[Claim]:
    """Return all that was wanted of methods without a rate, judged on a measure."""
    all_of, judge = numbers.keep(), _Judge(numbers, measure)
    perceptrons, long = numbers.keep("mlp"), numbers.keep("long")
    asked: list[tuple[str, str, Judge]] = [
        ("(1) perceptrons: wins", ">= 80%", judge.wins),
        ("(1) perceptrons: losses", "<= 12%", judge.losses),
        ("(1) perceptrons: median", "<= 0.68", judge.same(perceptrons, 0.68)),
    ]
    for family in numbers.families():
        name = f"(2) {WORDS.get(family, family)}"
        asked.append((f"{name}: median", "<= 1.00", judge.tuned(numbers.keep(family), 1.0)))
        asked.append((f"{name}: 90%", "<= 1.30", judge.upper(family)))
        if measure == 0:
            asked.append((f"{name}: blown up", "0", judge.blown(family)))
    asked.append(("(3) all families", "<= 0.98", judge.tuned(all_of, 0.98)))
    if measure == 0:
        asked.append(("(4) failed, cosine survives", "0", judge.avoidable))
    rivals = [RATIO, TUNED_RATIO, *numbers.controls()]
    for rival in (name for name in rivals if name in numbers.methods):
        asked.append((f"(5) {rival}", "< 1 [95%]", judge.below(rival)))
    asked.append(("(6) long, same rate", "<= 0.75", judge.same(long, 0.75)))
    asked.append(("(6) long, tuned cosine", "<= 1.02", judge.tuned(long, 1.02)))
    if measure == 0:
        asked.append(("(7) steps", "<= 0.9", judge.steps))
        asked.append(("(7) time, one run", "<= 0.9", judge.time(0)))
        asked.append(("(7) time, whole grid", "<= 0.9", judge.time(1)))
    for peer in numbers.peers():
        asked.append((f"(8) {peer}: median", "< 1", judge.peer(peer)))
        asked.append((f"(8) {peer}: won", "> 50%", judge.lower(peer)))
    return [
        Claim(title, wanted, cell.shown, cell.detail, outcome(cell.held), name)
        for title, wanted, judged in asked
        for name in numbers.free()
        for cell in (judged(name),)
    ]


class _Judge:
    """Judges one method at a time.

    Args:
        numbers: of the study.
        measure: an index of `MEASURES`.
    """

    def __init__(self, numbers: Numbers, measure: int) -> None:
        self._numbers, self._measure = numbers, measure

    def _counts(self, method: str) -> tuple[float, float, float]:
        keep = self._numbers.keep("mlp")
        return counts(self._numbers.same_rate(method, self._measure, keep))

    def wins(self, method: str) -> Cell:
        """Judge how often it wins at the same rate."""
        return _share(self._counts(method)[0], lambda x: x >= 0.8)

    def losses(self, method: str) -> Cell:
        """Judge how often it loses at the same rate."""
        return _share(self._counts(method)[2], lambda x: x <= 0.12)

    def same(self, keep: np.ndarray, most: float) -> Judge:
        """Judge the median ratio to cosine at the same rate."""
        return lambda method: _median(
            interval(self._numbers.same_rate(method, self._measure, keep)), most
        )

    def tuned(self, keep: np.ndarray, most: float) -> Judge:
        """Judge the median ratio to tuned cosine."""
        return lambda method: _median(
            interval(self._numbers.against(method, COSINE, self._measure, keep)), most
        )

    def upper(self, family: str) -> Judge:
        """Judge the ratio to tuned cosine that nine tenths of the tasks lie below."""

        def judge(method: str) -> Cell:
            keep = self._numbers.keep(family)
            x = self._numbers.against(method, COSINE, self._measure, keep)
            if not x.size:
                return Cell("-", None)
            value = upper(x)
            return Cell(f"{value:.3f}", value <= 1.3)

        return judge

    def blown(self, family: str) -> Judge:
        """Judge how many runs diverged or ended above their start."""
        return lambda method: _none_of(*self._numbers.failures(method, self._numbers.keep(family)))

    def avoidable(self, method: str) -> Cell:
        """Judge how many runs failed where cosine survives."""
        return _none_of(*self._numbers.avoidable(method))

    def below(self, rival: str) -> Judge:
        """Judge whether it ends below a rival, its interval too."""

        def judge(method: str) -> Cell:
            if method == rival:
                return Cell("-", None)
            keep = self._numbers.keep()
            found = interval(self._numbers.against(method, rival, self._measure, keep))
            if not found.n:
                return Cell("-", None)
            middle, _, high = found.ratio()
            reaches = f"(interval to {high:.3f})" if middle < 1 <= high else ""
            return Cell(f"{middle:.3f}", found.estimate < 0 and found.high < 0, reaches)

        return judge

    def steps(self, method: str) -> Cell:
        """Judge the share of steps to tuned cosine's loss."""
        return _median(steps_interval(self._numbers.shares(method)), 0.9)

    def time(self, which: int) -> Judge:
        """Judge the same in time, over cosine's one run or its whole grid."""
        return lambda method: _median(steps_interval(self._numbers.times(method)[which]), 0.9)

    def peer(self, rival: str) -> Judge:
        """Judge the median ratio to a peer."""

        def judge(method: str) -> Cell:
            x = self._numbers.against(method, rival, self._measure, self._numbers.keep())
            if not x.size:
                return Cell("-", None)
            return Cell(shown(float(np.exp(np.median(x)))), bool(np.median(x) < 0))

        return judge

    def lower(self, rival: str) -> Judge:
        """Judge on how many of the tasks that a peer has it is lower."""

        def judge(method: str) -> Cell:
            x = self._numbers.against(method, rival, self._measure, self._numbers.keep())
            return _share(float((x < 0).mean()) if x.size else math.nan, lambda x: x > 0.5)

        return judge


def upper(x: np.ndarray) -> float:
    """Return the 90th percentile of log-ratios, as a ratio; nothing is NaN."""
    return float(np.exp(np.quantile(x, 0.9))) if x.size else math.nan


def shown(value: float) -> str:
    """Return a ratio; one of steps may never be reached.

    >>> shown(0.71234), shown(1e9), shown(12.3)
    ('0.712', 'never', '12.3')
    """
    if not value < 1000:
        return "-" if math.isnan(value) else "never"
    return f"{value:.3f}" if value < 10 else f"{value:.3g}"


def _share(value: float, good: Callable[[float], bool]) -> Cell:
    return Cell("-", None) if math.isnan(value) else Cell(f"{100 * value:.3g}%", good(value))


def _none_of(count: int, total: int) -> Cell:
    return Cell(f"{count}/{total}", count == 0) if total else Cell("-", None)


def _median(found: Interval, most: float) -> Cell:
    if not found.n:
        return Cell("-", None)
    value = found.ratio()[0]
    return Cell(shown(value), value <= most + 1e-12)


def ratio(found: Interval, digits: int = 3) -> str:
    """Return a ratio with its interval, or - for nothing.

    >>> ratio(Interval(0.0, -0.0513, 0.0488, 5, "bootstrap"))
    '1.000 [0.950, 1.050]'
    """
    if not found.n:
        return "-"
    middle, low, high = found.ratio()
    if found.n == 1:
        return f"{shown(middle)} (one)"
    if low > 1000:
        return "never"
    ends = (
        "never" if x > 1000 else f"{x:.{digits}f}" if x < 10 else f"{x:.3g}" for x in (low, high)
    )
    return f"{shown(middle)} [{', '.join(ends)}]"
