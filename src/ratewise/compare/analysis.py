"""From runs to comparisons: cells, pairs of methods, what each method cost and reached.

Two conditions. "same rate": both methods at every base rate that was asked for, on the tuning
seeds. "tuned": each method at its own tuned rate, on fresh seeds. Losses are those of the test
part, and pairs share seed, initial weights and batch order.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ratewise.compare import statistics, sweep_file
from ratewise.compare.statistics import Interval
from ratewise.compare.tuning import MethodOnTask, Tuned, method, tuned_rates
from ratewise.errors import StoreError
from ratewise.runs import RunRecord, Store

CONDITIONS = ("tuned", "same rate")
#: Shares of the steps after which losses are compared.
SHARES = (0.1, 0.5, 1.0)
#: The paper's absolute margin on the loss.
PAPER_MARGIN = 0.1


class Runs:
    """The runs of one comparison, found by method.

    Args:
        records: the runs that were asked for.
        asked: the plan, as the store keeps it.
    """

    def __init__(self, records: Iterable[RunRecord], asked: dict[str, Any]) -> None:
        self.records = list(records)
        self.asked = asked
        self.tasks: list[str] = list(asked["tasks"])
        self.optimizers: list[str] = list(asked["optimizers"])
        self.schedules: list[str] = list(asked["schedules"])
        self.data_sets: dict[str, str] = asked.get("data_sets") or {}
        self._grids = {(task, optimizer): rates for task, optimizer, rates in asked["grids"]}
        self.tuned: dict[MethodOnTask, Tuned] = tuned_rates(self.records)
        self._found: dict[tuple[str, MethodOnTask], list[RunRecord]] = defaultdict(list)
        for record in self.records:
            self._found[record.role, method(record)].append(record)

    def cells(self) -> list[tuple[str, str]]:
        """Return every task and optimizer."""
        return [(task, optimizer) for task in self.tasks for optimizer in self.optimizers]

    def grid(self, of: MethodOnTask) -> list[RunRecord]:
        """Return the runs at every rate, tuning seeds, the grid's extension included."""
        return self._found["grid", of]

    def judged(self, of: MethodOnTask) -> list[RunRecord]:
        """Return the runs at the tuned rate, fresh seeds."""
        runs = self._found["judged", of]
        tuned = self.tuned.get(of)  # its grid may have been lost
        return [run for run in runs if run.base_lr == tuned.base_lr] if tuned else []

    def by_seed(self, of: MethodOnTask, condition: str) -> dict[int, dict[float, RunRecord]]:
        """Return seed -> rate -> run; the rate is 0 where each method has its own."""
        found: dict[int, dict[float, RunRecord]] = defaultdict(dict)
        if condition == "tuned":
            for run in self.judged(of):
                found[run.seed][0.0] = run
        else:
            asked = set(self._grids[of.task, of.optimizer])
            for run in self.grid(of):
                if run.base_lr in asked:
                    found[run.seed][run.base_lr] = run
        return found


def load(store: Store) -> Runs:
    """Return the runs that the last comparison in this store asked for.

    Raises:
        StoreError: no comparison was made there, or it cannot be reported.
    """
    found = sweep_file.read(store)
    if found is None:
        raise StoreError(
            f"{store.folder} holds no comparison yet: run `ratewise compare --out {store.folder}`"
        )
    plan, ids = found
    wanted = set(ids)
    records = [run for run in store.load() if run.run_id in wanted]
    for run in records:
        if not {0, *(round(share * run.steps) for share in SHARES)} <= set(run.test_step):
            raise StoreError(
                f"run {run.run_id} in {store.folder} has no test losses on the way: "
                "remove its file and run the comparison again"
            )
    return Runs(records, plan)


@dataclass(frozen=True)
class TaskComparison:
    """Two schedules on one task with one optimizer; rows are seeds, columns base rates."""

    task: str
    optimizer: str
    seeds: tuple[int, ...]
    ours: np.ndarray  #: test losses [seeds, rates], infinite where a run diverged
    theirs: np.ndarray
    log_ratios: np.ndarray  #: capped, [seeds, rates]
    interval: Interval  #: of the mean log-ratio, seeds as the units; unbounded if `alone`
    unpaired: int = 0  #: runs left out because the other method lacks that seed and rate

    @property
    def alone(self) -> bool:
        """Whether in some pair one run diverged, and the other did not."""
        return bool((np.isinf(self.ours) != np.isinf(self.theirs)).any())

    @property
    def diverged(self) -> tuple[int, int]:
        """Seeds with a run that diverged, ours and theirs."""
        ours, theirs = (int(np.isinf(side).any(1).sum()) for side in (self.ours, self.theirs))
        return ours, theirs

    @property
    def verdict(self) -> str:
        """One of `statistics.VERDICTS`; where runs diverged alone their numbers decide."""
        if not self.alone:
            return statistics.verdict(self.interval)
        ours, theirs = self.diverged
        if statistics.divergence_p(ours, theirs, len(self.seeds)) > 1 - statistics.LEVEL:
            return "undecided"
        return "better" if ours < theirs else "worse"


@dataclass(frozen=True)
class Pair:
    """Two schedules compared over all tasks and optimizers."""

    ours: str
    baseline: str
    condition: str
    cells: tuple[TaskComparison, ...]
    overall: Interval  #: of the mean log-ratio, tasks or their data sets as the units
    interquartile: float  #: interquartile mean of all log-ratios
    improvement: float  #: mean over cells of P(ours < theirs)

    @property
    def verdicts(self) -> Counter[str]:
        """How many cells got which verdict."""
        return Counter(cell.verdict for cell in self.cells)

    @property
    def decided(self) -> int:
        """Cells whose verdict is not "undecided"."""
        return len(self.cells) - self.verdicts["undecided"]

    @property
    def non_inferior(self) -> int:
        """Cells that are better, a tie or non-inferior."""
        return sum(self.verdicts[name] for name in ("better", "tie", "non-inferior"))

    @property
    def diverged(self) -> tuple[int, int]:
        """Diverged runs among the pairs, ours and theirs."""
        ours, theirs = (
            sum(int(np.isinf(getattr(cell, side)).sum()) for cell in self.cells)
            for side in ("ours", "theirs")
        )
        return ours, theirs

    def paper_count(self) -> dict[str, int]:
        """Count cells by their median losses, as the paper does."""
        ours = [median(cell.ours) for cell in self.cells]
        theirs = [median(cell.theirs) for cell in self.cells]
        return statistics.paper_count(ours, theirs, PAPER_MARGIN)

    def below_margin(self) -> float:
        """Return the share of cells whose losses all lie below the paper's margin."""
        below = [
            bool((cell.ours < PAPER_MARGIN).all() and (cell.theirs < PAPER_MARGIN).all())
            for cell in self.cells
        ]
        return float(np.mean(below)) if below else math.nan


def compare(
    runs: Runs, ours: str, baseline: str, condition: str = "tuned", share: float = 1.0
) -> Pair:
    """Return how two schedules compare over all tasks and optimizers.

    Args:
        runs: what was run.
        ours, baseline: names of schedules.
        condition: "tuned" or "same rate".
        share: of the steps after which the losses are taken: 0.1, 0.5 or 1.
    """
    cells = [
        cell
        for task, optimizer in runs.cells()
        if (cell := _cell(runs, task, optimizer, ours, baseline, condition, share))
    ]
    values = [cell.log_ratios.ravel() for cell in cells]
    pooled = np.concatenate(values) if values else np.empty(0)
    by_task = _by_task(cells)
    sets = [runs.data_sets.get(task, task) for task in by_task]
    overall = statistics.mean_interval(by_task.values(), sets)
    if len(by_task) == 1 and any(cell.alone for cell in cells):
        overall = overall.unbounded()  # of seeds, as in a cell
    return Pair(
        ours=ours,
        baseline=baseline,
        condition=condition,
        cells=tuple(cells),
        overall=overall,
        interquartile=statistics.interquartile_mean(pooled.tolist()),
        improvement=float(np.mean([_improvement(cell) for cell in cells])) if cells else math.nan,
    )


def _cell(
    runs: Runs,
    task: str,
    optimizer: str,
    ours: str,
    baseline: str,
    condition: str,
    share: float,
) -> TaskComparison | None:
    mine = runs.by_seed(MethodOnTask(task, optimizer, ours), condition)
    other = runs.by_seed(MethodOnTask(task, optimizer, baseline), condition)
    rates = sorted({rate for side in (mine, other) for row in side.values() for rate in row})
    seeds = [
        seed
        for seed in sorted(mine)
        if all(rate in mine[seed] and rate in other.get(seed, {}) for rate in rates)
    ]
    total = sum(len(row) for side in (mine, other) for row in side.values())
    if not seeds:
        return None
    pairs = [[(mine[seed][rate], other[seed][rate]) for rate in rates] for seed in seeds]
    unpaired = total - 2 * len(seeds) * len(rates)
    return replace(paired(task, optimizer, pairs, share), unpaired=unpaired)


def paired(
    task: str,
    optimizer: str,
    pairs: Sequence[Sequence[tuple[RunRecord, RunRecord]]],
    share: float = 1.0,
) -> TaskComparison:
    """Return how two methods compare on a task.

    Args:
        task, optimizer: of all runs.
        pairs: a row a seed, a pair a base rate: a run of ours, and of theirs.
        share: of the steps after which the losses are taken.
    """
    losses = np.array([[[loss_at(run, share) for run in pair] for pair in row] for row in pairs])
    ratios = np.array(
        [
            [
                statistics.log_ratio(loss_at(a, share), loss_at(b, share), a.test_loss[0])
                for a, b in row
            ]
            for row in pairs
        ]
    )
    found = TaskComparison(
        task=task,
        optimizer=optimizer,
        seeds=tuple(row[0][0].seed for row in pairs),
        ours=losses[..., 0],
        theirs=losses[..., 1],
        log_ratios=ratios,
        interval=statistics.cell_interval(ratios.mean(axis=1).tolist()),
    )
    return replace(found, interval=found.interval.unbounded()) if found.alone else found


def _by_task(cells: Sequence[TaskComparison]) -> dict[str, np.ndarray]:
    """Return one array [seeds, values] a task."""
    groups = defaultdict(list)
    for cell in cells:
        groups[cell.task].append(cell)
    arrays = {}
    for task, group in groups.items():
        shared = set(group[0].seeds).intersection(*(cell.seeds for cell in group))
        rows = [
            cell.log_ratios[[i for i, seed in enumerate(cell.seeds) if seed in shared]]
            for cell in group
        ]
        arrays[task] = np.hstack(rows)
    return arrays


def _improvement(cell: TaskComparison) -> float:
    columns = range(cell.ours.shape[1])
    return float(
        np.mean(
            [
                statistics.probability_of_improvement(
                    cell.ours[:, i].tolist(), cell.theirs[:, i].tolist()
                )
                for i in columns
            ]
        )
    )


def loss_at(record: RunRecord, share: float) -> float:
    """Return the test loss after a share of the steps; infinite if the run had diverged."""
    return record.test_loss[record.test_step.index(round(share * record.steps))]


def sides(schedules: Sequence[str]) -> tuple[list[str], list[str], str]:
    """Return our schedules, the baselines, and the reference that all are measured against.

    Ours are those of GreedyLR, or the first one where there is none; the reference is cosine,
    or the first baseline.

    >>> sides(["greedy", "linear", "cosine"])
    (['greedy'], ['linear', 'cosine'], 'cosine')
    """
    ours = [name for name in schedules if name.split("-")[0] == "greedy"] or list(schedules[:1])
    baselines = [name for name in schedules if name not in ours]
    reference = "cosine" if "cosine" in baselines else (baselines or ours)[0]
    return ours, baselines, reference


def median(values: Any) -> float:
    """The median, infinite if half of the values are."""
    ordered = np.sort(np.asarray(values, dtype=float).ravel())
    if not len(ordered):
        return math.nan
    middle = ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]]
    return float(middle[1]) if np.isinf(middle[1]) else float(middle.mean())
