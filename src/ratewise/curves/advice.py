"""What to run next: a pure decision on the values that were tried and the losses they came to.

With x = ln value, ln loss is taken for a parabola near its minimum,

    y(x) = a + b (x - x0) + c/2 (x - x0)^2,   x0 that of the lowest loss so far,

fitted to the runs near x0 by least squares together with what is known beforehand: the curvature
is about c0, and the minimum lies about a centre. Both come from past trainings, or from defaults
that weigh little. The centre comes first, then values half and twice as large; while the best lies
at an edge the range is walked on by factors of 2, and then the parabola's minimum is tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: A loss of 0, as on data that were memorised, counts as that.
LEAST = 1e-12
#: The factor between a value and its neighbours, and the most by which a value may lie outside
#: those that were tried.
FACTOR, FURTHEST = 2.0, 3.0
#: Runs take part in the fit up to so far from the best one, in ln value; so do its neighbours.
_NEAR = 1.2 * math.log(FACTOR)
#: Further off than this, a value above the best one that fails is no neighbour.
_FAR = math.log(FURTHEST**2) + 1e-9
#: ln loss differs from seed to seed by about so much, plus a share of the range of all runs.
_NOISE, _NOISE_SHARE = 0.01, 0.02
#: Deviation of a slope of which nothing is known.
_WEAK = 10.0
#: Values nearer than that, in ln value, are the same for all that a run can tell.
_SAME = 0.1
#: Above the best value ln loss rises by so much, and so many times as fast as below it: unstable.
_CLIFF, _CLIFF_TIMES = 0.2, 4.0
#: By so much in ln loss the lower neighbour of a value at the edge of stability may be worse.
_SAFE = 0.05
#: A curvature that is known to less than this share of itself lets two runs do for three.
_KNOWN = 0.6


class Prior(NamedTuple):
    """What is known before the first run."""

    centre: float  #: where the best value is expected
    spread: float = math.log(3.0)  #: standard deviation of ln best value around it
    curvature: float = 0.125  #: c0: a factor of 2 from the best costs about 3% of the loss
    curvature_spread: float = 1.0
    tasks: int = 0  #: past tasks that it rests on


class Tried(NamedTuple):
    """A run that has ended."""

    value: float
    loss: float  #: >= 0; infinite where it diverged
    seed: int = 0


class Fit(NamedTuple):
    """The parabola around the best value."""

    minimum: float  #: in ln value
    deviation: float  #: of the minimum, in ln value
    curvature: float
    best: float  #: ln of the best value that was run

    @property
    def gain(self) -> float:
        """What ln loss is expected to fall by from the best run, and by knowing the minimum."""
        return 0.5 * self.curvature * ((self.minimum - self.best) ** 2 + self.deviation**2)


class Decision(NamedTuple):
    """The next run, or none; and why."""

    value: float | None
    seed: int
    gain: float  #: expected share of the loss
    reason: str
    waits: bool = False  #: runs that are under way have to end first


class _Point(NamedTuple):
    x: float
    y: float  #: mean ln loss; infinite where a run diverged
    runs: int


def decide(
    tried: Sequence[Tried],
    prior: Prior,
    *,
    under_way: Sequence[float] = (),
    min_gain: float = 0.005,
) -> Decision:
    """Return what to run next.

    Args:
        tried: the runs that have ended.
        prior: what is known beforehand.
        under_way: values of runs that have not ended.
        min_gain: stop where the expected gain is below this share of the loss.

    >>> decide([], Prior(0.01)).value
    0.01
    >>> losses = {0.01: 2.0, 0.005: 2.1, 0.02: 2.1}
    >>> decide([Tried(*one) for one in losses.items()], Prior(0.01)).reason
    'the expected gain of another run is 0.0%, below the 0.5% that was asked for'
    """
    points = _points(tried)
    busy = [math.log(value) for value in under_way]
    opening = [math.log(prior.centre) + step for step in (0.0, -math.log(FACTOR), math.log(FACTOR))]
    if not points:
        free = [x for x in opening if not _there(x, busy)]
        if free:
            return Decision(_value(free[0]), 0, math.nan, "nothing was tried yet")
        return _waiting(len(busy))
    finite = [point for point in points if math.isfinite(point.y)]
    if not finite:
        return _new(points[0].x - math.log(FURTHEST), points, busy, math.nan, "all runs diverged")
    best = min(finite, key=lambda point: point.y)
    fit = fitted(tried, prior)
    lower, upper = _neighbours(points, best)
    if _cliff(lower, best, upper):
        return _at_the_cliff(tried, points, best, upper, fit, busy, min_gain)
    edge = _open_side(lower, best, upper, fit, prior, len(finite))
    if fit.gain < min_gain and (_known(prior) or not edge):
        words = (
            f"the expected gain of another run is {fit.gain:.1%}, below the {min_gain:.1%} "
            "that was asked for"
        )
        return Decision(None, 0, fit.gain, words)
    if edge:
        x = best.x + edge * math.log(FACTOR)
        if _there(x, busy):
            others = [y for y in opening if not _there(y, [*busy, *(p.x for p in points)])]
            if len(points) < 2 and others:
                return _new(others[0], points, busy, fit.gain, "the best is an edge of the range")
            return _waiting(len(busy))
        side = "lowest" if edge < 0 else "highest"
        why = "the centre alone was tried" if len(points) == 1 else f"the best is the {side} value"
        return _new(x, points, busy, fit.gain, why)
    if busy:
        return _waiting(len(busy))
    if _there(fit.minimum, [point.x for point in points]):
        words = "the parabola's minimum was tried already, as nearly as a run can tell"
        return Decision(None, 0, fit.gain, words)
    return _new(fit.minimum, points, busy, fit.gain, "the minimum of a parabola through the best")


def recommend(tried: Sequence[Tried], prior: Prior) -> float:
    """Return the value to use: the parabola's minimum between the best run's neighbours.

    At the edge of stability, where the next higher value failed and a single seed stands for the
    best one, it is the lower neighbour, or halfway there if that one is much worse.

    Args:
        tried: the runs that have ended.
        prior: what is known beforehand.

    >>> runs = [Tried(0.005, 2.02), Tried(0.01, 2.0), Tried(0.02, 2.02)]
    >>> round(recommend(runs, Prior(0.01)), 4)
    0.01
    """
    points = _points(tried)
    finite = [point for point in points if math.isfinite(point.y)]
    if not finite:
        lowest = min((point.x for point in points), default=None)
        return prior.centre if lowest is None else _value(lowest - math.log(FURTHEST))
    best = min(finite, key=lambda point: point.y)
    lower, upper = _neighbours(points, best)
    highest = best.x  # not above what was run: what is unstable shows too late
    if _cliff(lower, best, upper):
        if best.runs < 2:
            safe = lower and lower.y - best.y < _SAFE
            return _value(lower.x if lower and safe else best.x - math.log(FACTOR) / 2)
    elif upper:
        highest = upper.x
    return _value(min(fitted(tried, prior).minimum, highest))


def fitted(tried: Sequence[Tried], prior: Prior) -> Fit:
    """Return the parabola near the best run; its minimum is kept between that one's neighbours.

    Where there is no neighbour, it is kept within a factor of 2.
    """
    points = [point for point in _points(tried) if math.isfinite(point.y)]
    best = min(points, key=lambda point: point.y)
    near = _near(points, best)
    x = np.array([point.x for point in near]) - best.x
    y = np.array([point.y for point in near])
    noise = _NOISE + _NOISE_SHARE * float(y.max() - y.min())
    # a row an observation: of a, b, c, divided by its standard deviation
    rows = [[1.0, one, 0.5 * one**2] for one in x] + [[0.0, 0.0, 1.0]]
    values = [*y, prior.curvature]
    spreads = [noise / math.sqrt(point.runs) for point in near] + [prior.curvature_spread]
    # a centre that lies far off counts for less: it may be another kind of task's
    off = math.log(prior.centre) - best.x
    spread = math.hypot(prior.spread, off / 2.0)
    least = 0.25 * prior.curvature
    c = prior.curvature
    if len(near) > 1:
        c = max(_solved([*rows, [0.0, 1.0, 0.0]], [*values, 0.0], [*spreads, _WEAK])[1], least)
    rows.append([0.0, 1.0, 0.0])
    b, c, deviation = _solved(rows, [*values, -c * off], [*spreads, c * spread])
    c = max(c, least)
    lower, upper = _neighbours(_points(tried), best)
    low = lower.x - best.x if lower else -math.log(FACTOR)
    high = upper.x - best.x if upper else math.log(FACTOR)
    minimum = min(max(-b / c, low), high)
    return Fit(best.x + minimum, min(deviation / c, prior.spread), c, best.x)


def curvature(tried: Sequence[Tried]) -> float | None:
    """Return the curvature of ln loss that the runs alone show, or None where they show none."""
    points = [point for point in _points(tried) if math.isfinite(point.y)]
    if len(points) < 3:
        return None
    best = min(points, key=lambda point: point.y)
    near = _near(points, best)
    if len(near) < 3 or not all(_neighbours(near, best)):
        return None
    x, y = np.array([[point.x - best.x, point.y] for point in near]).T
    found = 2.0 * float(np.polyfit(x, y, 2)[0])
    return found if found > 0 else None


# -- parts ----------------------------------------------------------------------------------


def _solved(
    rows: Sequence[Sequence[float]], values: Sequence[float], spreads: Sequence[float]
) -> tuple[float, float, float]:
    """Return b and c of the weighted least squares, and c times the minimum's deviation."""
    weight = 1.0 / np.array(spreads)
    weighted = np.array(rows) * weight[:, None]
    inverse = np.linalg.inv(weighted.T @ weighted)
    _, b, c = inverse @ (weighted.T @ (np.array(values) * weight))
    # of b + c u at the minimum u = -b / c: that is what the minimum moves by, times c
    at = np.array([0.0, 1.0, -b / c if c > 0 else 0.0])
    return float(b), float(c), float(np.sqrt(at @ inverse @ at))


def _points(tried: Sequence[Tried]) -> list[_Point]:
    """Return the values that were tried, in order, with the mean ln loss of their seeds."""
    found: dict[float, list[float]] = {}
    for one in tried:
        known = next((x for x in found if abs(x - math.log(one.value)) < 1e-6), None)
        loss = math.log(max(one.loss, LEAST)) if math.isfinite(one.loss) else math.inf
        found.setdefault(math.log(one.value) if known is None else known, []).append(loss)
    return [_Point(x, float(np.mean(found[x])), len(found[x])) for x in sorted(found)]


def _neighbours(points: Sequence[_Point], best: _Point) -> tuple[_Point | None, _Point | None]:
    lower = [point for point in points if point.x < best.x]
    upper = [point for point in points if point.x > best.x]
    return (lower[-1] if lower else None), (upper[0] if upper else None)


def _near(points: Sequence[_Point], best: _Point) -> list[_Point]:
    """Return the points that the parabola goes through: three at least, where there are."""
    beside = _neighbours(points, best)
    nearest = sorted(points, key=lambda one: abs(one.x - best.x))[:3]
    within = [one for one in points if abs(one.x - best.x) <= _NEAR or one in beside]
    return within if len(within) >= 3 else nearest


def _cliff(lower: _Point | None, best: _Point, upper: _Point | None) -> bool:
    """Return whether training becomes unstable right above the best value."""
    if upper is None or upper.x - best.x > _FAR:
        return False
    if not math.isfinite(upper.y):
        return True
    below = lower.y - best.y if lower and math.isfinite(lower.y) else 0.0
    return upper.y - best.y > _CLIFF + _CLIFF_TIMES * below


def _at_the_cliff(
    tried: Sequence[Tried],
    points: Sequence[_Point],
    best: _Point,
    upper: _Point | None,
    fit: Fit,
    busy: Sequence[float],
    min_gain: float,
) -> Decision:
    """Return a second seed at the best value, or a lower value where that promises more."""
    high = math.exp(upper.x if upper else best.x)
    if not any(point.x < best.x for point in points):
        x = best.x - math.log(FACTOR)
        return _new(x, points, busy, fit.gain, f"unstable at {high:.3g}, and nothing lower tried")
    if best.runs < 2:
        if _there(best.x, busy):
            return _waiting(len(busy))
        seeds = [one.seed for one in tried if abs(math.log(one.value) - best.x) < 1e-6]
        words = f"unstable at {high:.3g}: a second seed of the value below it"
        return Decision(_value(best.x), max(seeds) + 1, fit.gain, words)
    promising = fit.gain >= min_gain and fit.minimum < best.x
    if promising and not _there(fit.minimum, [point.x for point in points]):
        return _new(fit.minimum, points, busy, fit.gain, f"unstable at {high:.3g}")
    words = f"the best value has two seeds, and {high:.3g} is unstable"
    return Decision(None, 0, fit.gain, words)


def _open_side(
    lower: _Point | None, best: _Point, upper: _Point | None, fit: Fit, prior: Prior, count: int
) -> int:
    """Return on which side of the best value another has to be tried: -1, 1, or 0 for none."""
    if lower and upper:
        return 0
    if not lower and not upper:
        return 1 if fit.minimum > best.x + _SAME else -1
    side = -1 if not lower else 1
    beyond = side * (fit.minimum - best.x)
    if _known(prior):  # two runs do: unless the minimum may well lie beyond the edge
        return side if beyond + fit.deviation > math.log(FACTOR) else 0
    return side if count < 3 or beyond + fit.deviation > 0.0 else 0


def _known(prior: Prior) -> bool:
    return prior.curvature_spread < _KNOWN * prior.curvature


def _there(x: float, others: Sequence[float]) -> bool:
    return any(abs(x - other) < _SAME for other in others)


def _new(
    x: float, points: Sequence[_Point], busy: Sequence[float], gain: float, reason: str
) -> Decision:
    """Return the decision for a value, brought to within a factor of `FURTHEST` of those tried."""
    if _there(x, busy):
        return _waiting(len(busy))
    low, high = points[0].x - math.log(FURTHEST), points[-1].x + math.log(FURTHEST)
    return Decision(_value(min(max(x, low), high)), 0, gain, reason)


def _value(x: float) -> float:
    """Return exp(x) as a number that can be typed."""
    return float(f"{math.exp(x):.4g}")


def _waiting(count: int) -> Decision:
    words = f"{count} runs are under way, and have to end first"
    return Decision(None, 0, math.nan, words, waits=True)
