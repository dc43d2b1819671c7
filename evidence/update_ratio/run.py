"""Runs the study of the ratio: simulates what its store lacks, and writes the page."""

from __future__ import annotations

from functools import partial

from evidence import simulated
from evidence.how import How
from evidence.update_ratio import page as pages
from evidence.update_ratio.plan import Settings, Unit, planned, run_ids, task, units
from ratewise.runs import RunRecord

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Simulate what is missing and write the page."""
    settings = settings or Settings()
    if not how.page_only:
        simulated.make(
            {unit: run_ids(settings, unit) for unit in units(settings)},
            partial(trained, settings),
            how.out,
            jobs=how.jobs,
            label="tasks x optimizers x lengths",
            progress=how.progress,
        )
    pages.write(simulated.stored(how.out), settings, how.page)


def trained(settings: Settings, unit: Unit) -> list[RunRecord]:
    """Simulate a unit's runs."""
    runs, every = planned(settings, unit), max(1, unit.steps // 20)
    return simulated.trained(
        unit.task, task(unit.task), unit.optimizer, runs, steps=unit.steps, every=every
    )
