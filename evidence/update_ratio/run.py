"""Runs the study of the ratio: simulates what its store lacks, and writes the page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from evidence import simulated
from evidence.update_ratio import page as pages
from evidence.update_ratio.plan import Settings, Unit, planned, run_ids, task, units
from ratewise.runs import RunRecord

SIZES = {"": Settings()}


def run(
    out: Path,
    page: Path,
    *,
    settings: Settings | None = None,
    data: str | None = None,
    jobs: int = 1,
    page_only: bool = False,
    progress: bool = True,
) -> None:
    """Simulate what is missing and write the page, or with `page_only` the page alone.

    Args:
        out: folder for the runs; the same call goes on after a kill.
        page: the Markdown file to write; a figure lies beside it.
        settings: the study's size.
        data: unused; data sets are found by RATEWISE_DATA.
        jobs: processes; each uses one thread.
        page_only: simulate nothing.
        progress: show a bar.

    Raises:
        RunFailed: units raised an error; all others are finished and kept.
        StoreError: runs are missing that the page needs.
    """
    settings = settings or Settings()
    if not page_only:
        simulated.make(
            {unit: run_ids(settings, unit) for unit in units(settings)},
            partial(trained, settings),
            out,
            jobs=jobs,
            label="tasks x optimizers x lengths",
            progress=progress,
        )
    pages.write(simulated.stored(out), settings, page)


def trained(settings: Settings, unit: Unit) -> list[RunRecord]:
    """Simulate a unit's runs."""
    runs, every = planned(settings, unit), max(1, unit.steps // 20)
    return simulated.trained(
        unit.task, task(unit.task), unit.optimizer, runs, steps=unit.steps, every=every
    )
