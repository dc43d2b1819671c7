"""Made-up runs, so that statistics and reports can be checked against known answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ratewise.compare.analysis import Runs
from ratewise.runs import RunRecord, Store, make_run_id

INITIAL = 2.0
RATES = (0.001, 0.01, 0.1)


def record(
    task: str = "digits-mlp",
    optimizer: str = "adamw",
    schedule: str = "cosine",
    base_lr: float = 0.01,
    seed: int = 0,
    loss: float = 0.5,
    role: str = "judged",
    steps: int = 100,
) -> RunRecord:
    """Return a run that ends at `loss`; an infinite one diverged half-way."""
    config = {"task": task, "optimizer": optimizer, "schedule": schedule}
    config |= {"lr": base_lr, "seed": seed, "role": role}
    diverged = not np.isfinite(loss)
    train = list(range(1, 51 if diverged else 101, 10))
    halfway = loss if diverged else (INITIAL + loss) / 2
    return RunRecord(
        run_id=make_run_id(config),
        role=role,
        task=task,
        preset="small",
        optimizer=optimizer,
        schedule=schedule,
        base_lr=base_lr,
        seed=seed,
        steps=steps,
        config=config,
        status="diverged" if diverged else "finished",
        diverged_at=50 if diverged else None,
        metric_name="accuracy",
        metric_mode="max",
        train_step=train,
        train_loss=[INITIAL] * len(train),
        lr=[base_lr] * len(train),
        eval_step=[0, 50, 100],
        validation_loss=[INITIAL, halfway, loss],
        test_step=[0, 10, 50, 100],
        test_loss=[INITIAL, INITIAL, halfway, loss],
        test_metric=[0.1, 0.2, 0.3, 0.4],
        train_seconds=1.5,
        eval_seconds=0.5,
        started_at="2026-01-01T00:00:00+00:00",
        versions={"ratewise": "0.1.0", "torch": "2.13.0"},
        machine={"system": "Linux"},
    )


def asked(
    tasks: Sequence[str], schedules: Sequence[str], seeds: int, optimizers: Sequence[str]
) -> dict[str, Any]:
    return {
        "tasks": dict.fromkeys(tasks, "small"),
        "optimizers": list(optimizers),
        "schedules": list(schedules),
        "grids": [[task, optimizer, list(RATES)] for task in tasks for optimizer in optimizers],
        "tuning_seeds": [0, 1],
        "judged_seeds": [1000 + seed for seed in range(seeds)],
    }


def comparison(
    loss: Callable[[str, str, str, int], float],
    *,
    tasks: Sequence[str] = ("digits-mlp", "diabetes-mlp"),
    optimizers: Sequence[str] = ("adamw",),
    schedules: Sequence[str] = ("greedy", "cosine"),
    seeds: int = 5,
) -> tuple[list[RunRecord], dict[str, Any]]:
    """Return runs whose final loss is ``loss(task, optimizer, schedule, seed)`` at rate 0.01.

    The grid's runs never diverge, so that 0.01 is every method's tuned rate.
    """
    runs = []
    for task in tasks:
        for optimizer in optimizers:
            for schedule in schedules:
                make = {"task": task, "optimizer": optimizer, "schedule": schedule}
                for rate in RATES:
                    for seed in (0, 1):
                        worse = 1.0 if rate == 0.01 else 1.5
                        end = worse * min(3.0, loss(task, optimizer, schedule, seed))
                        runs.append(record(**make, base_lr=rate, seed=seed, loss=end, role="grid"))
                runs += [
                    record(**make, seed=1000 + seed, loss=loss(task, optimizer, schedule, seed))
                    for seed in range(seeds)
                ]
    return runs, asked(tasks, schedules, seeds, optimizers)


def runs_of(loss: Callable[[str, str, str, int], float], **options: Any) -> Runs:
    return Runs(*comparison(loss, **options))


def stored(store: Store, loss: Callable[[str, str, str, int], float], **options: Any) -> Store:
    records, plan = comparison(loss, **options)
    for one in records:
        store.add(one)
    store.write_sweep({"plan": plan, "runs": [one.run_id for one in records]})
    return store
