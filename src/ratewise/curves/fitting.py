"""A law's parameters from curves: robust, from several starts, with intervals or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares  # type: ignore[import-untyped]
from scipy.stats import t as student  # type: ignore[import-untyped]

from ratewise.curves.curve import Floats
from ratewise.curves.laws import Law, Run
from ratewise.curves.points import Points
from ratewise.curves.sums import Grid
from ratewise.errors import InvalidArgument

#: Where Huber's loss turns from a square into a line, in ln loss.
DELTA = 3e-3
_TRIED, _EVALUATIONS = 40, 100


class Parameter(NamedTuple):
    """A parameter with its interval; both ends are infinite where the runs cannot tell it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fitted:
    """A law with its parameters, in units of `peak`, a typical peak rate."""

    law: Law
    theta: Floats
    covariance: Floats
    spreads: Floats  #: of the parameters beforehand, as `Law.guess` has them
    peak: float
    grid: Grid
    runs: int  #: that it was fitted to
    spread: float  #: root mean square of ln loss over what the law says
    cost: float

    def losses(self, runs: Sequence[Points]) -> Floats:
        """Return the losses at all points of some runs."""
        return self.law.losses(self.theta, self.law.prepare(self._seen(runs), self.grid))[0]

    def at(self, rates: Floats, steps: Any) -> Floats:
        """Return the losses of a schedule at some steps."""
        steps = np.asarray(steps, np.int64)
        return self.losses([Points("", rates, steps, np.ones(len(steps)), float(rates.max()))])

    def slopes(self, schedules: Sequence[Floats]) -> Floats:
        """Return what ln loss at the end of each schedule changes by, in each parameter."""
        ends = [Points("", one, np.array([len(one)]), np.ones(1), one.max()) for one in schedules]
        prepared = self.law.prepare(self._seen(ends), self.grid)
        losses, slopes = self.law.losses(self.theta, prepared)
        found = slopes / losses[:, None]
        return np.where(np.isfinite(found), found, 0.0)

    def _seen(self, runs: Sequence[Points]) -> list[Run]:
        return [Run(run.rates, run.steps, float(np.log(run.peak / self.peak))) for run in runs]

    def parameters(self, level: float = 0.9) -> dict[str, Parameter]:
        """Return the parameters as the paper writes them, with intervals at a level.

        Args:
            level: of each interval, in (0, 1). Runs count as independent, points of a run do not.
        """
        wide = float(student.ppf(0.5 + level / 2, max(1, self.runs - 1)))
        found = {}
        for i, name in enumerate(self.law.parameters):
            half = wide * float(np.sqrt(max(0.0, self.covariance[i, i])))
            ends = [self.law.shown(name, self.theta[i] + sign * half) for sign in (-1, 0, 1)]
            if not np.isfinite(half) or (name not in self.law.exponents and half > 20):
                ends[0], ends[2] = -np.inf, np.inf
            found[name] = Parameter(ends[1], ends[0], ends[2])
        return found


def fit_law(
    law: Law, runs: Sequence[Points], *, seed: int = 0, starts: int = 3, delta: float = DELTA
) -> Fitted:
    """Return the law fitted to runs.

    The sum over points of Huber's loss of ln(loss / law) is least; weak normal priors around
    `Law.guess` decide only what the runs leave open.

    Args:
        law: which one.
        runs: two or more, checked by `ratewise.curves.points.check`.
        seed: of the starts.
        starts: how many of the best of 40 random ones are followed.
        delta: where Huber's loss turns from a square into a line, in ln loss.

    Raises:
        InvalidArgument: no start led to a law of finite losses.
    """
    rng = np.random.default_rng(seed)
    peaks = np.array([run.peak for run in runs])
    peak = float(np.exp(np.log(peaks).mean()))
    totals = np.array([run.rates[: run.length].sum() for run in runs])
    grid = Grid(float(peaks.min()) / 10, float(totals.max()))
    losses = np.concatenate([run.loss for run in runs])
    centre, spread = law.guess(losses, float(np.median(totals)), peak)
    one_peak = float(np.ptp(np.log(peaks))) < 0.01
    frozen = np.array([one_peak and name in law.exponents for name in law.parameters])
    seen = [Run(run.rates, run.steps, float(np.log(run.peak / peak))) for run in runs]
    prepared, logs = law.prepare(seen, grid), np.log(losses)

    def evaluated(theta: Floats) -> tuple[Floats, Floats]:
        with np.errstate(all="ignore"):
            values, slopes = law.losses(theta, prepared)
        sound = np.isfinite(values) & (values > 0)
        safe = np.where(sound, values, 1e3 * losses)
        misfit = np.log(safe) - logs
        by = np.where(sound[:, None] & np.isfinite(slopes), slopes, 0.0)
        prior = delta * (theta - centre) / spread
        rows = by / safe[:, None]
        rows = np.concatenate([rows, np.diag(delta / spread)])
        rows[:, frozen] = 0.0
        return np.concatenate([misfit, prior]), rows

    last: list[tuple[bytes, tuple[Floats, Floats]]] = []

    def once(theta: Floats) -> tuple[Floats, Floats]:
        """Return the same without computing it again for the derivatives."""
        key = theta.tobytes()
        if not last or last[0][0] != key:
            last[:] = [(key, evaluated(theta))]
        return last[0][1]

    tried = centre + spread * rng.standard_normal((_TRIED, len(centre))) * ~frozen
    tried[0] = centre
    costs = [_huber(evaluated(theta)[0], delta) for theta in tried]
    best: Any = None
    for k in np.argsort(costs, kind="stable")[:starts]:
        found = least_squares(
            lambda theta: once(theta)[0],
            tried[k],
            lambda theta: once(theta)[1],
            loss="huber",
            f_scale=delta,
            max_nfev=_EVALUATIONS,
            x_scale=spread,
        )
        if np.isfinite(found.cost) and (best is None or found.cost < best.cost):
            best = found
    if best is None:
        raise InvalidArgument("no law fits these runs: look at their losses and rates")
    misfit, rows = evaluated(best.x)
    covariance = _clustered(misfit, rows, [len(run.loss) for run in runs], delta)
    residual = misfit[: len(logs)]
    return Fitted(
        law, best.x, covariance, spread, peak, grid, len(runs),
        float(np.sqrt(np.mean(residual**2))), float(best.cost),
    )  # fmt: skip


def _huber(misfit: Floats, delta: float) -> float:
    z = np.abs(misfit) / delta
    return float(np.where(z <= 1, z**2, 2 * z - 1).sum())


def _clustered(misfit: Floats, rows: Floats, counts: Sequence[int], delta: float) -> Floats:
    """Return the parameters' covariance, with a run's points as one observation.

    The sandwich of the weighted Jacobian: points of one curve err together, so that the sums over
    each run are what varies. Liang and Zeger 1986.
    """
    z = np.abs(misfit) / delta
    weight = np.where(z <= 1, 1.0, 1.0 / np.maximum(z, 1.0))
    bread = np.linalg.pinv(rows.T @ (weight[:, None] * rows), rcond=1e-12)
    n = sum(counts)
    pulls = (weight * misfit)[:n, None] * rows[:n]
    edges = np.cumsum([0, *counts[:-1]])
    each = np.add.reduceat(pulls, edges)
    many = len(counts) / max(1, len(counts) - 1)
    return bread @ (many * each.T @ each + delta**2 * np.diag(np.diag(rows[n:]) ** 2)) @ bread
