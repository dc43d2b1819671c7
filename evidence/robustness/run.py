"""Runs the study of noise: simulates what its results lack, and writes the page."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np

from evidence import simulated
from evidence.how import How
from evidence.results import Result, Results
from evidence.robustness import page as pages
from evidence.robustness import plan
from evidence.robustness.plan import FULL, PRESET, Settings, Unit
from ratewise.runs import RunRecord

SIZES = {"": PRESET, "full": FULL}


def run(how: How, settings: Settings = PRESET) -> None:
    """Simulate what is missing and write the page."""
    results = Results(how.out / "robustness.parquet")
    if not how.page_only:
        work, label = partial(made, settings), "families x rates x seeds"
        units = plan.wanted(settings)
        results.complete(units, work, jobs=how.jobs, label=label, progress=how.progress)
    pages.write(results, settings, how.page)


def made(settings: Settings, unit: Unit) -> list[Result]:
    """Return what is kept of a unit's runs."""
    return [
        Result(
            unit.family,
            cell.schedule,
            f"lr {unit.lr:g}, {cell.kind} {cell.place}".rstrip(),
            unit.seed,
            "simulated",
            settings.steps,
            marks(record.status, record.train_loss, record.validation_loss),
            record.train_seconds,
            json.dumps(record.versions),
        )
        for cell, record in zip(
            plan.cells(settings, unit.family), trajectories(settings, unit), strict=True
        )
    ]


def marks(status: str, train: list[float], clean: list[float]) -> list[float]:
    """Return a run's `plan.MARKS`.

    >>> marks("finished", [1.0, 8.0, 4.0, 1.0] + [1.0] * 10, [2.0, 0.02])
    [2.0, 0.02, 1.0, 8.0, 2.0]
    """
    initial, final = clean
    if status == "diverged" or not math.isfinite(final):
        return [initial, *[math.inf] * 4]
    losses = np.asarray(train)
    last, peak = float(losses[-10:].mean()), int(losses.argmax())
    low = last + 0.1 * (losses[peak] - last)
    reached = np.flatnonzero(losses[peak:] <= low)
    descent = float(reached[0]) if len(reached) else math.inf
    return [initial, final, last, float(losses[peak]), descent]


def trajectories(settings: Settings, unit: Unit) -> list[RunRecord]:
    """Simulate a unit's runs."""
    return simulated.trained(
        unit.family,
        plan.task(unit.family),
        plan.OPTIMIZER,
        plan.planned(settings, unit),
        steps=settings.steps,
        chunk=settings.chunk,
    )
