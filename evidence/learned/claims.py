"""What was wanted of learned schedules, and whether it is so, from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from evidence.claims import HELD, MISSED, UNDECIDED, UNJUDGED, Claim, outcome
from evidence.learned.numbers import (
    COSINE,
    LOSS,
    RATIO,
    TUNED_RATIO,
    WIN,
    Groups,
    Numbers,
    interval,
    share,
    values,
)
from ratewise.compare.statistics import Interval

#: The families that are told apart, in words.
WORDS = {"mlp": "perceptrons", "convnet": "convnets", "gru": "GRUs", "transformer": "transformers"}


class Cell(NamedTuple):
    """What came out for one method."""

    shown: str
    outcome: str
    detail: str = ""  #: its interval
    p: float | None = None  #: of a headline


NOTHING = Cell("-", UNDECIDED)


def claims(numbers: Numbers, measure: int) -> list[Claim]:
    """Return all that was wanted of methods without a rate, judged on a measure."""
    each = [list(_of(method, numbers, measure)) for method in numbers.free()]
    return [claim for same in zip(*each, strict=True) for claim in same]


def _of(method: str, numbers: Numbers, measure: int) -> Iterator[Claim]:
    """Yield all that was wanted of one method."""

    def said(title: str, wanted: str, cell: Cell) -> Claim:
        return Claim(title, wanted, cell.shown, cell.detail, cell.outcome, method, cell.p)

    def same(family: str) -> Groups:
        return numbers.same_rate(method, measure, numbers.keep(family))

    def against(rival: str, family: str | None = None) -> Groups:
        return numbers.against(method, rival, measure, numbers.keep(family))

    pairs = same("mlp")
    lost = {task: -x for task, x in pairs.items()}
    yield said("(1) perceptrons: wins", ">= 80%", _share(pairs, WIN, least=0.8))
    yield said("(1) perceptrons: losses", "<= 12%", _share(lost, 1 / LOSS, most=0.12))
    yield said("(1) perceptrons: median", "<= 0.68", _median(pairs, 0.68))
    for family in numbers.families():
        name, x = f"(2) {WORDS.get(family, family)}", against(COSINE, family)
        yield said(f"{name}: median", "<= 1.00", _median(x))
        yield said(f"{name}: 90%", "<= 1.30", Cell(f"{upper(x):.3f}", UNJUDGED) if x else NOTHING)
        if measure == 0:
            failed = numbers.failures(method, numbers.keep(family))
            yield said(f"{name}: blown up", "0", _none_of(*failed))
    whole = _median(against(COSINE), 0.98)
    headline = whole if whole is NOTHING else whole._replace(p=interval(against(COSINE), 0.98).p)
    yield said("(3) all families", "<= 0.98", headline)
    if measure == 0:
        yield said("(4) failed, cosine survives", "0", _none_of(*numbers.avoidable(method)))
    for rival in (RATIO, TUNED_RATIO, *numbers.controls()):
        if rival in numbers.methods:
            mine = NOTHING if rival == method else _median(against(rival))
            yield said(f"(5) {rival}", "< 1", mine)
    yield said("(6) long, same rate", "<= 0.75", _median(same("long"), 0.75))
    yield said("(6) long, tuned cosine", "<= 1.02", _median(against(COSINE, "long"), 1.02))
    if measure == 0:
        steps = (numbers.shares(method), *numbers.times(method))
        for name, shares in zip(("steps", "time, one run", "time, whole grid"), steps, strict=True):
            yield said(f"(7) {name}", "<= 0.9", _median(numbers.targets(shares), 0.9))
    for peer in numbers.peers():
        x = against(peer)
        yield said(f"(8) {peer}: median", "< 1", _median(x))
        yield said(f"(8) {peer}: won", "> 50%", _share(x, 1.0, least=0.5))


def upper(groups: Groups) -> float:
    """Return the 90th percentile of log-ratios, as a ratio; nothing is NaN."""
    return float(np.exp(np.quantile(values(groups), 0.9))) if groups else math.nan


def shown(value: float) -> str:
    """Return a ratio; one of steps may never be reached.

    >>> shown(0.71234), shown(1e9), shown(12.3)
    ('0.712', 'never', '12.3')
    """
    if not value < 1000:
        return "-" if math.isnan(value) else "never"
    return f"{value:.3f}" if value < 10 else f"{value:.3g}"


def _share(groups: Groups, limit: float, *, least: float = 0.0, most: float = 1.0) -> Cell:
    """Judge the share of ratios below a limit; its whole interval says so, or not."""
    if not groups:
        return NOTHING
    found = share(groups, math.log(limit))
    held = least <= found.low and found.high <= most
    missed = found.high < least or found.low > most
    span = "" if math.isinf(found.high) else f"[{found.low:.0%}, {found.high:.0%}]"
    return Cell(f"{100 * found.estimate:.3g}%", _word(held, missed), span)


def _none_of(count: int, total: int) -> Cell:
    return Cell(f"{count}/{total}", outcome(count == 0)) if total else NOTHING


def _median(groups: Groups, most: float = 1.0) -> Cell:
    """Judge whether a ratio lies below a bound; its whole interval says so, or not."""
    if not groups:
        return NOTHING
    found = interval(groups)
    value, _, span = ratio(found).partition(" ")
    return Cell(value, _word(found.high <= math.log(most), found.low > math.log(most)), span)


def _word(held: bool, missed: bool) -> str:
    return HELD if held else MISSED if missed else UNDECIDED


def ratio(found: Interval, digits: int = 3) -> str:
    """Return a ratio with its interval, or - for nothing.

    >>> ratio(Interval(0.0, -0.0513, 0.0488, 5)), ratio(Interval(0.0, -math.inf, math.inf, 5))
    ('1.000 [0.950, 1.050]', '1.000 (open)')
    """
    if not found.n:
        return "-"
    middle, low, high = found.ratio()
    if low > 1000:
        return "never"
    if math.isinf(found.high):
        return f"{shown(middle)} (open)"
    ends = (
        "never" if x > 1000 else f"{x:.{digits}f}" if x < 10 else f"{x:.3g}" for x in (low, high)
    )
    return f"{shown(middle)} [{', '.join(ends)}]"
