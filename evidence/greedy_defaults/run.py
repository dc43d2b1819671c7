"""Trains what the study of GreedyLR's defaults lacks, and writes its page."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from evidence import run_table
from evidence.greedy_defaults import numbers, plan
from evidence.greedy_defaults import page as pages
from evidence.greedy_defaults.plan import Candidate, Settings
from evidence.greedy_defaults.runs import made
from evidence.how import How
from evidence.results import Results

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Train what is missing, develop first, and write the page from what is there."""
    settings = settings or Settings()
    results = Results(how.out / "greedy_defaults.parquet")
    if not how.page_only:
        for one in settings.rounds():
            _complete(results, one, ("develop",), None, how)
        _complete(results, settings, ("given", "judged"), numbers.chosen(results, settings), how)
    pages.write(results, settings, how.page)


def _complete(
    results: Results, settings: Settings, parts: Iterable[str], chosen: Candidate | None, how: How
) -> None:
    units = plan.wanted(settings, parts, chosen)
    work, row = partial(made, settings, chosen), partial(plan.row, settings)
    run_table.complete(results, units, work, row, how, "cells")
