"""Runs the study of the ratio: simulates what its results lack, and writes the page."""

from __future__ import annotations

from functools import partial

from evidence import run_table, simulated
from evidence.how import How
from evidence.results import Result, Results
from evidence.update_ratio import corrections, plan
from evidence.update_ratio import page as pages
from evidence.update_ratio.plan import Settings, Unit

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Simulate what is missing and write the page."""
    settings, results = settings or Settings(), Results(how.out / "update_ratio.parquet")
    if not how.page_only:
        if settings.forms:
            units = corrections.wanted()
            work, row = corrections.made, corrections.row
            run_table.complete(results, units, work, row, how, "forms of the correction")
        work, row = partial(made, settings), partial(plan.row, settings)
        label = "tasks x optimizers x sizes"
        run_table.complete(results, plan.wanted(settings), work, row, how, label)
    pages.write(results, settings, how.page)


def made(settings: Settings, unit: Unit) -> list[Result]:
    """Return what is kept of a unit's runs: their losses at the start and the end."""
    runs, task = plan.planned(settings, unit), plan.task(unit)
    size = {"steps": unit.steps, "every": unit.steps}
    return simulated.trained(unit.task, task, unit.optimizer, runs, simulated.ends, **size)
