"""Runs the study of noise: simulates what its results lack, and writes the page."""

from __future__ import annotations

import math
from functools import partial

from evidence import simulated
from evidence.how import How
from evidence.results import Result, Results
from evidence.robustness import page as pages
from evidence.robustness import plan
from evidence.robustness.plan import FULL, PRESET, Settings, Unit
from ratewise.simulate import Trajectories

SIZES = {"": PRESET, "full": FULL}


def run(how: How, settings: Settings = PRESET) -> None:
    """Simulate what is missing and write the page."""
    results = Results(how.out / "robustness.parquet")
    if not how.page_only:
        work, label = partial(made, settings), "families x rates x seeds"
        units = plan.wanted(settings)
        results.complete(units, work, where=how.where, label=label, progress=how.progress)
    pages.write(results, settings, how.page)


def made(settings: Settings, unit: Unit) -> list[Result]:
    """Return what is kept of a unit's runs."""
    runs, task = plan.planned(settings, unit), plan.task(unit.family)
    size = {"steps": settings.steps, "chunk": settings.chunk}
    return simulated.trained(unit.family, task, plan.OPTIMIZER, runs, marks, **size)


def marks(result: Trajectories, row: int) -> list[float]:
    """Return a run's `plan.MARKS`."""
    initial, final, _ = simulated.ends(result, row)
    if math.isinf(final):
        return [initial, *[math.inf] * 4]
    losses = result.loss[row]
    last, peak = float(losses[-10:].mean()), int(losses.argmax())
    low = last + 0.1 * (losses[peak] - last)
    reached = (losses[peak:] <= low).nonzero()[0]
    descent = float(reached[0]) if len(reached) else math.inf
    return [initial, final, last, float(losses[peak]), descent]
