"""Trains what the study of methods without a rate lacks, and writes its page."""

from __future__ import annotations

from functools import partial

from evidence import peers, run_table
from evidence.how import How
from evidence.learned import page as pages
from evidence.learned import plan
from evidence.learned.plan import Settings
from evidence.learned.runs import made
from evidence.results import Results

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Train what is missing, after its table was printed, and write the page from what is there."""
    settings = settings or Settings()
    results = Results(how.out / "learned.parquet")
    if not how.page_only:
        if settings.peers:
            peers.check()
        work, row = partial(made, settings), partial(plan.row, settings)
        run_table.complete(results, plan.wanted(settings), work, row, how, "cells")
    pages.write(results, settings, how.page)
