"""A whole comparison: tune every method on a grid, judge it on fresh seeds, write the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ratewise.compare import analysis, processes, sweep_file
from ratewise.compare import plan as planning
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.plan import Plan
from ratewise.compare.processes import RunSpec
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Task
from ratewise.compare.tuning import (
    MethodOnTask,
    Tuned,
    advised,
    extended,
    method,
    tuned_rates,
)
from ratewise.pool import HERE, Where
from ratewise.runs import RunRecord, Store

if TYPE_CHECKING:
    from ratewise.compare.report import Report

#: What a newcomer compares.
DEFAULT_SCHEDULES = ("greedy", "greedy-cosine", "cosine", "linear", "constant")


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: its runs in a store, and the report that was written of them."""

    store: Store
    report: Report

    def records(self) -> list[RunRecord]:
        """Return the runs of this comparison; the store may hold others besides."""
        return analysis.load(self.store).records

    def table(self) -> str:
        """Return the result table as text that fits a terminal."""
        return self.report.table


def run(
    task: str | Task | Sequence[str | Task],
    *,
    optimizers: Sequence[str | Optimizer] = ("adamw",),
    schedules: Sequence[str | Schedule] = DEFAULT_SCHEDULES,
    seeds: int = 5,
    tuning_seeds: int = 2,
    rates: Sequence[float] | int | None = None,
    tuner: str = "grid",
    out: str | Path,
    jobs: int | None = None,
    backend: str | Where | None = None,
    address: str | None = None,
    preset: str = "small",
    data: str | Path | None = None,
    steps: int | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare schedules: each at every rate of a grid, and each judged at its own tuned rate.

    Every method gets the same grid, tuning seeds, initial weights and batch order. Its tuned
    rate has the lowest median validation loss; an optimum at the grid's edge extends the grid.
    Fresh seeds then judge it on the test part. Call it again with the same `out` after a kill:
    finished runs are kept, and none is repeated.

    Args:
        task: a name of `ratewise.compare.tasks.names()`, a `Task` of your own, or several.
        optimizers: names of `ratewise.compare.optimizers.names()`, or `Optimizer` objects.
        schedules: names of `ratewise.compare.schedules.names()`, or `Schedule` objects.
        seeds: judged runs a method.
        tuning_seeds: runs a method at each rate of the grid.
        rates: base rates; or how many of each optimizer's own grid over three decades, 7 if None.
        tuner: "grid" runs every rate; "advisor" decides after each what to run next
            (`ratewise.curves.advice`), from the grid's middle on, with at most as many runs as
            the grid has.
        out: folder for the runs and the report; a new one, or an earlier comparison's.
        jobs: how many work at once; None is one, and on Ray as many as the cluster holds.
        backend: "here", "processes" or "ray"; None is here with one job, processes with more. Or
            a `ratewise.pool.Where`, which also says what each worker needs.
        address: of a cluster that Ray runs on; see `ratewise.pool.Where`.
        preset: "small" or "full", for named tasks.
        data: folder with the data sets; None takes the environment variable RATEWISE_DATA.
        steps: length of every run in optimizer steps; each task's own if None.
        progress: show bars and the result table.

    Raises:
        InvalidArgument, UnknownName, WrongType: an argument outside its range.
        MissingData, CorruptData: a data set is absent or damaged.
        StoreError: `out` holds something else or cannot be written.
        MissingExtra: what the report is drawn with is not installed, or Ray.
        Unreachable, VersionsDiffer: the cluster does not answer, or is not as it should be.
        RunFailed: a run raised an error of its own; the others are kept.
    """
    from ratewise.compare import report

    report.check_drawable()  # and not after hours of training
    where = Where.of(backend, jobs, address)
    plan = planning.make(
        task,
        _names(optimizers),
        _names(schedules),
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        rates=rates,
        preset=preset,
        data=None if data is None else str(data),
        steps=steps,
        tuner=tuner,
    )
    store = Store(out)
    tuned = tune(plan, store, where=where, progress=progress)
    judge(plan, tuned, store, where=where, progress=progress)

    written = report.write(store)
    if progress:
        print(written.table, file=sys.stdout, flush=True)
    return Comparison(store, written)


def tune(
    plan: Plan, store: Store, *, where: Where = HERE, progress: bool = True
) -> dict[MethodOnTask, Tuned]:
    """Make the runs that tune every method; return the optima.

    They are the grid's, which is extended where an optimum lies at its edge, or those advised.

    Args:
        plan: what to run.
        store: where the runs go.
        where: the backend that makes them.
        progress: show bars.
    """
    if plan.tuner == "advisor":
        return _advise(plan, store, where=where, progress=progress)
    grids = {one: list(plan.grid(one)) for one in plan.methods()}
    asked = {one: plan.grid(one) for one in grids}
    label = "grid"
    while True:
        specs = plan.grid_runs(grids)
        _run(plan, specs, store, where=where, label=label, progress=progress)
        ids = _ids(plan, specs)
        tuned = tuned_rates(record for record in store.load() if record.run_id in ids)
        more = extended(tuned, grids, asked)
        if not more:
            return tuned
        for one, rate in more.items():
            grids[one] = sorted([*grids[one], rate])
        label = "grid, beyond its edge"


def _advise(plan: Plan, store: Store, *, where: Where, progress: bool) -> dict[MethodOnTask, Tuned]:
    """Make the runs that are advised, a round for all methods at a time; return the optima."""
    specs: list[RunSpec] = []
    most = plan.budget * plan.tuning_seeds
    while True:
        ids = _ids(plan, specs)
        records = [record for record in store.load() if record.run_id in ids]
        wanted = {
            one: advised(
                [record for record in records if method(record) == one],
                plan.grid(one)[0],
                budget=most,
                seeds=plan.tuning_seeds,
            )
            for one in plan.methods()
        }
        if not any(wanted.values()):
            return tuned_rates(records)
        specs += plan.advised_runs(wanted)
        _run(plan, specs, store, where=where, label="advised", progress=progress)


def judge(
    plan: Plan,
    tuned: dict[MethodOnTask, Tuned],
    store: Store,
    *,
    where: Where = HERE,
    progress: bool = True,
) -> None:
    """Make the runs that judge each method at its tuned rate, on fresh seeds.

    Args:
        plan: what to run.
        tuned: what `tune` returned.
        store: where the runs go.
        where: the backend that makes them.
        progress: show bars.
    """
    specs = plan.judged_runs({one: optimum.base_lr for one, optimum in tuned.items()})
    _run(plan, specs, store, where=where, label="judged", progress=progress)


def _run(
    plan: Plan, specs: list[RunSpec], store: Store, *, where: Where, label: str, progress: bool
) -> None:
    """Record what is asked for, then make the runs that are missing."""
    wanted = plan.asked()
    before, runs = sweep_file.read(store) or (None, [])
    earlier = runs if before == wanted else []
    ids = dict.fromkeys([*earlier, *sorted(_ids(plan, specs))])
    store.write_sweep({"plan": wanted, "runs": list(ids)})
    processes.execute(specs, plan.sources, store, where=where, label=label, progress=progress)


def _ids(plan: Plan, specs: list[RunSpec]) -> set[str]:
    loaded = {name: source.load() for name, source in plan.sources.items()}
    return {processes.run_id(spec, loaded[spec.task]) for spec in specs}


def _names(given: Sequence[str | Optimizer] | Sequence[str | Schedule]) -> list:
    """Return a list of names, also for a single one."""
    return [given] if isinstance(given, str | Optimizer | Schedule) else list(given)
