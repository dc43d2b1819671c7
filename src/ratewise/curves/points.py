"""What of a set of curves a law is fitted to: few points a run, and runs that say something."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from ratewise.curves.curve import Curve, Floats, Steps
from ratewise.errors import InvalidArgument

#: A run's first points tell of initialisation and warmup, which no law describes.
_SKIP = 0.03
#: ln of the loss in nats, from ln of a loss in another unit.
_UNITS: dict[str, Callable[[Floats], Floats]] = {
    "bits": lambda logs: logs + np.log(np.log(2.0)),
    "a perplexity": np.log,
}
#: In ln loss: so near are runs of one model in one unit.
_NEAR = 0.08


class Points(NamedTuple):
    """A run as a law sees it."""

    name: str
    rates: Floats  #: of the steps from 1 on
    steps: Steps  #: at which the loss is read
    loss: Floats
    peak: float  #: the highest rate

    @property
    def length(self) -> int:
        """The last step at which the loss is read."""
        return int(self.steps[-1])


def points(curve: Curve, loss: str = "auto", most: int = 64) -> Points:
    """Return a curve's points, evenly in ln step.

    Args:
        curve: with rates.
        loss: as in `Curve.loss`.
        most: points; all are taken where there are no more.

    Raises:
        InvalidArgument: the curve has no rates, no such loss, or fewer than 3 points of it.
    """
    series = curve.loss(loss)
    if len(series) and curve.peak_lr <= 0:
        raise InvalidArgument(f"run {curve.name!r} has no rate above 0")
    known = series.until(curve.steps)
    last = int(known.step[-1])
    known = known.after(max(_SKIP * last, int(curve.lr.step[0]) - 1, 0))
    if len(known) < 3 or known.value.min() <= 0:
        raise InvalidArgument(
            f"run {curve.name!r} needs 3 losses above 0 at known rates, it has {len(known)}"
        )
    at = known.step
    if len(at) > most:
        pick = np.unique(np.abs(at[:, None] - np.geomspace(at[0], last, most)).argmin(0))
    else:
        pick = np.arange(len(at))
    rates = curve.rates(last)
    return Points(curve.name, rates, at[pick], known.value[pick], float(rates.max()))


def check(runs: list[Points]) -> None:
    """Raise unless the runs can tell what the rate does to the loss.

    Raises:
        InvalidArgument: fewer than two runs, the same rates in all, or losses in other units.
    """
    if len(runs) < 2:
        raise InvalidArgument(
            f"runs must be two or more that end finite, got {len(runs)}: one curve cannot tell "
            "what the rate did from what the steps did; add a run under another schedule"
        )
    first = runs[0]
    if all(_same(first, other) for other in runs[1:]):
        raise InvalidArgument(
            "runs must differ in their rates, got the same rates in all: add one with another "
            "peak rate, or one that falls"
        )
    _check_units(runs)


def _same(a: Points, b: Points) -> bool:
    n = min(a.length, b.length)
    return bool(np.abs(a.rates[:n] - b.rates[:n]).max() < 0.02 * max(a.peak, b.peak))


def _check_units(runs: list[Points]) -> None:
    """Raise where a run's losses lie far from all others', and near one of them in another unit."""
    logs = [np.log(run.loss) for run in runs]
    for i, run in enumerate(runs):
        plain = _nearest(i, logs[i], runs, logs)
        for name, change in _UNITS.items():
            with np.errstate(all="ignore"):
                changed = change(logs[i])
            if not np.isfinite(changed).all():
                continue
            near = _nearest(i, changed, runs, logs)
            if near < _NEAR and plain > 4 * near:
                raise InvalidArgument(
                    f"run {run.name!r} ends at a loss of {run.loss[-1]:.4g}, far from the others': "
                    f"its losses look like {name}; pass nats for all, or leave it out"
                )


def _nearest(i: int, values: Floats, runs: list[Points], logs: list[Floats]) -> float:
    """Return the root mean square difference to the nearest other run, where both have points."""
    found = np.inf
    for j, other in enumerate(runs):
        both = (runs[i].steps >= other.steps[0]) & (runs[i].steps <= other.length)
        if i != j and both.any():
            their = np.interp(runs[i].steps[both], other.steps, logs[j])
            found = min(found, float(np.sqrt(np.mean((values[both] - their) ** 2))))
    return found


def usable(curves: Iterable[Curve], loss: str, most: int) -> tuple[list[Points], dict[str, str]]:
    """Return the points of the curves that a law can be fitted to, and why others are left out.

    A run that diverged, or that ends above where it was, is outside what a law describes.
    """
    found: list[Points] = []
    left_out: dict[str, str] = {}
    for curve in curves:
        try:
            if curve.diverged_at is not None:
                raise InvalidArgument(f"it diverged at step {curve.diverged_at}")
            run = points(curve, loss, most)
            if run.loss[-1] > 1.2 * run.loss.min():
                raise InvalidArgument(
                    f"it ends at {run.loss[-1]:.4g}, far above its lowest loss {run.loss.min():.4g}"
                )
        except InvalidArgument as error:
            left_out[curve.name] = str(error)
        else:
            found.append(run)
    return found, left_out
