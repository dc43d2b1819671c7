"""The study in numbers: how each method ends over tuned linear, by kind of training and length."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from evidence.learned import plan, unseen
from evidence.learned.plan import Settings
from evidence.learned.rules import KINDS, LINEAR, METHODS, Unit
from evidence.learned.runs import BOTH, MEASURES, TUNING, best, log
from evidence.results import Result, Results
from ratewise.compare.statistics import Interval, mean_interval


class Judged(NamedTuple):
    """A cell that judges."""

    unit: Unit
    losses: dict[str, np.ndarray]  #: by method, ln of losses over the first, [measure, seed]
    shares: dict[str, np.ndarray]  #: steps to tuned linear's last training loss, [seed]
    failed: dict[str, int]  #: runs that diverged or ended above their start, of those judged
    survives: bool  #: whether linear has a rate on its grid at which no run failed
    edge: bool  #: whether linear's best rate, in held-out loss, is at an end of its grid
    runs: int

    def ratio(self, ours: str, theirs: str, measure: int) -> np.ndarray:
        """Return ln of our loss over a rival's, [seed]."""
        return np.asarray(self.losses[ours][measure] - self.losses[theirs][measure])

    def has(self, *names: str) -> bool:
        """Return whether these methods were run here."""
        return all(name in self.losses for name in names)


class Numbers(NamedTuple):
    """What is there of the study."""

    settings: Settings
    cells: list[Judged]

    def look(self, first: bool) -> list[Judged]:
        """Return the cells of the data that were looked at first here, or of the others."""
        return [cell for cell in self.keep() if (cell.unit.cell.data in unseen.SETS) == first]

    def keep(self, kind: str | None = None, steps: int | None = None) -> list[Judged]:
        """Return the cells of a kind, of a length; None is all but nanoGPT's shape, and any."""
        return [
            cell
            for cell in self.cells
            if (cell.unit.kind == kind if kind else cell.unit.kind != KINDS[3])
            and steps in (None, cell.unit.cell.steps)
        ]

    def methods(self) -> list[str]:
        """Return the methods that were run anywhere."""
        return [name for name in METHODS if any(cell.has(name) for cell in self.cells)]

    def kinds(self) -> list[str]:
        """Return the kinds of cells that are there, nanoGPT's shape aside."""
        return [kind for kind in KINDS[:3] if self.keep(kind)]

    def lengths(self, kind: str | None = None) -> list[int]:
        """Return the lengths of a kind's cells, ascending."""
        return sorted({cell.unit.cell.steps for cell in self.keep(kind)})

    @property
    def trainings(self) -> int:
        """How many runs there are."""
        return sum(cell.runs for cell in self.cells)


def against(
    cells: Sequence[Judged], ours: str, theirs: str, measure: int, most: float = 1.0
) -> Interval:
    """Return the mean log-ratio over the cells that have both, over tasks or data sets."""
    return _pooled(cells, (ours, theirs), lambda x: x.ratio(ours, theirs, measure), most)


def tenth(cells: Sequence[Judged], ours: str, theirs: str, measure: int) -> float:
    """Return what nine tenths of the cells stay below, a ratio; NaN where there is none."""
    logs = [x.ratio(ours, theirs, measure).mean() for x in cells if x.has(ours, theirs)]
    return float(np.exp(np.quantile(logs, 0.9))) if logs else math.nan


def steps(cells: Sequence[Judged], ours: str, most: float = 1.0) -> Interval:
    """Return the log of our share of steps over linear's own; one never reached counts as twice."""

    def of(cell: Judged) -> np.ndarray:
        mine, own = (np.minimum(cell.shares[name], 2.0) for name in (ours, LINEAR))
        return np.log(mine / own)

    return _pooled(cells, (ours,), of, most)


def _pooled(
    cells: Sequence[Judged],
    names: tuple[str, ...],
    of: Callable[[Judged], np.ndarray],
    most: float,
) -> Interval:
    there = [cell for cell in cells if cell.has(*names)]
    sets = [cell.unit.cell.data for cell in there]
    groups = [of(cell) for cell in there]
    return mean_interval(groups, sets, null=math.log(most), over="cells")


def load(results: Results, settings: Settings) -> Numbers:
    """Return the numbers of all units that are there."""
    wanted = plan.wanted(settings).items()
    there = [(unit, results.of(name)) for name, unit in wanted if name in results]
    return Numbers(settings, [judged(settings, unit, runs) for unit, runs in there])


def judged(settings: Settings, unit: Unit, runs: Sequence[Result]) -> Judged:
    """Return what a unit's runs say."""
    losses: dict[str, np.ndarray] = {}
    shares, failed = {}, {}
    for name in dict.fromkeys(run.method for run in runs):
        mine = [run for run in runs if run.method == name and run.role != TUNING]
        by = [[x for x in mine if x.role in (BOTH, role)] for role in MEASURES]
        losses[name] = np.array([[log(x, m) for x in part] for m, part in enumerate(by)])
        shares[name] = np.array([x.losses[3] for x in by[0]])
        failed[name] = sum(map(_failed, by[1]))
    grid: dict[str, int] = {}
    for run in runs:
        if run.role == TUNING and run.method == LINEAR:
            grid[run.setting] = grid.get(run.setting, 0) + _failed(run)
    rates, chosen = settings.grid(unit.cell), best(runs, 1)[LINEAR]
    edge = any(math.isclose(chosen, rate, rel_tol=1e-4) for rate in (rates[0], rates[-1]))
    survives = 0 in grid.values()
    return Judged(unit, losses, shares, failed, survives, edge, len(runs))


def _failed(run: Result) -> bool:
    return not run.losses[1] <= run.losses[0]
