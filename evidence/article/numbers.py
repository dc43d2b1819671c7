"""The article's numbers: who is as good or better, how schedules differ, what size does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evidence.article import cost, kept, plan
from evidence.article.cost import Cost
from evidence.article.plan import DEVELOPED, OURS, Settings, data_set
from evidence.results import Results
from ratewise.compare import statistics
from ratewise.compare.analysis import PAPER_MARGIN, TaskComparison, median, paired
from ratewise.compare.statistics import Interval
from ratewise.compare.tuning import MethodOnTask
from ratewise.runs import RunRecord

#: "in more than 90%" of comparisons; what counts as as good.
GOAL = 0.9
AS_GOOD = ("better", "tie", "non-inferior")
Judged = Mapping[MethodOnTask, list[RunRecord]]


class Study(NamedTuple):
    """What is there: of the parts that are complete, the runs that judge."""

    settings: Settings
    done: dict[str, tuple[int, int]]  #: part -> units that are there, units that it has
    judged: Judged
    clocks: dict[tuple[str, str], float]  #: task, optimizer -> GreedyLR's seconds a step
    trainings: int
    costs: list[Cost]

    def has(self, part: str) -> bool:
        """Return whether a part is complete."""
        there, planned = self.done[part]
        return there == planned > 0

    def of(self, tasks: Iterable[str], *, developed: bool = False) -> Judged:
        """Return the runs on tasks, of those whose data developed the new default, or the rest."""
        chosen = {task for task in tasks if (data_set(task) in DEVELOPED) == developed}
        return {method: runs for method, runs in self.judged.items() if method.task in chosen}

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks on which schedules are compared."""
        return (*self.settings.tasks, *self.settings.more)


def load(results: Results, settings: Settings) -> Study:
    """Return what is there."""
    done, found = {}, []
    for part, units in plan.units(settings).items():
        there = [x for x in plan.wanted(settings, units) if x in results]
        done[part] = len(there), len(units)
        if len(there) == len(units):
            found += [run for name in there for run in kept.runs(results.of(name))]
    clocks = {
        (method.task, method.optimizer): seconds_a_step(runs)
        for method, runs in methods(found, kept.CLOCK).items()
    }
    return Study(settings, done, methods(found), clocks, len(found), cost.load(results, settings))


def methods(
    records: Sequence[RunRecord], role: str = "judged"
) -> dict[MethodOnTask, list[RunRecord]]:
    """Return the runs of a role of each method, by seed."""
    found: dict[MethodOnTask, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.role == role:
            key = MethodOnTask(record.task, record.optimizer, record.schedule)
            found.setdefault(key, []).append(record)
    return found


def cell(
    judged: Judged, ours: MethodOnTask, theirs: MethodOnTask, share: float = 1.0
) -> TaskComparison | None:
    """Return how two methods compare on a task; None where one was not run.

    Args:
        judged: runs at the tuned rates, by seed.
        ours, theirs: methods on the same task.
        share: of the steps, one of `SHARES`.
    """
    rows = [[pair] for pair in pairs(judged, ours, theirs)]
    return paired(ours.task, ours.optimizer, rows, share) if rows else None


def pairs(
    judged: Judged, ours: MethodOnTask, theirs: MethodOnTask
) -> list[tuple[RunRecord, RunRecord]]:
    """Return the runs of two methods that share a seed."""
    other = {run.seed: run for run in judged.get(theirs, ())}
    return [(run, other[run.seed]) for run in judged.get(ours, ()) if run.seed in other]


def seconds_a_step(runs: Sequence[RunRecord]) -> float:
    """Return the median processor time of a step, of runs that ended where there are any."""
    ended = [run for run in runs if run.status == "finished"] or runs
    return float(np.median([run.train_seconds / run.steps for run in ended]))


@dataclass(frozen=True)
class Count:
    """Cells counted twice: by what the interval allows to say, and as the paper counts."""

    cells: int
    verdicts: Counter[str]
    paper: Mapping[str, int]
    overall: Interval  #: of the mean log-ratio, tasks or their data sets as the units
    middle: float  #: of the cells' mean log-ratios, the median
    goal: Interval  #: of the share of cells that are as good, a value a task, against `GOAL`

    @property
    def as_good(self) -> float:
        """Share of cells that are better, a tie or non-inferior."""
        return self.share(*AS_GOOD)

    @property
    def paper_as_good(self) -> float:
        """Share that the paper calls as good or better: a loss not above theirs plus 0.1."""
        return 1.0 - self.paper["worse"] / self.cells if self.cells else math.nan

    @property
    def lower(self) -> float:
        """Share of cells whose median loss is not above theirs, by any margin."""
        mine = self.paper["better"] + self.paper["insignificantly better"]
        return mine / self.cells if self.cells else math.nan

    @property
    def typical(self) -> float:
        """The ratio in the median cell."""
        return math.exp(self.middle)

    def share(self, *names: str) -> float:
        """Return the share of cells with one of these verdicts."""
        total = sum(self.verdicts[name] for name in names)
        return total / self.cells if self.cells else math.nan


def count(cells: Sequence[TaskComparison], null: float = 0.0) -> Count:
    """Return the cells counted; `null` is what the p-value of their mean log-ratio is about."""
    by_task: dict[str, list[TaskComparison]] = {}
    for one in cells:
        by_task.setdefault(one.task, []).append(one)
    sets = [data_set(task) for task in by_task]
    good = [[float(one.verdict in AS_GOOD) for one in group] for group in by_task.values()]
    return Count(
        cells=len(cells),
        verdicts=Counter(one.verdict for one in cells),
        paper=statistics.paper_count(
            [median(one.ours) for one in cells], [median(one.theirs) for one in cells], PAPER_MARGIN
        ),
        overall=statistics.mean_interval(map(_stacked, by_task.values()), sets, null=null),
        middle=median([one.log_ratios.mean() for one in cells]),
        goal=statistics.mean_interval([np.mean(x, keepdims=True) for x in good], sets, null=GOAL),
    )


def _stacked(group: Sequence[TaskComparison]) -> np.ndarray:
    """Return [seeds, cells] of one task."""
    shortest = min(len(one.log_ratios) for one in group)
    return np.hstack([one.log_ratios[:shortest] for one in group])


def against(
    judged: Judged, ours: str, theirs: Sequence[str], share: float = 1.0, null: float = 0.0
) -> Count:
    """Return a schedule counted against others, optimizer by optimizer and task by task."""
    found = [
        cell(judged, method, method._replace(schedule=name), share)
        for name in theirs
        for method in judged
        if method.schedule == ours
    ]
    return count([one for one in found if one], null)


class Diversity(NamedTuple):
    """How much the schedules differ that one method draws: of ln(rate / base rate)."""

    between: float  #: standard deviation over tasks, their means over seeds, over progress
    within: float  #: over the seeds of a task and optimizer

    @property
    def ratio(self) -> float:
        """How many times as much they differ between tasks as within one."""
        return self.between / self.within if self.within else math.inf


def diversity(judged: Judged, schedule: str) -> Diversity:
    """Return how much a method's schedules differ between tasks, and between seeds of one."""
    progress = np.linspace(0.0, 1.0, 50)
    drawn = [
        [
            np.interp(progress * run.steps, run.train_step, np.log(np.divide(run.lr, run.base_lr)))
            for run in runs
            if run.lr
        ]
        for method, runs in judged.items()
        if method.schedule == schedule
    ]
    means = [np.mean(one, axis=0) for one in drawn if one]
    apart = [np.var(one, axis=0, ddof=1) for one in drawn if len(one) > 1]
    between = float(np.sqrt(np.var(means, axis=0, ddof=1).mean())) if len(means) > 1 else math.nan
    return Diversity(between, float(np.sqrt(np.mean(apart))) if apart else math.nan)


def sizes(judged: Judged, baseline: str) -> dict[str, dict[str, TaskComparison]]:
    """Return by data set and size the cell of GreedyLR against a schedule."""
    found: dict[str, dict[str, TaskComparison]] = {}
    for method in judged:
        source, _, size = method.task.partition("-")
        one = cell(judged, method, method._replace(schedule=baseline))
        if one and method.schedule == OURS:
            found.setdefault(source, {})[size] = one
    return found


def slopes(by_size: Mapping[str, TaskComparison]) -> list[float]:
    """Return the slope of the log-ratio over log10 of the parameters, one a seed.

    Args:
        by_size: the cell of each size, two sizes at least.
    """
    x = np.log10([parameters(size) for size in by_size])
    y = np.hstack([one.log_ratios for one in by_size.values()]).T  # [sizes, seeds]
    x = x - x.mean()
    return list((x @ y / (x @ x)).tolist())


def parameters(size: str) -> int:
    """Return the number that a size tells.

    >>> parameters("100k")
    100000
    """
    return int(size.replace("k", "000").replace("M", "000000"))
