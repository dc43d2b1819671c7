"""Simulated runs: what determines one, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from evidence import code
from evidence.results import Result, Results
from ratewise import simulate
from ratewise.compare import training
from ratewise.rules.greedy_config import GreedyConfig
from ratewise.runs.schema import batch_id, make_run_id
from ratewise.simulate import Noise, Task, Trajectories

#: What the versions call the digest of the code that made a run.
CODE = "code"
#: From a result and the number of one of its runs to the losses that are kept of that run.
Marks = Callable[[Trajectories, int], list[float]]


class Planned(NamedTuple):
    """One run of a unit."""

    config: dict[str, Any]  #: everything that determines it
    schedule: str  #: what tables call the method
    rule: Any
    lr: float
    base_lr: float  #: the rate, or what is tuned instead of it
    seed: int
    noise: Noise = Noise()

    @property
    def run_id(self) -> str:
        """The identity of the run."""
        return make_run_id(self.config)

    @property
    def setting(self) -> str:
        """What tells the run from others of its method and seed."""
        parts = [self.config["optimizer"], f"lr {self.lr:g}"]
        parts += [f"ratio {self.base_lr:g}"] if self.base_lr != self.lr else []
        parts += [f"{self.noise.kind} {self.noise.place}"] if self.noise != Noise() else []
        return ", ".join(parts)


def digest(planned: Sequence[Planned]) -> str:
    """Return the name of a unit: the digest of all that determines its runs."""
    return batch_id(run.run_id for run in planned)


def as_data(rule: Any) -> dict[str, Any]:
    """Return a rule of the simulator as a run's configuration holds it.

    Of GreedyLR's settings only those that make it another than the usual one of its criterion
    are in it, so that a setting that is added later leaves the names of stored runs as they are.

    >>> as_data(simulate.Greedy(GreedyConfig(criterion="count")))["config"]
    {'criterion': 'count', 'factor': 0.9, 'patience': 3, 'window': 20}
    """
    data = {"kind": type(rule).__name__, **asdict(rule)}
    config = getattr(rule, "config", None)
    return data | {"config": config.identity()} if isinstance(config, GreedyConfig) else data


@cache
def made_by() -> str:
    """Return the digest of the code that simulates, as it is today."""
    return code.digest(*code.below("ratewise.simulate", "ratewise.rules"))


def earlier(results: Results, units: Iterable[str]) -> int:
    """Return how many units are of another version of the code, or of one that was not noted.

    The names of units hold what was asked for, not the code that did it: a page says how many.
    """
    versions = [json.loads(results.of(name)[0].versions) for name in units]
    return sum(version.get(CODE) != made_by() for version in versions)


def trained(
    name: str,
    task: Task,
    optimizer: str,
    planned: Sequence[Planned],
    marks: Marks,
    *,
    steps: int,
    chunk: int | None = None,
    every: int = 1,
) -> list[Result]:
    """Simulate runs of one task; those of one seed are paired.

    Args:
        name: of the task, as it is kept.
        task: what is trained.
        optimizer: a name that `simulate.run` takes.
        planned: the runs.
        marks: what is kept of their losses.
        steps: optimizer steps.
        chunk: runs stacked at once; all if None.
        every: record every so many steps, the last always.
    """
    noise = [one.noise for one in planned]
    result = simulate.run(
        task,
        optimizer,
        [one.rule for one in planned],
        runs=len(planned),
        steps=steps,
        lr=[one.lr for one in planned],
        noise=noise if any(one != Noise() for one in noise) else None,
        seed=[one.seed for one in planned],
        chunk=chunk or len(planned),
        every=every,
    )
    return kept(name, planned, result, marks, {**training.versions(), CODE: made_by()})


def kept(
    name: str,
    planned: Sequence[Planned],
    result: Trajectories,
    marks: Marks,
    versions: Mapping[str, str],
) -> list[Result]:
    """Return what is kept of runs, in the result's order."""
    seconds, about = result.seconds / result.runs, json.dumps(versions)
    return [
        Result(
            name,
            one.schedule,
            one.setting,
            one.seed,
            "simulated",
            int(result.step[-1]),
            marks(result, row),
            seconds,
            about,
        )
        for row, one in enumerate(planned)
    ]


def ends(result: Trajectories, row: int) -> list[float]:
    """Return a run's clean loss before and after it, and the one on rows held out.

    Both are infinite at the end of a run that diverged.
    """
    last = np.array([result.final[row], result.held_out[row]])
    good = np.isfinite(last) & (not result.diverged()[row])
    return [float(result.initial[row]), *np.where(good, last, np.inf).tolist()]
