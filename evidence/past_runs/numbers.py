"""What the fits and forecasts come to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evidence.past_runs import plan
from evidence.past_runs.plan import Settings
from evidence.results import Result, Results
from ratewise.curves.curve import Floats

#: Resamples of the interval of a paired difference.
_RESAMPLES = 4000


class Shape(NamedTuple):
    """A law on a set of one peak rate: relative errors on the curves that were not fitted."""

    name: str
    law: str
    curves: dict[str, tuple[float, float, float]]  #: mean, worst, worst after a twentieth
    seconds: float

    @property
    def mean(self) -> float:
        """Mean over curves of the mean over points."""
        return float(np.mean([each[0] for each in self.curves.values()]))

    @property
    def worst(self) -> float:
        """The worst point of all."""
        return max(each[1] for each in self.curves.values())

    @property
    def mean_worst(self) -> float:
        """Mean over curves of the worst point."""
        return float(np.mean([each[1] for each in self.curves.values()]))


class Lengths(NamedTuple):
    """Forecasts of longer runs; arrays over those that were not refused."""

    law: str
    names: list[str]
    error: Floats  #: forecast / end - 1
    covered: Floats
    twice: Floats  #: whether the settings were seen at two lengths
    trivial: Floats  #: the trivial fit's error, NaN where there is none
    refused: list[tuple[str, float]]  #: runs with their ends
    seconds: float

    @property
    def share_refused(self) -> float:
        """Of all longer runs."""
        return len(self.refused) / (len(self.refused) + len(self.names))

    def mean(self, twice: bool) -> float:
        """Return the mean absolute error on settings seen at two lengths, or on the others."""
        return float(np.abs(self.error[self.twice == twice]).mean())


class Suggestions(NamedTuple):
    """By draw, how far above the best of all candidates each choice ends."""

    ours: Floats
    as_it_is: Floats
    chance: Floats
    seconds: Floats

    def better(self, other: Floats) -> tuple[float, float, float]:
        """Return the mean of ours minus the other's regret, with its 95% bootstrap interval."""
        return _mean_interval(self.ours - other)


class Begun(NamedTuple):
    """Forecasts from a run's beginning; absolute errors."""

    error: Floats
    match: Floats
    covered: Floats
    refused: int
    alone_refused: bool


class Few(NamedTuple):
    """Forecasts from few past runs, over draws of them."""

    law: str
    runs: int  #: past ones
    draws: int
    covered: float  #: mean over draws of the share of ends that lie in their intervals
    error: float  #: median over draws of the median absolute error
    half: float  #: the same of the interval's half width


class Numbers(NamedTuple):
    """Everything that the page shows."""

    shapes: list[Shape]
    lengths: list[Lengths]
    suggestions: Suggestions
    few: list[Few]
    begun: Begun


def load(results: Results, settings: Settings) -> Numbers:
    """Return the numbers.

    Raises:
        StoreError: a unit is missing.
    """
    units = {unit: results.of(name) for name, unit in plan.units(settings).items()}
    of = {kind: [rows for unit, rows in units.items() if unit.kind == kind]
          for kind in ("shapes", "lengths", "suggestions", "covered", "begun")}  # fmt: skip
    laws = settings.laws
    return Numbers(
        [
            _shape([row for row in rows if row.method == law])
            for rows in of["shapes"]
            for law in laws
        ],
        [_lengths(rows) for rows in of["lengths"]],
        _suggestions([row for rows in of["suggestions"] for row in rows]),
        [
            _few([row for row in rows if row.method == law])
            for law in laws
            for rows in of["covered"]
        ],
        _begun(of["begun"][0]),
    )


def _shape(rows: list[Result]) -> Shape:
    predicted = [row for row in rows if row.role == "predicted"]
    curves = {row.setting: (row.losses[0], row.losses[1], row.losses[2]) for row in predicted}
    return Shape(rows[0].task, rows[0].method, curves, rows[0].seconds)


def _lengths(rows: list[Result]) -> Lengths:
    made = [row for row in rows if np.isfinite(row.losses[1])]
    end, ahead, low, high, trivial = np.array([row.losses for row in made]).T
    refused = [(row.setting, row.losses[0]) for row in rows if not np.isfinite(row.losses[1])]
    return Lengths(
        rows[0].method, [row.setting for row in made], ahead / end - 1,
        (low <= end) & (end <= high), np.isfinite(trivial), trivial / end - 1, refused,
        rows[0].seconds,
    )  # fmt: skip


def _suggestions(rows: list[Result]) -> Suggestions:
    ours, same, chance, best = np.array([row.losses for row in rows]).T
    seconds = np.array([row.seconds for row in rows])
    return Suggestions(ours / best - 1, same / best - 1, chance / best - 1, seconds)


def _few(rows: list[Result]) -> Few:
    ends, inside, error, half = np.array([row.losses for row in rows]).T
    return Few(
        rows[0].method, int(rows[0].setting), len(rows), float((inside / ends).mean()),
        float(np.median(error)), float(np.median(half)),
    )  # fmt: skip


def _begun(rows: list[Result]) -> Begun:
    made = [row for row in rows if np.isfinite(row.losses[1])]
    end, ahead, low, high, match, _ = np.array([row.losses for row in made]).T
    return Begun(
        np.abs(ahead / end - 1), np.abs(match / end - 1), (low <= end) & (end <= high),
        len(rows) - len(made), not any(row.losses[5] for row in rows),
    )  # fmt: skip


def _mean_interval(values: Floats) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (_RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)
