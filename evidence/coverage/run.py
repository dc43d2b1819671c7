"""Runs the study of intervals: simulates what its results lack, and writes the page."""

from __future__ import annotations

import json
import time
from functools import partial

import numpy as np
import scipy  # type: ignore[import-untyped]

from evidence.coverage import draws, plan
from evidence.coverage import page as pages
from evidence.coverage.plan import Settings, Unit
from evidence.how import How
from evidence.results import Result, Results

SIZES = {"": Settings(), "quick": Settings(repetitions=500, control=200)}


def run(how: How, settings: Settings = SIZES[""]) -> None:
    """Simulate what is missing and write the page."""
    results = Results(how.out / "coverage.parquet")
    if not how.page_only:
        units, work = plan.units(settings), partial(made, settings)
        results.complete(units, work, where=how.where, label="intervals", progress=how.progress)
    pages.write(results, settings, how.page)


def made(settings: Settings, unit: Unit) -> list[Result]:
    """Return what is kept of a unit: its errors stand where others have losses."""
    started = time.process_time()
    errors = draws.simulate(unit, settings)
    return [
        Result(
            unit.world.name,
            unit.design.name,
            unit.way or unit.design.kind,
            settings.seed,
            "simulated",
            settings.control if unit.way == plan.BOOTSTRAP else settings.repetitions,
            list(errors),
            time.process_time() - started,
            json.dumps({"numpy": np.__version__, "scipy": scipy.__version__}),
        )
    ]
