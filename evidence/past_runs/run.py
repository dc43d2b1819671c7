"""Fits and forecasts what the study's results lack, and writes the page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from evidence.how import How
from evidence.past_runs import advised, cost, fits, importing, plan, tried, ways
from evidence.past_runs import page as pages
from evidence.past_runs.advised import Advice
from evidence.past_runs.plan import Settings
from evidence.past_runs.tried import Trials
from evidence.results import Result, Results

SIZES = {
    "": Settings(),
    "quick": Settings(draws=4, chunk=2, points=16, sets=("mpl-25m",), every=12),
}

ADVICE, TRIALS = Advice(), Trials()


def run(
    how: How,
    settings: Settings = SIZES[""],
    advice: Advice = ADVICE,
    imports: int = importing.RUNS,
    trials: Trials = TRIALS,
    costs: dict[str, cost.Unit] | None = None,
) -> None:
    """Compute what is missing and write the page."""
    results, timed = Results(how.out / "past_runs.parquet"), importing.units(imports)
    costs = cost.units() if costs is None else costs
    if not how.page_only:
        plan.folder(how.data)
        _complete(
            results, how, plan.units(settings), partial(fits.made, settings, how.data), "fits"
        )
        work: Work = partial(ways.made, settings, how.data)
        _complete(results, how, ways.units(settings), work, "other ways to fit")
        _complete(results, how, timed, importing.made, "imports")
        work = partial(cost.made, how.data, cost.STEPS)
        _complete(results, how, costs, work, "costs of fits")
        judge(results, how, advice, trials)
    pages.write(results, settings, how.page, advice, timed, trials, costs)


def judge(
    results: Results, how: How, advice: Advice = ADVICE, trials: Trials | None = None
) -> None:
    """Train what judges the Advisor: first the past tasks, whose runs it may have at hand.

    Args:
        results: what is there, and where runs are kept.
        how: in which processes.
        advice: what is judged.
        trials: other ways, which are tried last; None tries none.
    """
    for cell, runs, steps in advised.table(advice):
        if how.progress:
            print(f"{cell}: at most {runs} trainings, {steps:,} steps", file=sys.stderr)
    past = advised.units(advice, "past")
    _complete(results, how, past, partial(advised.made, advice, ()), "past tasks")
    hand = advised.at_hand([(unit, results.of(name)) for name, unit in past.items()])
    cells = advised.units(advice, "advised")
    _complete(results, how, cells, partial(advised.made, advice, hand), "cells")
    if trials is not None:
        work = partial(tried.made, trials, hand)
        _complete(results, how, tried.units(trials), work, "other ways")


Work = Callable[[Any], list[Result]]


def _complete(results: Results, how: How, units: Mapping[str, Any], work: Work, label: str) -> None:
    results.complete(units, work, where=how.where, label=label, progress=how.progress)
