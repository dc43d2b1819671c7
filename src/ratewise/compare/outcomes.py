"""What each method cost and reached, and the curves that its runs drew."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ratewise.compare import statistics
from ratewise.compare.analysis import Runs, loss_at, median
from ratewise.compare.tuning import MethodOnTask, Tuned
from ratewise.runs import RunRecord


@dataclass(frozen=True)
class Outcome:
    """What a method cost and reached on one task and optimizer, at its tuned rate."""

    method: MethodOnTask
    tuned: Tuned
    runs: int  #: judged runs
    diverged: int
    losses: tuple[float, float, float]  #: median test loss after 10, 50 and 100% of the steps
    metric: float  #: median test metric at the end
    metric_name: str
    steps_to_target: float  #: median optimizer steps to the target, infinite if not reached
    reached: int  #: runs that reached the target
    seconds: float  #: median training time without evaluations


def outcomes(runs: Runs, reference: str) -> list[Outcome]:
    """Return one outcome a method.

    The target of a cell is the median validation loss that the reference ends at, plus 2%.

    Args:
        runs: what was run.
        reference: a schedule's name.
    """
    found = []
    for task, optimizer in runs.cells():
        ends = [
            run.validation_loss[-1] for run in runs.judged(MethodOnTask(task, optimizer, reference))
        ]
        target = statistics.MARGIN * median(ends)
        for schedule in runs.schedules:
            key = MethodOnTask(task, optimizer, schedule)
            judged = runs.judged(key)
            if not judged:
                continue
            steps = [_steps_to(run, target) for run in judged]
            at = [median([loss_at(run, share) for run in judged]) for share in (0.1, 0.5, 1.0)]
            found.append(
                Outcome(
                    method=key,
                    tuned=runs.tuned[key],
                    runs=len(judged),
                    diverged=sum(run.status == "diverged" for run in judged),
                    losses=(at[0], at[1], at[2]),
                    metric=float(np.median([run.test_metric[-1] for run in judged])),
                    metric_name=judged[0].metric_name,
                    steps_to_target=median(steps),
                    reached=sum(math.isfinite(step) for step in steps),
                    seconds=median([run.train_seconds for run in judged]),
                )
            )
    return found


def _steps_to(run: RunRecord, target: float) -> float:
    if not math.isfinite(target):
        return math.inf
    pairs = zip(run.eval_step, run.validation_loss, strict=True)
    return next((float(step) for step, loss in pairs if loss <= target), math.inf)


@dataclass(frozen=True)
class Curve:
    """A median over runs between its quartiles, against steps or base rates."""

    x: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def drawn(runs: Runs, of: MethodOnTask) -> Curve:
    """Return the learning rate that each step used, over the judged runs."""
    return _over([(run.train_step, run.lr) for run in runs.judged(of)])


def history(runs: Runs, of: MethodOnTask) -> Curve:
    """Return the validation loss over the judged runs; a diverged run's is capped."""
    return _over(
        [
            (
                run.eval_step,
                [statistics.capped_loss(x, run.validation_loss[0]) for x in run.validation_loss],
            )
            for run in runs.judged(of)
        ]
    )


def against_rate(runs: Runs, of: MethodOnTask) -> Curve:
    """Return the final test loss at every rate of the grid, over the tuning seeds, capped."""
    by_rate: dict[float, list[float]] = {}
    for run in runs.grid(of):
        loss = statistics.capped_loss(loss_at(run, 1.0), run.test_loss[0])
        by_rate.setdefault(run.base_lr, []).append(loss)
    rates = sorted(by_rate)
    return Curve(
        rates,
        [median(by_rate[rate]) for rate in rates],
        [min(by_rate[rate]) for rate in rates],
        [max(by_rate[rate]) for rate in rates],
    )


def _over(series: list[tuple[list[int], list[float]]]) -> Curve:
    """Return the median and the quartiles at every step that some run has."""
    at: dict[int, list[float]] = {}
    for steps, values in series:
        for step, value in zip(steps, values, strict=True):
            at.setdefault(step, []).append(value)
    steps = sorted(at)
    quartiles = [np.quantile(at[step], [0.25, 0.5, 0.75]) for step in steps]
    low, middle, high = ([float(q[i]) for q in quartiles] for i in range(3))
    return Curve([float(step) for step in steps], middle, low, high)
