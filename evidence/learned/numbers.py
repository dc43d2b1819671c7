"""What the runs of the study say, as arrays: logarithms of losses, and steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from evidence import judged, peers
from evidence.judged import FAMILIES
from evidence.learned.kept import Run
from evidence.learned.plan import RULES, USUAL
from ratewise.compare.statistics import Interval, capped_loss, mean_interval, median_interval

MEASURES = ("training", "held-out")
#: Losses below this share of the initial one count as it: nobody needs what lies below.
FLOOR = 1e-3
#: A ratio below the first is a win, one above the second a loss, a tie between them.
WIN, LOSS = 0.99, 1.01
#: Recorded batch losses in one smoothed value.
SMOOTH = 5
#: What a step that is steered takes, to one that is not: docs/evidence/update-ratio-cost.md.
STEP = 1.013
#: What stands for a target that was never reached: infinity has no mean with anything.
NEVER = 1e9
COSINE, TUNED_RATIO, AT_USUAL = "cosine", "update-ratio tuned", "cosine at 1e-3"
RATIO, ANCHOR = "update-ratio", "anchor"
#: What is run at several rates, or ratios, to choose one of them.
GRIDS = (*RULES, TUNED_RATIO)


#: By task, its values: one, or [seed, ...].
Groups = Mapping[str, np.ndarray]


class Runs(NamedTuple):
    """One method's runs; NaN, or None, where there is no such run."""

    rates: np.ndarray  #: [task, rate], ascending
    #: ln of the final loss over the initial one, [measure, task, rate, seed]
    loss: np.ndarray
    failed: np.ndarray  #: 1 where a run diverged or ended above its start, [task, rate, seed]
    seconds: np.ndarray  #: of its training, [task, rate, seed]
    records: np.ndarray  #: [task, rate, seed]

    def there(self) -> np.ndarray:
        """Return whether there is a run, [task, rate, seed]."""
        return ~np.isnan(self.failed)

    def best(self, measure: int) -> np.ndarray:
        """Return the rate with the least mean over seeds of a measure, an index [task]."""
        mean = _mean(self.loss[measure])
        return np.where(np.isnan(mean), np.inf, mean).argmin(-1)

    def middle(self) -> np.ndarray:
        """Return the middle one of the rates that a task was run at, an index [task]."""
        return np.maximum(0, ((~np.isnan(self.rates)).sum(-1) - 1) // 2)


@dataclass(frozen=True)
class Numbers:
    """All methods' runs on the same tasks and seeds."""

    tasks: list[str]
    family: np.ndarray  #: [task]
    steps: np.ndarray  #: [task]
    seeds: list[int]
    methods: dict[str, Runs]
    runs: int  #: in all

    def families(self) -> list[str]:
        """Return the families that have tasks."""
        known = [name for name in FAMILIES if name in self.family]
        return known + sorted(set(self.family) - set(known))

    def data_sets(self) -> list[str]:
        """Return what the tasks are learned from, each once; random teachers count as one."""
        return sorted(set(_data_sets(self.tasks)))

    def keep(self, family: str | None = None) -> np.ndarray:
        """Return which tasks are of a family, [task]; of None, all."""
        return np.ones(len(self.tasks), bool) if family is None else self.family == family

    def free(self) -> list[str]:
        """Return the methods that need no rate: policies, UpdateRatioLR, controls."""
        others = (*GRIDS, *peers.METHODS, AT_USUAL)
        found = [name for name in self.methods if name not in others]
        order = {name: i for i, name in enumerate([*self.learned(), RATIO])}
        return sorted(found, key=lambda name: (order.get(name, len(order)), name))

    def learned(self) -> list[str]:
        """Return the policies, the shipped one first."""
        found = sorted(name for name in self.methods if name.startswith("learned "))
        return sorted(found, key=lambda name: name != "learned default")

    def controls(self) -> list[str]:
        """Return what needs no rate but is neither a policy nor UpdateRatioLR."""
        return [x for x in self.free() if x not in self.learned() and x != RATIO]

    def grids(self) -> list[str]:
        """Return the common schedules, cosine first."""
        found = [name for name in RULES if name in self.methods]
        return sorted(found, key=lambda name: name != COSINE)

    def peers(self) -> list[str]:
        """Return the optimizers that need no rate."""
        return [name for name in peers.METHODS if name in self.methods]

    def at(self, method: str, measure: int) -> np.ndarray:
        """Return ln of the losses that stand for a method, [task, seed].

        What has a grid stands at its best value, chosen in hindsight on the mean over seeds of the
        very measure; what needs no rate at the middle one of the rates that it was given.
        """
        return self._taken(method, measure, self.methods[method].loss[measure])

    def where(self, method: str, measure: int) -> np.ndarray:
        """Return which rate's runs stand for a method, an index [task]."""
        runs = self.methods[method]
        return runs.best(measure) if method in GRIDS else runs.middle()

    def _taken(self, method: str, measure: int, values: np.ndarray) -> np.ndarray:
        found: np.ndarray = values[np.arange(len(self.tasks)), self.where(method, measure)]
        return found

    def same_rate(self, ours: str, measure: int, keep: np.ndarray, theirs: str = COSINE) -> Groups:
        """Return log-ratios at every rate of theirs, by task, [seed, rate]."""
        base = self.methods[theirs].loss[measure]
        mine = (
            self.methods[ours].loss[measure] if ours in RULES else self.at(ours, measure)[:, None]
        )
        return self._groups(np.moveaxis(mine - base, -1, 1), keep)

    def _groups(self, x: np.ndarray, keep: np.ndarray) -> Groups:
        """Return what is there of [task, seed, ...], without columns and seeds that have no run."""
        found = {}
        for i in np.flatnonzero(keep):
            one = x[i].reshape(len(x[i]), -1)
            one = one[:, ~np.isnan(one).all(0)]
            one = one[~np.isnan(one).any(1)]
            if one.size:
                found[self.tasks[i]] = one
        return found

    def against(self, ours: str, theirs: str, measure: int, keep: np.ndarray) -> Groups:
        """Return log-ratios, means over seeds, each method as in `at`, by task that has both."""
        values = _mean(self.at(ours, measure) - self.at(theirs, measure))
        return {self.tasks[i]: values[i] for i in np.flatnonzero(keep & ~np.isnan(values))}

    def failures(self, method: str, keep: np.ndarray) -> tuple[int, int]:
        """Return how many runs diverged or ended above their start, and of how many."""
        failed = self.methods[method].failed[keep]
        return int(np.nansum(failed)), int((~np.isnan(failed)).sum())

    def avoidable(self, method: str) -> tuple[int, int]:
        """Return how many failed where cosine survives at a lower rate, and of how many.

        To what needs no rate every rate of cosine is a lower one.
        """
        cosine = self.methods[COSINE].failed == 0
        runs = self.methods[method]
        if method in RULES:
            survives = np.zeros_like(cosine)
            survives[:, 1:] = np.logical_or.accumulate(cosine, 1)[:, :-1]
        else:
            survives = np.broadcast_to(cosine.any(1, keepdims=True), runs.failed.shape)
        return int(((runs.failed == 1) & survives).sum()), int(runs.there().sum())

    def spread(self, method: str) -> float:
        """Return the largest ratio of a run's final losses at the rates that it was given."""
        loss, there = self.methods[method].loss[0], self.methods[method].there()
        high = np.where(there, loss, -np.inf).max(1)
        low = np.where(there, loss, np.inf).min(1)
        return float(np.exp((high - low)[there.any(1)].max()))

    def targets(self, shares: np.ndarray) -> Groups:
        """Return ln of shares, [task, seed], by task; one never reached counts as `NEVER`."""
        return self._groups(np.log(np.minimum(shares, NEVER)), self.keep())

    def shares(self, method: str) -> np.ndarray:
        """Return the share of a run's steps to tuned cosine's final training loss, [task, seed].

        Of smoothed batch losses; the target is the one of the same task and seed.
        """
        ours, theirs = (self._taken(x, 0, self.methods[x].records) for x in (method, COSINE))
        found = np.full(ours.shape, np.nan)
        for place in np.ndindex(*ours.shape):
            if ours[place] is not None and theirs[place] is not None:
                found[place] = share_to_target(ours[place], theirs[place])
        return found

    def times(self, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the time to that loss over that of cosine's run, and of its grid, [task, seed].

        A stack of the simulator shares its time among all its runs, so that nothing can be said
        of a step's cost there: what `STEP` says is taken.
        """
        steered = method not in RULES and method != AT_USUAL
        mine = self.shares(method) * (STEP if steered else 1.0)
        return mine, mine / (~np.isnan(self.methods[COSINE].seconds)).sum(1)

    def at_an_end(self, method: str, measure: int) -> int:
        """Return on how many tasks a method's best rate is the lowest or the highest."""
        runs = self.methods[method]
        best, last = runs.best(measure), (~np.isnan(runs.rates)).sum(-1) - 1
        return int(((best == 0) | (best == last))[last > 0].sum())


def interval(groups: Groups, most: float = 1.0) -> Interval:
    """Return the median log-ratio with its interval, over tasks or data sets; `p` is of a bound.

    >>> interval({"lenet digits adamw 300": np.zeros(2), "gru shakespeare sgd 300": 0.0}).ratio()
    (1.0, 0.0, inf)
    """
    return median_interval(groups.values(), _data_sets(groups), null=math.log(most))


def share(groups: Groups, limit: float) -> Interval:
    """Return the share of values below a limit, a value a task, with its interval."""
    shares = [[np.mean(np.asarray(x) < limit)] for x in groups.values()]
    return mean_interval(shares, _data_sets(groups))


def _data_sets(tasks: Iterable[str]) -> list[str]:
    """Return what each task is learned from; random teachers count as one."""
    return [judged.named(task).data for task in tasks]


def values(groups: Groups) -> np.ndarray:
    """Return all values, whatever their task."""
    return np.concatenate([np.ravel(x) for x in groups.values()]) if groups else np.empty(0)


def counts(groups: Groups) -> tuple[float, float, float]:
    """Return the shares of wins, ties and losses.

    >>> counts({"a": np.log([0.5, 0.98, 1.0, 1.5])})
    (0.5, 0.25, 0.25)
    """
    if not groups:
        return math.nan, math.nan, math.nan
    x = np.exp(values(groups))
    won, lost = x < WIN, x > LOSS
    return float(won.mean()), float((~won & ~lost).mean()), float(lost.mean())


def smoothed(record: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and the mean of the last `SMOOTH` recorded batch losses, whole means alone."""
    loss, steps = np.asarray(record.losses, float), np.asarray(record.at)
    width = min(SMOOTH, len(loss))
    if width == 0:
        return steps, loss
    return steps[width - 1 :], np.convolve(loss, np.full(width, 1 / width), "valid")


def share_to_target(ours: Run, theirs: Run) -> float:
    """Return the share of their steps in which ours comes to their final loss; inf is never."""
    target = smoothed(theirs)[1]
    if theirs.diverged or not len(target) or not math.isfinite(target[-1]):
        return math.nan  # there is nothing to reach
    steps, loss = smoothed(ours)
    reached = np.flatnonzero(loss <= target[-1] * (1 + 1e-9))
    return float(steps[reached[0]] / theirs.steps) if len(reached) else math.inf


def numbers_from(records: Sequence[Run]) -> Numbers:
    """Return the numbers of runs; a run that is not there is NaN."""
    first = {record.task: record for record in records}
    tasks, seeds = sorted(first), sorted({record.seed for record in records})
    by_method: dict[str, list[Run]] = {}
    for record in records:
        extra = record.schedule == "cosine 1e-3"  # what is run where the grid lacks it
        if not extra:
            by_method.setdefault(record.schedule, []).append(record)
        if extra or (record.schedule == COSINE and math.isclose(record.base_lr, USUAL)):
            by_method.setdefault(AT_USUAL, []).append(record)
    if ANCHOR in by_method:  # it is not run where it is UpdateRatioLR as it is
        there = {record.task for record in by_method[ANCHOR]}
        same = by_method.get(RATIO, [])
        by_method[ANCHOR] += [record for record in same if record.task not in there]
    return Numbers(
        tasks=tasks,
        family=np.array([first[task].family for task in tasks]),
        steps=np.array([first[task].steps for task in tasks]),
        seeds=seeds,
        methods={name: _runs(found, tasks, seeds) for name, found in sorted(by_method.items())},
        runs=len(records),
    )


def _runs(records: Sequence[Run], tasks: list[str], seeds: list[int]) -> Runs:
    """Return a method's runs as arrays."""
    rates: dict[str, list[float]] = {task: [] for task in tasks}
    for task, rate in sorted({(record.task, record.base_lr) for record in records}):
        rates[task].append(rate)
    width = max(map(len, rates.values()))
    shape = (len(tasks), width, len(seeds))
    grid, loss = np.full(shape[:2], np.nan), np.full((len(MEASURES), *shape), np.nan)
    failed, seconds, kept = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, None)
    for row, task in enumerate(tasks):
        grid[row, : len(rates[task])] = rates[task]
    for record in records:
        row = tasks.index(record.task)
        at = (row, rates[record.task].index(record.base_lr), seeds.index(record.seed))
        kept[at], seconds[at] = record, record.seconds
        failed[at] = record.final > record.initial
        for measure, value in enumerate((record.final, record.held_out)):
            limited = capped_loss(value, record.initial)
            loss[measure][at] = math.log(max(limited / record.initial, FLOOR))
    return Runs(grid, loss, failed, seconds, kept)


def _mean(x: np.ndarray) -> np.ndarray:
    """Return means over the last axis, without what is missing; NaN where all is."""
    count = (~np.isnan(x)).sum(-1)
    return np.where(count > 0, np.nansum(x, -1) / np.maximum(count, 1), np.nan)
