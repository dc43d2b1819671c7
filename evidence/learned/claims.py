"""What was wanted of learned schedules, and whether it is so, from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
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


NOTHING = Cell("-", None)


def claims(numbers: Numbers, measure: int) -> list[Claim]:
    """Return all that was wanted of methods without a rate, judged on a measure."""
    each = [list(_of(method, numbers, measure)) for method in numbers.free()]
    return [claim for same in zip(*each, strict=True) for claim in same]


def _of(method: str, numbers: Numbers, measure: int) -> Iterator[Claim]:
    """Yield all that was wanted of one method."""

    def said(title: str, wanted: str, cell: Cell) -> Claim:
        return Claim(title, wanted, cell.shown, cell.detail, outcome(cell.held), method)

    def same(family: str) -> Interval:
        return interval(numbers.same_rate(method, measure, numbers.keep(family)))

    def against(rival: str, family: str | None = None) -> np.ndarray:
        return numbers.against(method, rival, measure, numbers.keep(family))

    won, _, lost = counts(numbers.same_rate(method, measure, numbers.keep("mlp")))
    yield said("(1) perceptrons: wins", ">= 80%", _share(won, won >= 0.8))
    yield said("(1) perceptrons: losses", "<= 12%", _share(lost, lost <= 0.12))
    yield said("(1) perceptrons: median", "<= 0.68", _median(same("mlp"), 0.68))
    for family in numbers.families():
        name, x = f"(2) {WORDS.get(family, family)}", against(COSINE, family)
        yield said(f"{name}: median", "<= 1.00", _median(interval(x), 1.0))
        most = Cell(f"{upper(x):.3f}", upper(x) <= 1.3) if x.size else NOTHING
        yield said(f"{name}: 90%", "<= 1.30", most)
        if measure == 0:
            failed = numbers.failures(method, numbers.keep(family))
            yield said(f"{name}: blown up", "0", _none_of(*failed))
    yield said("(3) all families", "<= 0.98", _median(interval(against(COSINE)), 0.98))
    if measure == 0:
        yield said("(4) failed, cosine survives", "0", _none_of(*numbers.avoidable(method)))
    for rival in (RATIO, TUNED_RATIO, *numbers.controls()):
        if rival in numbers.methods:
            below = NOTHING if rival == method else _below(interval(against(rival)))
            yield said(f"(5) {rival}", "< 1 [95%]", below)
    yield said("(6) long, same rate", "<= 0.75", _median(same("long"), 0.75))
    yield said(
        "(6) long, tuned cosine", "<= 1.02", _median(interval(against(COSINE, "long")), 1.02)
    )
    if measure == 0:
        steps = (numbers.shares(method), *numbers.times(method))
        for name, shares in zip(("steps", "time, one run", "time, whole grid"), steps, strict=True):
            yield said(f"(7) {name}", "<= 0.9", _median(steps_interval(shares), 0.9))
    for peer in numbers.peers():
        x = against(peer)
        middle, lower = (float(np.median(x)), float((x < 0).mean())) if x.size else (math.nan,) * 2
        ratio = Cell(shown(math.exp(middle)), middle < 0) if x.size else NOTHING
        yield said(f"(8) {peer}: median", "< 1", ratio)
        yield said(f"(8) {peer}: won", "> 50%", _share(lower, lower > 0.5))


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


def _share(value: float, good: bool) -> Cell:
    return NOTHING if math.isnan(value) else Cell(f"{100 * value:.3g}%", good)


def _none_of(count: int, total: int) -> Cell:
    return Cell(f"{count}/{total}", count == 0) if total else NOTHING


def _median(found: Interval, most: float) -> Cell:
    if not found.n:
        return NOTHING
    value = found.ratio()[0]
    return Cell(shown(value), value <= most + 1e-12)


def _below(found: Interval) -> Cell:
    """Judge whether a ratio lies below 1, its interval too."""
    if not found.n:
        return NOTHING
    middle, _, high = found.ratio()
    reaches = f"(interval to {high:.3f})" if middle < 1 <= high else ""
    return Cell(f"{middle:.3f}", found.estimate < 0 and found.high < 0, reaches)


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
