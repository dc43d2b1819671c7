"""GreedyLR against methods that choose the rate themselves: how low, and how soon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evidence.article import numbers
from evidence.article.numbers import Judged
from evidence.article.plan import OURS, RIVALS, data_set
from ratewise.compare import statistics
from ratewise.compare.analysis import median
from ratewise.compare.statistics import Interval
from ratewise.compare.tuning import MethodOnTask
from ratewise.runs import RunRecord


@dataclass(frozen=True)
class Speed:
    """How soon two methods reach one loss, over pairs of runs."""

    pairs: int
    ours: int  #: runs that reached it
    theirs: int
    steps: Interval  #: mean of ln of the ratio of optimizer steps, ours over theirs
    seconds: Interval  #: the same of processor time
    sooner: int  #: pairs where ours took less time
    later: int


def present(judged: Judged) -> list[str]:
    """Return the methods that choose the rate themselves, of those that were run."""
    return [name for name in RIVALS if any(method.optimizer == name for method in judged)]


def against(judged: Judged, ours: str, rival: str, share: float = 1.0) -> numbers.Count:
    """Return GreedyLR, on the rival's base optimizer, counted against it."""
    return numbers.count(
        [
            one
            for pair in _meetings(judged, ours, rival)
            if (one := numbers.cell(judged, *pair, share))
        ]
    )


def _meetings(judged: Judged, ours: str, rival: str) -> list[tuple[MethodOnTask, MethodOnTask]]:
    return [
        (MethodOnTask(method.task, RIVALS[rival], ours), method)
        for method in judged
        if method.optimizer == rival
    ]


def speed(
    judged: Judged, clocks: Mapping[tuple[str, str], float], rival: str, ours: str = OURS
) -> Speed:
    """Return how soon each reaches the loss that a tuned constant rate ends at, plus 2%.

    A run that does not get there counts with all its steps.

    Args:
        judged: runs at the tuned rates.
        clocks: by task and optimizer, the seconds that a step of ours takes beside the rival.
        rival: what chooses the rate itself.
        ours: the schedule on its base optimizer.
    """
    base, logs, reached, sets = RIVALS[rival], [], [0, 0], []  # of logs an array a task: [pairs, 2]
    for mine, theirs in _meetings(judged, ours, rival):
        ends = judged.get(mine._replace(schedule="constant"), ())
        pairs = numbers.pairs(judged, mine, theirs)
        if not (ends and pairs):
            continue
        target = statistics.MARGIN * median([run.validation_loss[-1] for run in ends])
        of_a_step = clocks[mine.task, base] / numbers.seconds_a_step(judged[theirs])
        rows = []
        for two in pairs:
            there = [steps_to(run, target) for run in two]
            reached = [n + math.isfinite(x) for n, x in zip(reached, there, strict=True)]
            a, b = (min(x, run.steps) for x, run in zip(there, two, strict=True))
            rows.append([math.log(a / b), math.log(a / b * of_a_step)])
        logs.append(np.array(rows))
        sets.append(data_set(mine.task))
    steps, seconds = (statistics.mean_interval([x[:, i] for x in logs], sets) for i in (0, 1))
    spent = np.concatenate([x[:, 1] for x in logs]) if logs else np.empty(0)
    counts = int((spent < 0).sum()), int((spent > 0).sum())
    return Speed(len(spent), reached[0], reached[1], steps, seconds, *counts)


def steps_to(run: RunRecord, target: float) -> float:
    """Return optimizer steps until a validation loss; infinite if never."""
    there = zip(run.eval_step, run.validation_loss, strict=True)
    return next((float(step) for step, loss in there if loss <= target and step > 0), math.inf)
