"""The runs of a unit: what has a rate on its grid and at its tuned rates, everything else as is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from evidence import peers, simulated
from evidence.learned import plan, rules
from evidence.learned.plan import Settings
from evidence.learned.rules import FREE, LINEAR, RATE, TUNED, UNTUNED, Unit
from evidence.results import Result
from evidence.simulated import Planned
from ratewise.compare import training
from ratewise.compare.statistics import CAP
from ratewise.simulate import Trajectories

#: What is judged; a rate is tuned for each.
MEASURES = ("training", "held-out")
#: The role of runs on a grid, and of those that were not tuned: they are judged on both losses.
TUNING, BOTH = "tuning", "both"
#: Losses below this share of the first one count as it: nobody needs what lies below.
FLOOR = 0.01
#: Batch losses are smoothed over so many parts of a run, where steps to a loss are counted.
PARTS = 20


class Wanted(NamedTuple):
    """A run that is to be made."""

    method: str
    lr: float
    seed: int
    roles: tuple[str, ...]


def log(run: Result, measure: int) -> float:
    """Return ln of a final loss over the first one, within `FLOOR` and `CAP`."""
    initial, *ends = run.losses[:3]
    return math.log(min(max(ends[measure] / initial, FLOOR), CAP))


def rate(run: Result) -> float:
    """Return the base rate of a run."""
    return float(run.setting.rpartition(" ")[2])


def best(runs: Iterable[Result], measure: int) -> dict[str, float]:
    """Return the rate that each method is best with, by the mean over its tuning runs."""
    found: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        if run.role == TUNING:
            found.setdefault(run.method, {}).setdefault(rate(run), []).append(log(run, measure))
    means = {name: {lr: np.mean(x) for lr, x in by.items()} for name, by in found.items()}
    return {name: min(by, key=lambda lr: float(by[lr])) for name, by in means.items()}


def made(settings: Settings, unit: Unit) -> list[Result]:
    """Train a unit's runs."""
    grids = dict.fromkeys(TUNED, settings.grid(unit.cell))
    if plan.beside(settings, unit):
        shipped = peers.METHODS["schedule-free"].settings["lr"]
        grids[FREE] = plan.around(shipped, settings.free_rates)
    tuning = [
        Wanted(name, lr, seed, (TUNING,))
        for name, grid in grids.items()
        for lr, seed in itertools.product(grid, settings.tuning_seeds)
    ]
    found = _trained(unit, tuning, judging=False)
    roles: dict[tuple[str, float], tuple[str, ...]] = {}
    for measure, role in enumerate(MEASURES):
        for key in best(found, measure).items():
            roles[key] = (*roles.get(key, ()), role)
    roles |= {(name, RATE): (BOTH,) for name in rules.untuned(unit)}
    if plan.beside(settings, unit):
        roles |= {(name, peers.METHODS[name].settings["lr"]): (BOTH,) for name in UNTUNED}
    judged = [Wanted(*key, seed, role) for key, role in roles.items() for seed in settings.seeds]
    return [*(_short(run) for run in found), *_with_shares(_trained(unit, judged, judging=True))]


def _trained(unit: Unit, wanted: Sequence[Wanted], *, judging: bool) -> list[Result]:
    """Train runs, those of the simulator stacked; one that has two roles comes twice."""
    task, known, cell = rules.task(unit, judging=judging), rules.rules(unit), unit.cell
    stacked = [one for one in wanted if one.method in known]
    planned = [_planned(unit, one, known[one.method]) for one in stacked]
    found = simulated.trained(str(unit), task, cell.optimizer, planned, _marks, steps=cell.steps)
    loops = [one for one in wanted if one.method not in known]
    for one in loops:
        name = "schedule-free" if one.method == FREE else one.method
        package = peers.named(name).package
        result = peers.run(task, name, steps=cell.steps, seed=one.seed, lr=one.lr)
        versions = {**training.versions(), package: metadata.version(package)}
        found += simulated.kept(str(unit), [_planned(unit, one, None)], result, _marks, versions)
    pairs = zip([*stacked, *loops], found, strict=True)
    return [run._replace(role=role) for one, run in pairs for role in one.roles]


def _planned(unit: Unit, one: Wanted, rule: Any) -> Planned:
    config = {"optimizer": unit.cell.optimizer}
    return Planned(config, one.method, rule, one.lr, one.lr, one.seed)


def _marks(result: Trajectories, row: int) -> list[float]:
    """Return a run's ends, and then its batch losses, which are not kept."""
    return [*simulated.ends(result, row), *result.loss[row].tolist()]


def _short(run: Result, share: float = 0.0) -> Result:
    return run._replace(losses=[*run.losses[:3], share])


def _with_shares(runs: Sequence[Result]) -> list[Result]:
    """Return the runs with the share of the steps to tuned linear's last loss, of the same seed."""
    target = {
        run.seed: smoothed(run.losses[3:])[-1]
        for run in runs
        if run.method == LINEAR and run.role == MEASURES[0]
    }
    return [_short(run, share(run.losses[3:], target[run.seed])) for run in runs]


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """Return the means of batch losses over a part of a run, whole means alone."""
    width = max(1, len(losses) // PARTS)
    return np.convolve(losses, np.full(width, 1 / width), "valid")


def share(losses: Sequence[float], target: float) -> float:
    """Return the share of a run after which its smoothed batch losses reach a loss; inf is never.

    >>> share([4.0, 3.0, 2.0, 1.0], 2.0), share([4.0, 3.0], 2.0)
    (0.75, inf)
    """
    means = smoothed(losses)
    reached = np.flatnonzero(means <= target * (1 + 1e-9))
    before = len(losses) - len(means)
    return float((reached[0] + 1 + before) / len(losses)) if len(reached) else math.inf
