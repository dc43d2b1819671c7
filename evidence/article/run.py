"""Trains what the study of the article lacks, and writes its page."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from evidence import page as words
from evidence.article import cost, kept, plan
from evidence.article import page as pages
from evidence.article import tasks as made_tasks
from evidence.article.plan import Settings, Unit
from evidence.how import How
from evidence.results import Result, Results
from ratewise.compare import analysis, sweep, training
from ratewise.compare import plan as planning
from ratewise.compare.tuning import tuned_rates
from ratewise.runs import Store

SIZES = {"": Settings()}


def run(how: How, settings: Settings = SIZES[""]) -> None:
    """Train what is missing, a part of the page after the other, and write it from what is kept."""
    results = Results(how.out / "article.parquet")
    if not how.page_only:
        if how.progress:
            print(_table(settings, results), flush=True)
        for label, units in plan.units(settings).items():
            work = partial(made, settings, how.data, starts(results, settings))
            wanted = plan.wanted(settings, units)
            results.complete(wanted, work, where=how.where, label=label, progress=how.progress)
        results.complete(
            cost.wanted(settings),
            partial(cost.made, settings),
            where=how.where,
            label="costs",
            progress=how.progress,
        )
    pages.write(results, settings, how.page)


def _table(settings: Settings, results: Results) -> str:
    """Return what is still to be trained."""
    wanted = plan.wanted(settings, plan.every(settings))
    lacking = [unit for name, unit in wanted.items() if name not in results]
    header = ["unit", "trainings, about", "steps", "seconds each", "seconds of a core, about"]
    return words.table(header, plan.table(settings, lacking))


def starts(results: Results, settings: Settings) -> dict[tuple[str, str], float]:
    """Return where hypergradient descent starts: the rate that a constant schedule was best with.

    By task and optimizer, of those that are there.
    """
    found = [
        record
        for name, unit in plan.wanted(settings, plan.every(settings)).items()
        if unit.part == "schedules" and name in results
        for record in kept.runs(results.of(name))
        if record.schedule == "constant"
    ]
    tuned = tuned_rates(found).items()
    return {(method.task, method.optimizer): one.base_lr for method, one in tuned}


def made(
    settings: Settings, data: str | None, begin: Mapping[tuple[str, str], float], unit: Unit
) -> list[Result]:
    """Tune a unit's methods, judge them, and return what is kept of the runs.

    After rivals GreedyLR is trained again: for its time, under what else the machine does then.
    """
    rivals = unit.part == "rivals"
    start = begin[unit.task, unit.optimizer] if rivals else 0.0
    optimizers, schedules, rates, seeds = plan.methods(settings, unit, start)
    task = made_tasks.load(unit.task, data, settings.pretraining)
    task = replace(task, steps=settings.steps or task.steps)
    planned = planning.make(
        task,
        optimizers,
        schedules,
        seeds=seeds,
        tuning_seeds=settings.tuning_seeds,
        rates=rates,
        preset="small",
        data=data,
        steps=None,
    )
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "runs") as store:
        tuned = sweep.tune(planned, store, progress=False)
        sweep.judge(planned, tuned, store, progress=False)
        records = analysis.load(store).records
    if rivals:
        again = partial(training.train, task, unit.optimizer, plan.GREEDY[0], start)
        records += [again(planning.JUDGED_SEEDS + seed, role=kept.CLOCK) for seed in range(seeds)]
    return kept.kept(records)
