"""What the study of learned factorisation rates runs: its problems, and which are kept apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from evidence import code
from evidence.nmf import problems, real
from evidence.nmf.methods import METHODS, Stack
from ratewise.nmf.learned import load, names

TUNED_ON, HELD_OUT = "tuning", "held out"
MISFIT = "misfit"  #: the method whose runs are descents without noise
#: The methods that judge on other problems than those held out.
TRANSFERRED = ("cosine", "step")
#: What makes the runs: results of other code are not these.
_RUNS = (
    *(f"evidence.nmf.{name}" for name in ("methods", "problems", "real", "runs")),
    *(f"ratewise.learning.{name}" for name in ("noisy_descent", "random_factorisations")),
    *(f"ratewise.nmf.{name}" for name in ("capping", "eigenvalue", "learned", "observation")),
    "ratewise.rules.greedy",
)
_ESTIMATES = (
    "evidence.nmf.estimator",
    *(f"ratewise.nmf.{name}" for name in ("estimator", "fitting", "schedules", "sgd", "solver")),
    *(f"ratewise.nmf.{name}" for name in ("hals", "start", "statistics", "stability")),
)
#: Seconds of a core that a run takes a step and entry of V: measured, for the table of runs alone.
_SECONDS = 12e-9


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tuning: tuple[int, int] = (32, 4)  #: stacks, problems of each
    judging: tuple[int, int] = (60, 3)
    transfer: tuple[int, int] = (4, 2)
    parts: int = 4  #: of each real set
    longest: int = 1000  #: steps of the runs that are longer than any in training
    tried: int = 32  #: settings of each method
    tuning_seeds: int = 3  #: starts and noise of each problem that tune
    judging_seeds: int = 2
    clean: int = 1000  #: steps without noise, whose end is the misfit
    starts: int = 5  #: of StochasticNMF, on each real set
    policies: tuple[str, ...] = field(default_factory=lambda: tuple(names()))

    @property
    def seeds(self) -> int:
        """Starts and noise of each problem in all; the first ones tune."""
        return self.tuning_seeds + self.judging_seeds


class Unit(NamedTuple):
    """What is run, and stored, in one go: a method on a group of problems."""

    group: str
    method: str

    def __str__(self) -> str:
        return f"{self.group}, {self.method}"


def units(settings: Settings) -> dict[str, Unit]:
    """Return every unit by the digest of all that determines its runs."""
    learned = {f"learned {policy.name}": policy.digest for policy in map(load, settings.policies)}
    found = {}
    for group in groups(settings, None):
        tuning = group == TUNED_ON
        methods = METHODS if group in (TUNED_ON, HELD_OUT) else TRANSFERRED
        for method in [*methods, *([] if tuning else [*learned, MISFIT])]:
            key = {
                "unit": [group, method],
                "policy": learned.get(method),
                "sizes": [settings.tuning if tuning else _sizes(settings, group)],
                "seeds": [settings.tuning_seeds, settings.judging_seeds],
                "tried": settings.tried,
                "clean": settings.clean,
                "code": code.digest(*_RUNS),
            }
            found[_digest(key)] = Unit(group, method)
    return found


def estimator_units(settings: Settings) -> dict[str, str]:
    """Return each real set by the digest of what determines its runs of StochasticNMF."""
    policies = [load(name).digest for name in settings.policies]
    common = {"starts": settings.starts, "of": policies, "code": code.digest(*_ESTIMATES)}
    return {_digest({"estimator": name, **common}): name for name in real.SETS}


def _sizes(settings: Settings, group: str) -> list[Any]:
    if group == HELD_OUT:
        return list(settings.judging)
    return [settings.parts] if group in real.SETS else [*settings.transfer, settings.longest]


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def groups(settings: Settings, data: str | None) -> dict[str, Callable[[], list[Stack]]]:
    """Return, by name, what makes the problems: those that tune one setting, those that judge.

    Args:
        settings: the study's size.
        data: folder with the data sets.
    """
    return {
        TUNED_ON: lambda: problems.stacks(problems.TUNING, settings.tuning),
        HELD_OUT: lambda: problems.stacks(problems.JUDGING, settings.judging),
        "200 x 120": lambda: problems.large(settings.transfer),
        f"{settings.longest} steps": lambda: problems.long(settings.transfer, settings.longest),
        **{name: partial(real.stacks, name, settings.parts, data) for name in real.SETS},
    }


def runs(settings: Settings, unit: Unit) -> int:
    """Return how many runs a problem of a unit has."""
    if unit.method == MISFIT:
        return 1
    seeds = 1 if unit.group == TUNED_ON else settings.seeds
    return seeds * (settings.tried if unit.method in METHODS else 1)


def table(settings: Settings, wanted: list[Unit], data: str | None) -> list[list[str]]:
    """Return a row a group: problems, methods, runs, and about how long they take one core.

    Args:
        settings: the study's size.
        wanted: what is to be run.
        data: folder with the data sets.
    """
    rows = []
    for group, make in groups(settings, data).items():
        parts = [unit for unit in wanted if unit.group == group]
        if not parts:
            continue
        found, each = make(), sum(runs(settings, unit) for unit in parts)
        count = sum(len(stack.problems) for stack in found)
        entries = sum(stack.steps * stack.problems.v.numel() for stack in found)
        seconds = _SECONDS * each * entries
        minutes = f"{seconds / 60:.1f} min"
        rows.append([group, str(count), str(len(parts)), f"{each * count:,}", minutes])
    return rows
