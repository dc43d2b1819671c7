"""What a comparison will run, checked before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ratewise.compare import optimizers, schedules
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.processes import RunSpec, TaskSource
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Task
from ratewise.compare.tuning import TUNERS, MethodOnTask
from ratewise.errors import invalid, unknown, wrong_type

#: Seeds of the judged runs start here: none of them ever tuned a rate.
JUDGED_SEEDS = 1000
#: Rates of an optimizer's own grid: two a decade.
DEFAULT_RATES = 7


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison: a grid of rates on tuning seeds, then judged runs on fresh ones."""

    sources: dict[str, TaskSource]
    optimizers: tuple[Optimizer, ...]
    schedules: tuple[Schedule, ...]
    grids: dict[tuple[str, str], tuple[float, ...]]  #: (task, optimizer) -> base rates asked for
    seeds: int
    tuning_seeds: int
    data_sets: dict[str, str]  #: task -> what it is learned from
    tuner: str = "grid"  #: one of `ratewise.compare.tuning.TUNERS`
    budget: int = 0  #: rates that a method may try, for "advisor"

    def methods(self) -> list[MethodOnTask]:
        """Return every task, optimizer and schedule."""
        return [
            MethodOnTask(task, optimizer.name, schedule.name)
            for task in self.sources
            for optimizer in self.optimizers
            for schedule in self.schedules
        ]

    def grid(self, method: MethodOnTask) -> tuple[float, ...]:
        """Return the rates that were asked for."""
        return self.grids[method.task, method.optimizer]

    def grid_runs(self, grids: Mapping[MethodOnTask, Iterable[float]]) -> list[RunSpec]:
        """Return the runs of every method at each of its rates, one a tuning seed."""
        return [
            self._spec(method, rate, seed, "grid")
            for method, rates in grids.items()
            for rate in rates
            for seed in range(self.tuning_seeds)
        ]

    def advised_runs(
        self, wanted: Mapping[MethodOnTask, Iterable[tuple[float, int]]]
    ) -> list[RunSpec]:
        """Return the runs of every method at rates that were advised, with their seeds."""
        return [
            self._spec(method, rate, seed, "grid")
            for method, runs in wanted.items()
            for rate, seed in runs
        ]

    def judged_runs(self, rates: Mapping[MethodOnTask, float]) -> list[RunSpec]:
        """Return the runs that judge every method at its tuned rate, on fresh seeds."""
        return [
            self._spec(method, rate, JUDGED_SEEDS + seed, "judged")
            for method, rate in rates.items()
            for seed in range(self.seeds)
        ]

    def _spec(self, method: MethodOnTask, rate: float, seed: int, role: str) -> RunSpec:
        schedule = next(s for s in self.schedules if s.name == method.schedule)
        optimizer = next(o for o in self.optimizers if o.name == method.optimizer)
        return RunSpec(method.task, optimizer, schedule, rate, seed, role)

    def asked(self) -> dict[str, Any]:
        """Return the plan as plain data, for the store."""
        return {
            "tasks": {name: source.preset for name, source in self.sources.items()},
            "optimizers": [optimizer.name for optimizer in self.optimizers],
            "schedules": [schedule.name for schedule in self.schedules],
            "grids": [[*key, list(rates)] for key, rates in self.grids.items()],
            "tuning_seeds": list(range(self.tuning_seeds)),
            "data_sets": self.data_sets,
            "judged_seeds": [JUDGED_SEEDS + seed for seed in range(self.seeds)],
            **({} if self.tuner == "grid" else {"tuner": self.tuner}),
        }


def make(
    task: str | Task | Sequence[str | Task],
    optimizer_names: Sequence[str | Optimizer],
    schedule_names: Sequence[str | Schedule],
    *,
    seeds: int,
    tuning_seeds: int,
    rates: Sequence[float] | int | None,
    preset: str,
    data: str | None,
    steps: int | None,
    tuner: str = "grid",
) -> Plan:
    """Return the plan; arguments as `ratewise.compare.run` has them.

    Raises:
        InvalidArgument, UnknownName, WrongType: an argument outside its range.
        MissingData, CorruptData: a task's data set is absent or damaged.
    """
    if tuner not in TUNERS:
        raise unknown("tuner", tuner, TUNERS)
    several = [task] if isinstance(task, str | Task) else list(task)
    for name, count, most in (("seeds", seeds, None), ("tuning_seeds", tuning_seeds, JUDGED_SEEDS)):
        _check_count(name, count, most)
    if steps is not None:
        _check_count("steps", steps, None)
    sources = {}
    for one in several:
        if not isinstance(one, str | Task):
            fix = "pass a name or a ratewise.compare.Task"
            raise wrong_type("tasks", "names or Tasks", one, fix)
        own = one if isinstance(one, Task) else None
        name = own.name if own else str(one)
        sources[name] = TaskSource(name, own.preset if own else preset, data, steps, own)
    # an unknown name is said before any data is read
    chosen = tuple(schedules.named(schedule) for schedule in schedule_names)
    stepped = tuple(optimizers.named(optimizer) for optimizer in optimizer_names)
    for kind, given, kept in (
        ("tasks", several, sources),
        ("optimizers", stepped, {optimizer.name: 0 for optimizer in stepped}),
        ("schedules", chosen, {schedule.name: 0 for schedule in chosen}),
    ):
        if not given:
            raise invalid(kind, "a list with at least one name", list(given), "name one")
        if len(kept) < len(given):
            raise invalid(kind, "different names", list(kept), "name each once")
    if isinstance(rates, int):
        _check_count("rates", rates, None)
    elif rates is not None:
        _check_rates(rates)
    loaded = {name: source.load() for name, source in sources.items()}
    grids = {
        (name, optimizer.name): tuple(sorted(_grid(loaded[name], optimizer, rates)))
        for name in sources
        for optimizer in stepped
    }
    data_sets = {name: one.data_set or name for name, one in loaded.items()}
    budget = max(map(len, grids.values()))
    if tuner == "advisor":  # the one rate that all methods run is the first
        grids = {key: (_middle(rates),) for key, rates in grids.items()}
    return Plan(sources, stepped, chosen, grids, seeds, tuning_seeds, data_sets, tuner, budget)


def _middle(rates: Sequence[float]) -> float:
    return float(f"{math.exp(sum(map(math.log, rates)) / len(rates)):.4g}")


def _grid(task: Task, optimizer: Optimizer, rates: Sequence[float] | int | None) -> Sequence[float]:
    """Return the rates asked for, else the task's own, else the optimizer's."""
    if rates is not None and not isinstance(rates, int):
        return rates
    own = (task.rates or {}).get(optimizer.name)
    if own is None:
        return optimizer.grid(rates or DEFAULT_RATES)
    _check_rates(own)
    return own


def _check_rates(rates: Sequence[float]) -> None:
    fix = "pass e.g. rates=[1e-3, 1e-2, 1e-1]"
    if not rates or not all(
        isinstance(rate, int | float) and math.isfinite(rate) and rate > 0 for rate in rates
    ):
        raise invalid("rates", "finite numbers > 0", list(rates), fix)
    if len(set(rates)) < len(rates):
        raise invalid("rates", "different numbers", list(rates), fix)


def _check_count(name: str, count: Any, most: int | None) -> None:
    legal = isinstance(count, int) and not isinstance(count, bool) and count >= 1
    if not legal or (most is not None and count > most):
        allowed = "an integer >= 1" if most is None else f"an integer from 1 to {most}"
        raise invalid(name, allowed, count, "pass 1 or more")
