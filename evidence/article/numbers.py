"""The article's numbers: who is as good or better, who is faster, what size does to it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evidence.article.cost import Cost
from evidence.article.plan import RIVALS
from ratewise.compare import statistics
from ratewise.compare.analysis import PAPER_MARGIN, TaskComparison, median, paired
from ratewise.compare.statistics import Interval
from ratewise.compare.tuning import MethodOnTask
from ratewise.runs import RunRecord

#: Shares of the steps at which losses are compared.
SHARES = (0.1, 0.5, 1.0)
#: "in more than 90%" of comparisons; what counts as as good.
GOAL = 0.9
AS_GOOD = ("better", "tie", "non-inferior")
Judged = Mapping[MethodOnTask, list[RunRecord]]


@dataclass(frozen=True)
class Parts:
    """All that was run: records of each part, and what the methods cost."""

    schedules: list[RunRecord]
    rivals: list[RunRecord]
    sizes: list[RunRecord]
    lora: list[RunRecord]
    costs: list[Cost]
    pretrained: float  #: test loss of the model that LoRA adapts, before it


def methods(records: Sequence[RunRecord]) -> dict[MethodOnTask, list[RunRecord]]:
    """Return the judged runs of each method, by seed."""
    found: dict[MethodOnTask, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.role == "judged":
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
    pairs = [[pair] for pair in _pairs(judged, ours, theirs)]
    return paired(ours.task, ours.optimizer, pairs, share) if pairs else None


def _pairs(
    judged: Judged, ours: MethodOnTask, theirs: MethodOnTask
) -> list[tuple[RunRecord, RunRecord]]:
    other = {run.seed: run for run in judged.get(theirs, ())}
    return [(run, other[run.seed]) for run in judged.get(ours, ()) if run.seed in other]


@dataclass(frozen=True)
class Count:
    """Cells counted twice: by what the interval allows to say, and as the paper counts."""

    cells: int
    verdicts: Counter[str]
    paper: Mapping[str, int]
    overall: Interval  #: of the mean log-ratio, tasks or their data sets as the units
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

    def share(self, *names: str) -> float:
        """Return the share of cells with one of these verdicts."""
        total = sum(self.verdicts[name] for name in names)
        return total / self.cells if self.cells else math.nan


def count(cells: Sequence[TaskComparison]) -> Count:
    """Return the cells counted."""
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
        overall=statistics.mean_interval(map(_stacked, by_task.values()), sets),
        goal=statistics.mean_interval([np.mean(x, keepdims=True) for x in good], sets, null=GOAL),
    )


def data_set(task: str) -> str:
    """Return what a task is learned from.

    >>> data_set("cifar-resnet")
    'cifar'
    """
    return task.split("-")[0]


def _stacked(group: Sequence[TaskComparison]) -> np.ndarray:
    """Return [seeds, cells] of one task."""
    shortest = min(len(one.log_ratios) for one in group)
    return np.hstack([one.log_ratios[:shortest] for one in group])


@dataclass(frozen=True)
class Speed:
    """How soon two methods reach one loss, over pairs of runs."""

    pairs: int
    ours: int  #: runs that reached it
    theirs: int
    steps: Interval  #: median of ln of the ratio of optimizer steps, ours over theirs
    seconds: Interval  #: the same of training seconds
    sooner: int  #: pairs where ours took less time
    later: int


def speed(
    judged: Judged, pairs: Sequence[tuple[MethodOnTask, MethodOnTask]], targets: Mapping[str, float]
) -> Speed:
    """Return how soon the first of each pair reaches the target of its task.

    A run that does not get there counts as infinite; where both do not, the ratio is 1.

    Args:
        judged: runs at the tuned rates.
        pairs: ours and theirs, on the same task.
        targets: validation loss by task.
    """
    logs, reached = [], [0, 0]  # an array a task, [pairs, steps or seconds]
    for ours, theirs in pairs:
        own = []
        for two in _pairs(judged, ours, theirs):
            times = [time_to(run, targets[ours.task]) for run in two]
            for side in (0, 1):
                reached[side] += math.isfinite(times[side][0])
            own.append([_log_ratio(*both) for both in zip(*times, strict=True)])
        logs.append(np.reshape(own, (-1, 2)))
    sets = [data_set(ours.task) for ours, _ in pairs]
    steps, seconds = (
        statistics.median_interval([x[:, i : i + 1] for x in logs], sets) for i in (0, 1)
    )
    spent = np.concatenate([x[:, 1] for x in logs]) if logs else np.empty(0)
    counts = int((spent < 0).sum()), int((spent > 0).sum())
    return Speed(len(spent), reached[0], reached[1], steps, seconds, *counts)


def time_to(run: RunRecord, target: float) -> tuple[float, float]:
    """Return optimizer steps and training seconds until a validation loss; infinite if never."""
    for step, loss in zip(run.eval_step, run.validation_loss, strict=True):
        if loss <= target and step > 0:
            return float(step), step * run.train_seconds / run.steps
    return math.inf, math.inf


def _log_ratio(ours: float, theirs: float) -> float:
    if math.isinf(ours) and math.isinf(theirs):
        return 0.0
    return (
        math.inf
        if math.isinf(ours)
        else -math.inf
        if math.isinf(theirs)
        else math.log(ours / theirs)
    )


def targets(judged: Judged, base: str) -> dict[str, float]:
    """Return, by task, the median validation loss that a tuned constant rate ends at, plus 2%."""
    return {
        method.task: statistics.MARGIN * median([run.validation_loss[-1] for run in runs])
        for method, runs in judged.items()
        if (method.optimizer, method.schedule) == (base, "constant")
    }


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


def slope(by_size: Sequence[tuple[int, TaskComparison]]) -> Interval:
    """Return the slope of the log-ratio over log10 of the parameters, one a seed, by Student's t.

    Args:
        by_size: parameters and the cell there, two sizes at least.
    """
    x = np.log10([size for size, _ in by_size])
    y = np.hstack([one.log_ratios for _, one in by_size]).T  # [sizes, seeds]
    x = x - x.mean()
    return statistics.cell_interval((x @ y / (x @ x)).tolist())


def present(judged: Judged) -> list[str]:
    """Return the methods that choose the rate themselves, of those that were run."""
    return [name for name in RIVALS if any(method.optimizer == name for method in judged)]


def against_rival(judged: Judged, ours: str, rival: str, share: float) -> Count:
    """Return GreedyLR, on the rival's base optimizer, counted against it."""
    return count(
        [one for pair in _rivals(judged, ours, rival) if (one := cell(judged, *pair, share))]
    )


def _rivals(judged: Judged, ours: str, rival: str) -> list[tuple[MethodOnTask, MethodOnTask]]:
    return [
        (MethodOnTask(method.task, RIVALS[rival], ours), method)
        for method in judged
        if method.optimizer == rival
    ]


def rival_speed(judged: Judged, ours: str, rival: str) -> Speed:
    """Return how soon each reaches the loss that a tuned constant rate ends at, plus 2%."""
    pairs = [pair for pair in _rivals(judged, ours, rival) if pair[0] in judged]
    return speed(judged, pairs, targets(judged, RIVALS[rival]))


def against_schedules(judged: Judged, ours: str, baselines: Sequence[str], share: float) -> Count:
    """Return GreedyLR counted against schedules, optimizer by optimizer and task by task."""
    cells: list[TaskComparison] = []
    for baseline in baselines:
        for method in judged:
            if method.schedule == ours:
                one = cell(judged, method, method._replace(schedule=baseline), share)
                cells += [one] if one else []
    return count(cells)


def sizes(judged: Judged, baseline: str) -> list[tuple[int, TaskComparison]]:
    """Return parameters and the cell of GreedyLR against a schedule, smallest model first."""
    found = []
    for method in judged:
        one = cell(judged, method, method._replace(schedule=baseline))
        if one and method.schedule == "greedy":
            found.append((_parameters(method.task), one))
    return sorted(found, key=lambda pair: pair[0])


def _parameters(task: str) -> int:
    """Return the size that a task's name tells.

    >>> _parameters("transformer-100k")
    100000
    """
    return int(task.split("-")[-1].replace("k", "000").replace("M", "000000"))
