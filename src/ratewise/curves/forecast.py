"""Forecasts of final losses from past runs: a law, what it leaves over, and honest limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student  # type: ignore[import-untyped]

from ratewise.curves.curve import Curve, Floats
from ratewise.curves.fitting import Fitted, Parameter, fit_law
from ratewise.curves.laws import LAWS
from ratewise.curves.points import Points, check, points, usable
from ratewise.curves.remainder import Features, Remainder, apart, features, fit_remainder
from ratewise.errors import InvalidArgument, unknown

#: A forecast is refused beyond these: times the lowest and highest peak, times the longest run,
#: and the root mean square difference of rate / peak to the nearest shape.
PEAK, LENGTH, SHAPE = 1.05, 3.0, 0.35
#: Shares of a run whose ends count as runs of their own.
_BEGINNINGS = (0.25, 0.4, 0.6, 0.8, 1.0)


class OutsideSeen(InvalidArgument):
    """A forecast was asked for rates, a length or a shape that no past run comes near."""


class Forecast(NamedTuple):
    """A loss with its interval."""

    loss: float
    low: float
    high: float
    level: float  #: of the interval


@dataclass(frozen=True)
class LossLaw:
    """What past runs say of the loss under other schedules; `fit` makes it."""

    fitted: Fitted
    remainder: Remainder
    shapes: Features  #: of the runs, whole and their beginnings
    runs: tuple[str, ...]
    left_out: dict[str, str]  #: runs that were not fitted, and why
    loss: str  #: which loss: "auto", "held_out" or "train"

    def parameters(self, level: float = 0.9) -> dict[str, Parameter]:
        """Return the law's parameters with intervals."""
        return self.fitted.parameters(level)

    def outside(self, rates: Floats) -> str:
        """Return in what a schedule lies outside what was seen, or nothing."""
        wanted = features([rates])
        low, high = np.exp(self.shapes.peak.min()), np.exp(self.shapes.peak.max())
        peak, longest = float(rates.max()), np.exp(self.shapes.length.max())
        if not low / PEAK <= peak <= high * PEAK:
            return f"peak rate {peak:.4g}, seen were {low:.4g} to {high:.4g}"
        if len(rates) > LENGTH * longest:
            return f"{len(rates)} steps, the longest run has {longest:.0f}"
        nearest = float(apart(wanted, self.shapes)[0].min())
        if nearest > SHAPE:
            return f"a shape that differs from the nearest one by {nearest:.2f} of the peak rate"
        return ""

    def predict(
        self,
        schedules: Sequence[Floats],
        *,
        level: float = 0.9,
        outside: str = "refuse",
        begun: Curve | None = None,
    ) -> list[Forecast]:
        """Return the loss at the end of each schedule.

        Args:
            schedules: the rates of the steps 1, 2, ...
            level: of the intervals, in (0, 1).
            outside: "refuse", or "allow": the interval is then the law's own and may be wrong.
            begun: the beginning of the very run, whose losses so far say more.

        Raises:
            OutsideSeen: a schedule lies outside what was seen.
        """
        if not 0 < level < 1:
            raise InvalidArgument(f"level must be in (0, 1), got {level!r}: pass level=0.9")
        for rates in schedules:
            odd = self.outside(rates)
            if odd and outside == "refuse":
                raise OutsideSeen(
                    f"no past run comes near this schedule ({odd}): add such a run, or pass "
                    "outside='allow' for a guess"
                )
        own = None
        if begun is not None:
            run = points(begun, self.loss)
            left = np.log(run.loss / self.fitted.losses([run]))
            own = run.rates, float(left[-3:].mean())
        law = np.array([self.fitted.at(rates, [len(rates)])[0] for rates in schedules])
        mean, deviation = self.remainder.predict(schedules, own)
        # the scales of what is left over are known from so many runs
        wide = float(student.ppf(0.5 + level / 2, max(1, self.fitted.runs - 1)))
        ends = [law * np.exp(mean + sign * wide * deviation) for sign in (0, -1, 1)]
        return [
            Forecast(float(a), float(b), float(c), level) for a, b, c in zip(*ends, strict=True)
        ]

    def best(self, schedules: Sequence[Floats], *, outside: str = "refuse") -> int:
        """Return which schedule ends lowest; what lies outside what was seen does not count.

        Args:
            schedules: the candidates, the rates of their steps.
            outside: "refuse", or "allow": shapes and lengths that were not seen count, peak
                rates outside those that were seen never do.

        Raises:
            OutsideSeen: all lie outside.
        """
        inside = []
        for index, rates in enumerate(schedules):
            odd = self.outside(rates)
            if not odd or (outside == "allow" and not odd.startswith("peak")):
                inside.append(index)
        if not inside:
            odd = self.outside(schedules[0])
            raise OutsideSeen(f"no past run comes near any of them ({odd}): add such a run")
        found = self.predict([schedules[i] for i in inside], outside="allow")
        return inside[int(np.argmin([one.loss for one in found]))]


def fit(
    runs: Iterable[Curve],
    *,
    law: str = "functional",
    loss: str = "auto",
    seed: int = 0,
    most_points: int = 64,
) -> LossLaw:
    """Fit a law of loss curves to past runs of one model on one data set.

    Args:
        runs: curves with rates, two or more; those that diverged are left out, and named.
        law: "functional" or "multi-power"; see `ratewise.curves.laws` for sources and limits.
        loss: "held_out", "train", or "auto": held-out where all runs have one.
        seed: of the fit's random starts.
        most_points: of each run.

    Raises:
        InvalidArgument: fewer than two runs, the same rates in all, losses in other units.
        UnknownName: there is no such law.
    """
    if law not in LAWS:
        raise unknown("law", law, LAWS)
    curves = list(runs)
    if loss == "auto":
        loss = "held_out" if all(len(curve.held_out_loss) for curve in curves) else "train"
    seen, left_out = usable(curves, loss, most_points)
    check(seen)
    fitted = fit_law(LAWS[law], seen, seed=seed)
    left = np.split(
        np.log(np.concatenate([run.loss for run in seen]) / fitted.losses(seen)),
        np.cumsum([len(run.loss) for run in seen])[:-1],
    )
    schedules: list[Floats] = []
    over: list[float] = []
    known: set[tuple[float, ...]] = set()
    for run, rest in zip(seen, left, strict=True):
        for at in _ends(run):
            rates = run.rates[: run.steps[at]]
            mark = (len(rates), round(float(rates.sum()), 12), float(run.loss[at]))
            if mark not in known:  # branches share their trunk
                known.add(mark)
                schedules.append(rates)
                over.append(float(rest[at]))
    remainder = fit_remainder(fitted, schedules, np.array(over))
    names = tuple(run.name for run in seen)
    return LossLaw(fitted, remainder, features(schedules), names, left_out, loss)


def _ends(run: Points) -> list[int]:
    """Return where a run's beginnings end, as indices of its points."""
    wanted = np.array(_BEGINNINGS) * run.length
    return sorted(set(np.abs(run.steps[:, None] - wanted).argmin(0).tolist()))
