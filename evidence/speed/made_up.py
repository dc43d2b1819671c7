"""Runs that nobody trained, as many as asked for: what a store and a driver take of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from ratewise.compare import processes
from ratewise.pool import Work
from ratewise.runs import RunRecord, Store, make_run_id


@cache
def _pattern(points: int) -> RunRecord:
    rng = random.Random(points)
    losses = [rng.random() for _ in range(points)]
    return RunRecord(
        run_id="",
        role="judged",
        task="made-up",
        preset="small",
        optimizer="adamw",
        schedule="cosine",
        base_lr=0.01,
        seed=0,
        steps=points,
        config={},
        status="finished",
        diverged_at=None,
        metric_name="accuracy",
        metric_mode="max",
        train_step=list(range(1, points + 1)),
        train_loss=losses,
        lr=[rng.random() for _ in range(points)],
        eval_step=[0, points],
        validation_loss=[1.0, losses[-1]],
        test_step=[0, points],
        test_loss=[1.0, losses[-1]],
        test_metric=[0.1, 0.9],
        train_seconds=1.0,
        eval_seconds=0.1,
        started_at="2026-01-01T00:00:00+00:00",
        versions={"ratewise": "0.1.0"},
        machine={"system": "Linux"},
    )


def record(points: int, number: int, *, alike: bool = False) -> RunRecord:
    """Return a run, which its number determines.

    Args:
        points: of its history.
        number: its seed.
        alike: give it the history of all others, which costs less to make.
    """
    config = {"task": "made-up", "points": points, "seed": number}
    rng = random.Random(number)
    named: dict[str, Any] = {"run_id": make_run_id(config), "config": config, "seed": number}
    if not alike:
        named["train_loss"] = [rng.random() for _ in range(points)]
        named["lr"] = [rng.random() for _ in range(points)]
    return replace(_pattern(points), **named, test_loss=[1.0, rng.random()])


def fill(
    folder: Path, points: int, runs: int, batch: int, *, alike: bool = False
) -> Iterator[float]:
    """Write what a store lacks; yield the seconds of processor time of every batch written."""
    with Store(folder) as store:
        for first in range(0, runs, batch):
            numbers = range(first, min(first + batch, runs))
            made = [record(points, number, alike=alike) for number in numbers]
            if store.has_all(run.run_id for run in made):
                continue
            start = time.process_time()
            store.add_all(made)
            yield time.process_time() - start


def work(points: int, folder: Path) -> Work[int]:
    """Return a work whose items are made at once, and stored as a comparison's are."""
    return Work(partial(_made, points), keep=processes.work({}, folder).keep)


def _made(points: int, held: None, number: int) -> RunRecord:
    return record(points, number)


def waiting(seconds: float) -> Work[int]:
    """Return a work whose items take so long, and no processor."""
    return Work(partial(_waited, seconds))


def _waited(seconds: float, held: None, number: int) -> int:
    time.sleep(seconds)
    return number
