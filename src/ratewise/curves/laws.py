"""The two laws of loss curves, as published, and how they carry over peak rates.

Both are L(t) = L0 + A (S + s)^-alpha + (what the rate does), with S the sum of the rates up to t.
They were found on language models trained with Adam, one peak rate a fit; their constants are
those of one model, data set and batch size. With AdamW and several peak rates neither holds as it
stands: S does not count a step at 20 times the rate as 20 steps. So A, B and c follow a power of
the run's peak rate, with exponents that are 0 for one peak rate and pulled towards it for few: an
addition of ours, not of the papers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ratewise.curves.curve import Floats, Steps
from ratewise.curves.sums import Grid, summed, traces

#: Parts into which the stretches between points are cut, in a run.
_PARTS = 256


class Run(NamedTuple):
    """A schedule and the steps at which its loss is asked for."""

    rates: Floats  #: of the steps from 1 on
    points: Steps
    peak: float  #: natural logarithm of the peak rate over the law's own


class Law(ABC):
    """A law: its parameters are logarithms, but for the exponents of the peak rate; abstract."""

    name: ClassVar[str]
    source: ClassVar[str]
    limits: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]]
    exponents: ClassVar[tuple[str, ...]]  #: those of the peak rate, the last of `parameters`

    @abstractmethod
    def prepare(self, runs: Sequence[Run], grid: Grid) -> Any:
        """Return what of the schedules does not depend on parameters."""

    @abstractmethod
    def losses(self, theta: Floats, prepared: Any) -> tuple[Floats, Floats]:
        """Return the losses at all points of all runs, and their derivatives by parameter."""

    @abstractmethod
    def guess(self, losses: Floats, total: float, rate: float) -> tuple[Floats, Floats]:
        """Return the centre of where a fit begins, and how far it may lie from there.

        Args:
            losses: that are fitted.
            total: a typical sum of the rates of a run.
            rate: a typical peak rate.
        """

    def shown(self, name: str, value: float) -> float:
        """Return a parameter as the paper writes it.

        >>> Functional().shown("A", 0.0)
        1.0
        """
        return value if name in self.exponents else float(np.exp(value))


class _Power(NamedTuple):
    """L0 + A (S + s)^-alpha at all points, and its derivatives."""

    total: Floats
    peak: Floats

    def losses(self, l0: float, a: float, s: float, alpha: float, tilt: float) -> list[Floats]:
        """Return the value and the derivatives by the five parameters."""
        base = self.total + np.exp(s + self.peak)
        part = np.exp(a + tilt * self.peak - np.exp(alpha) * np.log(base))
        by_s = -np.exp(alpha) * part / base * np.exp(s + self.peak)
        by_alpha = -np.exp(alpha) * np.log(base) * part
        level = np.full(len(part), np.exp(l0))
        return [level + part, level, part, by_s, by_alpha, part * self.peak]


def _power(runs: Sequence[Run]) -> _Power:
    totals = [summed(run.rates)[run.points] for run in runs]
    peaks = [np.full(len(run.points), run.peak) for run in runs]
    return _Power(np.concatenate(totals), np.concatenate(peaks))


class Functional(Law):
    """L0 + A (S+s)^-alpha + B sum_tau eta_tau^2 (1 + (S_t - S_tau) / c)^-beta."""

    name = "functional"
    source = "functional scaling law, arXiv 2509.19189"
    limits = (
        "noise that enters with the square of the rate and is forgotten by a power of the sum of "
        "the rates; made for one pass over the data, no instability"
    )
    parameters = ("L0", "A", "s", "alpha", "B", "c", "beta", "A~peak", "B~peak", "c~peak")
    exponents = ("A~peak", "B~peak", "c~peak")

    def prepare(self, runs: Sequence[Run], grid: Grid) -> Any:
        """Return the sums of exponentials, which are most of the work."""
        rows = np.concatenate([traces(run.rates, run.points, grid) for run in runs])
        return _power(runs), rows, grid

    def losses(self, theta: Floats, prepared: Any) -> tuple[Floats, Floats]:
        """Return losses and derivatives."""
        power, rows, grid = prepared
        l0, a, s, alpha, b, c, beta, by_a, by_b, by_c = theta
        value, *first = power.losses(l0, a, s, alpha, by_a)
        peaks, where = np.unique(power.peak, return_inverse=True)
        weights = grid.weights(float(np.exp(beta)), np.exp(c + by_c * peaks))
        height = np.exp(b + by_b * power.peak)
        noise, d_c, d_beta = (height * np.einsum("pv,pv->p", rows, each[where]) for each in weights)
        columns = [*first[:4], noise, d_c, d_beta, first[4], noise * power.peak, d_c * power.peak]
        return value + noise, np.stack(columns, axis=1)

    def guess(self, losses: Floats, total: float, rate: float) -> tuple[Floats, Floats]:
        """Return centre and spread."""
        low, high = float(losses.min()), float(np.median(losses))
        centre = [0.88 * low, 0.3 * high * total**0.5, 0.01 * total, 0.5, 0.03 * high / rate]
        centre += [0.01 * total, 0.9]
        return np.r_[np.log(centre), 0, 0, 0], np.array([0.1, 1, 2, 0.4, 1.5, 1.5, 0.6, 0.3, 1, 1])


class MultiPower(Law):
    """L0 + A (S+s)^-alpha - B sum_k (eta_{k-1} - eta_k) [1 - (1 + C eta_k^-gamma S_k)^-beta]."""

    name = "multi-power"
    source = "multi-power law, Luo et al. 2025, arXiv 2503.12811; its sum from eta_0 = 0 on"
    limits = "schedules that rise once and then fall or hold; no instability"
    parameters = ("L0", "A", "s", "alpha", "B", "C", "gamma", "beta", "A~peak", "B~peak")
    exponents = ("A~peak", "B~peak")

    def prepare(self, runs: Sequence[Run], grid: Grid) -> Any:
        """Return all pairs of a point and an earlier change of the rate; few changes a point."""
        first, pairs = 0, []
        for run in runs:
            i, (change, log_rate, at) = _pairs(_changes(run), len(run.points))
            since = np.maximum(summed(run.rates)[run.points][i] - at, 0.0)
            pairs.append((i + first, change, log_rate, since))
            first += len(run.points)
        return _power(runs), *map(np.concatenate, zip(*pairs, strict=True))

    def losses(self, theta: Floats, prepared: Any) -> tuple[Floats, Floats]:
        """Return losses and derivatives."""
        power, point, change, log_rate, since = prepared
        l0, a, s, alpha, b, c, gamma, beta, by_a, by_b = theta
        value, *first = power.losses(l0, a, s, alpha, by_a)
        x = np.exp(np.clip(c - np.exp(gamma) * log_rate, -50, 50)) * since
        log_x, power_beta = np.log1p(x), float(np.exp(beta))
        kept = np.exp(-power_beta * log_x)
        slope = change * power_beta * kept * x / (1.0 + x)
        height = np.exp(b + by_b * power.peak)

        def at_points(values: Floats) -> Floats:
            return -height * np.bincount(point, values, minlength=len(height))

        fall = at_points(change * (1.0 - kept))
        columns = [
            *first[:4],
            fall,
            at_points(slope),
            at_points(-slope * log_rate * np.exp(gamma)),
            at_points(change * kept * log_x * power_beta),
            first[4],
            fall * power.peak,
        ]
        return value + fall, np.stack(columns, axis=1)

    def guess(self, losses: Floats, total: float, rate: float) -> tuple[Floats, Floats]:
        """Return centre and spread."""
        low, high = float(losses.min()), float(np.median(losses))
        centre = [0.88 * low, 0.3 * high * total**0.5, 0.01 * total, 0.5, 0.1 / rate, 1.0, 0.5, 0.6]
        return np.r_[np.log(centre), 0, 0], np.array([0.1, 1, 2, 0.4, 1, 1, 0.4, 0.5, 0.3, 1])


def _pairs(changes: Floats, points: int) -> tuple[Steps, Floats]:
    """Return the pairs of a point and a change before it: the points, and three rows of changes.

    Of many points neighbouring stretches are taken together, in blocks; a point sees the changes
    of its own block singly. So the pairs are about 2 `_PARTS` a point, and linear in the points.

    Args:
        changes: [changes, 4] as `_changes` returns them.
        points: how many.
    """
    stretch = changes[:, 3].astype(np.int64)
    size, at = -(-points // _PARTS), np.arange(points)
    if size == 1:
        i, j = np.nonzero(at[:, None] >= stretch[None])
        return i, changes[j, :3].T
    block = stretch // size
    whole = np.concatenate([_together(changes[block == one]) for one in range(points // size + 1)])
    i, j = np.nonzero(at[:, None] // size > whole[None, :, 3] // size)
    found = [(i, whole[j, :3])]
    for one in range(points // size + 1):
        own, inside = changes[block == one], at[at // size == one]
        i, j = np.nonzero(inside[:, None] >= own[None, :, 3])
        found.append((inside[i], own[j, :3]))
    which, rows = zip(*found, strict=True)
    return np.concatenate(which), np.concatenate(rows).T


def _together(changes: Floats) -> Floats:
    """Return the falls as one, and the rises as one."""
    rows = []
    for own in (changes[changes[:, 0] > 0], changes[changes[:, 0] < 0]):
        if len(own):
            height = own[:, 0].sum()
            rows.append([height, *(own[:, 0] @ own[:, 1:3] / height), own[0, 3]])
    return np.array(rows, float).reshape(-1, 4)


def _changes(run: Run) -> Floats:
    """Return the falls of the rate: how far, ln of the rate after it, S before it, its stretch.

    Neighbouring changes of one sign are taken together, so that a run has at most about twice
    `_PARTS` of them, or two between points.
    """
    total, rate = summed(run.rates), np.concatenate([[0.0], run.rates])
    parts = max(1, -(-_PARTS // max(1, len(run.points))))
    rows, last = [], 0
    for stretch, point in enumerate(run.points):
        for steps in np.array_split(np.arange(last + 1, point + 1), parts):
            fall = rate[steps - 1] - rate[steps]
            for which in (fall > 0, fall < 0):
                if which.any():
                    weight, own = fall[which], steps[which]
                    height = weight.sum()
                    after = float(weight @ rate[own] / height)
                    before = float(weight @ total[own - 1] / height)
                    rows.append((height, np.log(max(after, 1e-12)), before, stretch))
        last = int(point)
    return np.array(rows, float).reshape(-1, 4)


LAWS: dict[str, Law] = {law.name: law for law in (Functional(), MultiPower())}
