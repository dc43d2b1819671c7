"""Runs that nobody trained, for what happens to workers while they make them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import duckdb
from tests.compare import records

from ratewise.compare import processes
from ratewise.errors import RunFailed
from ratewise.pool import Where, Work, workers
from ratewise.runs import RunRecord, Store

#: A run takes so long.
SECONDS = 0.05


def record(number: int) -> RunRecord:
    """Return a run, which its number determines."""
    return records.record(seed=number, loss=1.0 / (1 + number))


def make(held: None, number: int) -> RunRecord:
    """Make a run, as slowly as a short training."""
    time.sleep(SECONDS)
    return record(number)


def work(folder: Path) -> Work[int]:
    """Return the work of a comparison whose runs are made up, and go to a store."""
    return replace(processes.work({}, folder), make=make, held=nullcontext, name=str)


def go_on(
    folder: Path, count: int, where: Where, at: Callable[[int], object] = lambda over: None
) -> None:
    """Make the runs that a store lacks; `at` hears how many are over.

    Raises:
        RunFailed: one was given up.
    """
    there = Store(folder).run_ids()
    todo = [number for number in range(count) if record(number).run_id not in there]
    at(0)
    with workers(work(folder), where, len(todo)) as found:
        for over, one in enumerate(found.each(todo), start=1):
            if one.wrong:
                raise RunFailed(one.wrong)
            at(over)


def stored(folder: Path) -> int:
    """Return how many runs lie in the files of a store, each as often as it is there."""
    rows = duckdb.sql(f"SELECT count(*) FROM read_parquet('{folder}/runs/*.parquet')").fetchall()
    return int(rows[0][0])
