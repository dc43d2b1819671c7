"""The article's numbers: who is as good or better, who is faster, what size does to it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ratewise.compare import statistics
from ratewise.compare.analysis import BOOTSTRAP_SEED, PAPER_MARGIN, loss_at, median
from ratewise.compare.statistics import Interval
from ratewise.compare.tuning import Method
from ratewise.runs import RunRecord

#: Shares of the steps at which losses are compared.
SHARES = (0.1, 0.5, 1.0)
Judged = Mapping[Method, list[RunRecord]]


def methods(records: Sequence[RunRecord]) -> dict[Method, list[RunRecord]]:
    """Return the judged runs of each method, by seed."""
    found: dict[Method, list[RunRecord]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if record.role == "judged":
            key = Method(record.task, record.optimizer, record.schedule)
            found.setdefault(key, []).append(record)
    return found


@dataclass(frozen=True)
class Cell:
    """Two methods on one task: pairs by seed."""

    task: str
    log_ratios: tuple[float, ...]  #: capped; below 0 ours is lower
    ours: float  #: median test loss
    theirs: float
    interval: Interval  #: of the mean log-ratio

    @property
    def verdict(self) -> str:
        """One of `statistics.VERDICTS`."""
        return statistics.verdict(self.interval)


def cell(judged: Judged, ours: Method, theirs: Method, share: float = 1.0) -> Cell | None:
    """Return how two methods compare on a task; None where one was not run.

    Args:
        judged: runs at the tuned rates, by seed.
        ours, theirs: methods on the same task.
        share: of the steps, one of `SHARES`.
    """
    pairs = _pairs(judged, ours, theirs)
    if not pairs:
        return None
    ratios = tuple(
        statistics.log_ratio(loss_at(a, share), loss_at(b, share), a.test_loss[0]) for a, b in pairs
    )
    return Cell(
        task=ours.task,
        log_ratios=ratios,
        ours=median([loss_at(a, share) for a, _ in pairs]),
        theirs=median([loss_at(b, share) for _, b in pairs]),
        interval=statistics.cell_interval(ratios, seed=BOOTSTRAP_SEED),
    )


def _pairs(judged: Judged, ours: Method, theirs: Method) -> list[tuple[RunRecord, RunRecord]]:
    other = {run.seed: run for run in judged.get(theirs, ())}
    return [(run, other[run.seed]) for run in judged.get(ours, ()) if run.seed in other]


@dataclass(frozen=True)
class Count:
    """Cells counted twice: by what the interval allows to say, and as the paper counts."""

    cells: int
    verdicts: Counter[str]
    paper: Mapping[str, int]
    overall: Interval  #: of all log-ratios, tasks and seeds within them as the units

    @property
    def as_good(self) -> float:
        """Share of cells that are better, a tie or non-inferior."""
        return self._share("better", "tie", "non-inferior")

    @property
    def better(self) -> float:
        """Share of cells that are better."""
        return self._share("better")

    @property
    def undecided(self) -> float:
        """Share of cells whose interval allows no word."""
        return self._share("undecided")

    @property
    def worse(self) -> float:
        """Share of cells that are worse."""
        return self._share("worse")

    @property
    def paper_as_good(self) -> float:
        """Share that the paper calls as good or better: a loss not above theirs plus 0.1."""
        return 1.0 - self.paper["worse"] / self.cells if self.cells else math.nan

    @property
    def lower(self) -> float:
        """Share of cells whose median loss is not above theirs, by any margin."""
        mine = self.paper["better"] + self.paper["insignificantly better"]
        return mine / self.cells if self.cells else math.nan

    def _share(self, *names: str) -> float:
        total = sum(self.verdicts[name] for name in names)
        return total / self.cells if self.cells else math.nan


def count(cells: Sequence[Cell]) -> Count:
    """Return the cells counted."""
    by_task: dict[str, list[Cell]] = {}
    for one in cells:
        by_task.setdefault(one.task, []).append(one)
    groups = [_stacked(group) for group in by_task.values()]
    return Count(
        cells=len(cells),
        verdicts=Counter(one.verdict for one in cells),
        paper=statistics.paper_count(
            [one.ours for one in cells], [one.theirs for one in cells], PAPER_MARGIN
        ),
        overall=statistics.pooled_interval(groups, seed=BOOTSTRAP_SEED),
    )


def _stacked(group: Sequence[Cell]) -> np.ndarray:
    """Return [seeds, cells] of one task."""
    shortest = min(len(one.log_ratios) for one in group)
    return np.array([one.log_ratios[:shortest] for one in group]).T


@dataclass(frozen=True)
class Speed:
    """How soon two methods reach one loss, over pairs of runs."""

    pairs: int
    ours: int  #: runs that reached it
    theirs: int
    steps: float  #: median ratio of optimizer steps, ours over theirs
    seconds: float  #: median ratio of training seconds
    sooner: int  #: pairs where ours took less time
    later: int


def speed(
    judged: Judged, pairs: Sequence[tuple[Method, Method]], targets: Mapping[str, float]
) -> Speed:
    """Return how soon the first of each pair reaches the target of its task.

    A run that does not get there counts as infinite; where both do not, the ratio is 1.

    Args:
        judged: runs at the tuned rates.
        pairs: ours and theirs, on the same task.
        targets: validation loss by task.
    """
    steps, seconds, reached = [], [], [0, 0]
    for ours, theirs in pairs:
        for two in _pairs(judged, ours, theirs):
            times = [time_to(run, targets[ours.task]) for run in two]
            for side in (0, 1):
                reached[side] += math.isfinite(times[side][0])
            steps.append(_ratio(times[0][0], times[1][0]))
            seconds.append(_ratio(times[0][1], times[1][1]))
    sooner, later = sum(x < 1.0 for x in seconds), sum(x > 1.0 for x in seconds)
    return Speed(len(steps), reached[0], reached[1], median(steps), median(seconds), sooner, later)


def time_to(run: RunRecord, target: float) -> tuple[float, float]:
    """Return optimizer steps and training seconds until a validation loss; infinite if never."""
    for step, loss in zip(run.eval_step, run.validation_loss, strict=True):
        if loss <= target and step > 0:
            return float(step), step * run.train_seconds / run.steps
    return math.inf, math.inf


def _ratio(ours: float, theirs: float) -> float:
    if math.isinf(ours) and math.isinf(theirs):
        return 1.0
    return ours / theirs


def targets(judged: Judged, base: str, schedule: str = "constant") -> dict[str, float]:
    """Return, by task, the median validation loss that a tuned schedule ends at, plus 2%."""
    return {
        method.task: statistics.MARGIN * median([run.validation_loss[-1] for run in runs])
        for method, runs in judged.items()
        if (method.optimizer, method.schedule) == (base, schedule)
    }


def slope(by_size: Sequence[tuple[int, Cell]]) -> Interval:
    """Return the slope of the log-ratio over log10 of the parameters, one a seed, by Student's t.

    Args:
        by_size: parameters and the cell there, two sizes at least.
    """
    x = np.log10([size for size, _ in by_size])
    y = np.array([one.log_ratios for _, one in by_size])  # [sizes, seeds]
    x = x - x.mean()
    return statistics.paired_t_interval((x @ y / (x @ x)).tolist())
