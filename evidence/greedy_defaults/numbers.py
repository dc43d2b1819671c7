"""The study of GreedyLR's defaults in numbers: scores of candidates, ratios of what is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from evidence.cells import Cell
from evidence.greedy_defaults import plan
from evidence.greedy_defaults.plan import FALL, OLD, OURS, SEVEN, Candidate, Settings, Unit
from evidence.results import Result, Results
from ratewise.compare.statistics import (
    CAP,
    Interval,
    cell_interval,
    mean_interval,
    median_interval,
    verdict,
)

#: Losses below this share of the first one count as it: nobody needs what lies below.
FLOOR = 0.01
#: How a candidate is scored, each as a ratio to tuned linear's loss.
CONDITIONS = ("tuned", "same rate", "a factor of 3 off")
Losses = dict[str, np.ndarray]  #: by method, ln of capped losses: [rate, seed], or [seed] of judged


def rate(run: Result) -> float:
    """Return the base rate of a run."""
    return float(run.setting.rpartition(" ")[2])


def losses(runs: Sequence[Result], role: str, cap: float = CAP) -> Losses:
    """Return the losses of the runs of a role, by method; at most `cap` times the initial one."""
    found: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        if run.role == role:
            initial, _, held_out = run.losses[:3]
            capped = math.log(min(max(held_out, FLOOR * initial), cap * initial))
            found.setdefault(run.method, {}).setdefault(rate(run), []).append(capped)
    grids = {name: np.array(list(by_rate.values())) for name, by_rate in found.items()}
    return {name: x[0] if role == "judged" else x for name, x in grids.items()}


def tuned(runs: Sequence[Result]) -> dict[str, int]:
    """Return the number of the rate that each method is best with, by the mean over seeds."""
    return {name: best(x) for name, x in losses(runs, "tuning").items()}


def best(x: np.ndarray) -> int:
    """Return the number of the rate whose mean over seeds is least."""
    return int(x.mean(1).argmin())


def undecided(judged: Sequence[Result]) -> list[str]:
    """Return the rivals, among those that goals name, against which a cell is undecided."""
    found = losses(judged, "judged")
    ours = found[OURS]
    return [
        name
        for name in (*SEVEN, FALL, OLD)
        if name in found and verdict(cell_interval((ours - found[name]).tolist())) == "undecided"
    ]


# -- development --------------------------------------------------------------------------------


class Score(NamedTuple):
    """How a method did on the develop cells: mean log-ratios to tuned linear, [condition]."""

    name: str
    each: tuple[float, ...]
    high: float  #: at 3 times linear's best rate, over cosine there

    @property
    def mean(self) -> float:
        """What decides: the mean over the conditions."""
        return float(np.mean(self.each))


def developing(settings: Settings) -> dict[str, Unit]:
    """Return the units of all rounds of development."""
    rounds = [plan.wanted(one, ("develop",), None) for one in settings.rounds()]
    return {name: unit for units in rounds for name, unit in units.items()}


def scores(results: Results, settings: Settings) -> list[Score]:
    """Return the scores of all methods on the develop cells that are there, best first."""
    by_cell: dict[Cell, list[Result]] = {}
    for name, unit in developing(settings).items():
        if name in results:
            by_cell.setdefault(unit.cell, []).extend(results.of(name))
    cells = [losses(runs, "tuning", cap=1.0) for runs in by_cell.values()]
    if not cells:
        return []
    found = []
    for name in set.intersection(*map(set, cells)):
        each = np.mean([_conditions(x[name], x["linear"]) for x in cells], 0)
        high = float(
            np.mean([at(x, name, 1, "linear") - at(x, "cosine", 1, "linear") for x in cells])
        )
        found.append(Score(name, tuple(each.tolist()), high))
    return sorted(found, key=lambda score: (score.mean, score.name))


def _conditions(ours: np.ndarray, linear: np.ndarray) -> list[float]:
    mine, middle = ours.mean(1), best(linear)
    off = [mine[k] for k in (middle - 1, middle + 1) if 0 <= k < len(mine)]
    least = linear.mean(1)[middle]
    return [mine.min() - least, mine.mean() - least, float(np.mean(off)) - least]


def at(cell: Losses, name: str, shift: int, of: str = "cosine") -> float:
    """Return a method's loss at so many half decades above another's best rate; NaN outside."""
    k = best(cell[of]) + shift
    return float(cell[name].mean(1)[k]) if 0 <= k < len(cell[name]) else math.nan


def chosen(results: Results, settings: Settings) -> Candidate:
    """Return the candidate with the least mean score.

    Raises:
        StoreError: a develop cell is missing.
    """
    for name in developing(settings):
        results.of(name)
    by_name = {str(candidate): candidate for candidate in settings.candidates()}
    return next(by_name[x.name] for x in scores(results, settings) if x.name in by_name)


# -- judgement ----------------------------------------------------------------------------------


class Judged(NamedTuple):
    """A cell that judges."""

    cell: Cell
    grid: Losses
    final: Losses

    def ratio(self, name: str, ours: str = OURS) -> np.ndarray:
        """Return ln of our loss over a rival's, each tuned, [seeds that both have]."""
        a, b = self.final[ours], self.final[name]
        count = min(len(a), len(b))
        return a[:count] - b[:count]

    def same(self, name: str, ours: str = OURS) -> np.ndarray:
        """Return the same at the same rate, the mean over the rates of the grid, [tuning seeds]."""
        return np.asarray((self.grid[ours] - self.grid[name]).mean(0))

    def shifted(self, name: str, shift: int, ours: str = OURS) -> float:
        """Return the same at half decades above tuned cosine's rate; NaN outside the grid."""
        return at(self.grid, ours, shift) - at(self.grid, name, shift)


class Numbers(NamedTuple):
    """What is there of the study."""

    settings: Settings
    scores: list[Score]
    chosen: Candidate | None  #: None until all develop cells are there
    cells: list[Judged]
    given: Losses  #: at a given rate, [seed]
    planned: int  #: cells that should judge
    trainings: int

    def ratio(self, name: str, most: float = 1.0, ours: str = OURS) -> Interval:
        """Return the ratio over all cells, each method tuned."""
        return self._pooled(lambda cell: cell.ratio(name, ours), most)

    def median(self, name: str) -> Interval:
        """Return the same in the median cell."""
        groups = [cell.ratio(name) for cell in self.cells]
        return median_interval(groups, [cell.cell.data for cell in self.cells], over="cells")

    def same(self, name: str, most: float = 1.0, ours: str = OURS) -> Interval:
        """Return the ratio over all cells at the same rates."""
        return self._pooled(lambda cell: cell.same(name, ours), most)

    def shifted(self, name: str, shift: int, most: float = 1.0, ours: str = OURS) -> Interval:
        """Return the ratio over all cells at half decades above cosine's best rate."""
        return self._pooled(lambda cell: [cell.shifted(name, shift, ours)], most)

    def _pooled(
        self, of: Callable[[Judged], Sequence[float] | np.ndarray], most: float
    ) -> Interval:
        values = [np.asarray(of(cell)) for cell in self.cells]
        there = [not np.isnan(x).any() for x in values]
        sets = [cell.cell.data for cell, keep in zip(self.cells, there, strict=True) if keep]
        groups = [x for x, keep in zip(values, there, strict=True) if keep]
        return mean_interval(groups, sets, null=math.log(most), over="cells")

    def verdicts(self, names: Sequence[str] = SEVEN, ours: str = OURS) -> list[str]:
        """Return what the interval of each cell says against each of these."""
        return [
            verdict(cell_interval(cell.ratio(name, ours).tolist()))
            for cell in self.cells
            for name in names
        ]


def load(results: Results, settings: Settings) -> Numbers:
    """Return the numbers of all units that are there."""
    found = scores(results, settings)
    develop = developing(settings)
    winner = chosen(results, settings) if all(name in results for name in develop) else None
    units: dict[str, Unit] = dict(develop)
    if winner is not None:
        units |= plan.wanted(settings, ("judged", "given"), winner)
    there = [(unit, results.of(name)) for name, unit in units.items() if name in results]
    given = [x for unit, kept in there if unit.part == "given" for x in kept]
    return Numbers(
        settings=settings,
        scores=found,
        chosen=winner,
        cells=[
            Judged(unit.cell, losses(kept, "tuning"), losses(kept, "judged"))
            for unit, kept in there
            if unit.part == "judged"
        ],
        given=losses(given, "judged"),
        planned=len(settings.judged),
        trainings=sum(len(kept) for _, kept in there),
    )
