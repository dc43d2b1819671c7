"""The tuned rate of each method: lowest median validation loss on a grid, or where advised."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ratewise.curves.advice import Prior, Tried, decide
from ratewise.errors import invalid
from ratewise.runs import RunRecord

#: Ways of tuning.
TUNERS = ("grid", "advisor")
#: Advice ends where another run is expected to lower the loss by a smaller share.
MIN_GAIN = 0.002
#: How often the grid may grow on one side.
EXTENSIONS = 4


class MethodOnTask(NamedTuple):
    """A schedule with an optimizer on a task: what is tuned, and judged, as one."""

    task: str
    optimizer: str
    schedule: str


class Tuned(NamedTuple):
    """A method's tuned rate, and the number of runs that it took to find it."""

    base_lr: float
    validation_loss: float  #: median over the tuning seeds
    at_edge: int  #: -1 the lowest rate tried, +1 the highest, 0 neither
    runs: int  #: the budget: runs on the grid


def method(record: RunRecord) -> MethodOnTask:
    """Return the method that made a run."""
    return MethodOnTask(record.task, record.optimizer, record.schedule)


def tuned_rates(records: Iterable[RunRecord]) -> dict[MethodOnTask, Tuned]:
    """Return each method's tuned rate from its grid runs; a diverged run counts as infinite.

    Among equal medians (all diverged, say) the lowest rate wins.
    """
    grids: dict[MethodOnTask, dict[float, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.role == "grid":
            grids[method(record)][record.base_lr].append(record)
    tuned = {}
    for key, by_rate in grids.items():
        rates = sorted(by_rate)
        finals = [median_final(by_rate[rate]) for rate in rates]
        best = min(range(len(rates)), key=finals.__getitem__)
        edge = 0 if len(rates) == 1 else -1 if best == 0 else int(best == len(rates) - 1)
        runs = sum(map(len, by_rate.values()))
        tuned[key] = Tuned(rates[best], finals[best], edge, runs)
    return tuned


def extended(
    tuned: Mapping[MethodOnTask, Tuned],
    grids: Mapping[MethodOnTask, Sequence[float]],
    grid: Mapping[MethodOnTask, Sequence[float]],
) -> dict[MethodOnTask, float]:
    """Return the next rate of each method whose optimum lies at the edge of what it has tried.

    Args:
        tuned: the optima so far.
        grids: the rates tried so far.
        grid: the rates that were asked for; their spacing is kept.
    """
    more = {}
    for key, optimum in tuned.items():
        asked = sorted(grid[key])
        if optimum.at_edge == 0 or len(asked) < 2:
            continue
        ratio = (asked[-1] / asked[0]) ** (1.0 / (len(asked) - 1))
        tried = sorted(grids[key])
        beyond = sum(r < asked[0] if optimum.at_edge < 0 else r > asked[-1] for r in tried)
        if beyond < EXTENSIONS:
            new = tried[0] / ratio if optimum.at_edge < 0 else tried[-1] * ratio
            more[key] = float(f"{new:.3g}")
    return more


def advised(
    records: Iterable[RunRecord], centre: float, *, budget: int, seeds: int
) -> list[tuple[float, int]]:
    """Return the next runs of a method that is tuned by advice: rates with seeds; none to stop.

    Args:
        records: its runs so far.
        centre: the first rate.
        budget: the most runs.
        seeds: runs at each rate.

    Raises:
        InvalidArgument: a loss is below 0, so that it has no logarithm.
    """
    tried = []
    for record in records:
        end = math.inf if record.status == "diverged" else record.validation_loss[-1]
        if end < 0:
            fix = "tuner='grid' takes any"
            raise invalid("tuner", "'grid' for losses that may be below 0", "advisor", fix)
        tried.append(Tried(record.base_lr, math.inf if math.isnan(end) else end, record.seed))
    found = decide(tried, Prior(centre), min_gain=MIN_GAIN)
    if found.value is None:
        return []
    known = any(one.value == found.value for one in tried)
    wanted = [found.seed] if known else list(range(seeds))
    return [(found.value, seed) for seed in wanted] if len(tried) + len(wanted) <= budget else []


def median_final(records: Sequence[RunRecord]) -> float:
    """Return the median final validation loss; a diverged run counts as infinite."""
    finals = [
        math.inf if record.status == "diverged" else record.validation_loss[-1]
        for record in records
    ]
    finals = [math.inf if math.isnan(final) else final for final in finals]
    with np.errstate(invalid="ignore"):  # inf - inf, halfway between two diverged runs
        middle = float(np.median(finals)) if finals else math.inf
    return math.inf if math.isnan(middle) else middle
