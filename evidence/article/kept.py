"""What is kept of a run of the study, and the run as it is read again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np

from evidence import code
from evidence.results import Result
from ratewise.compare.analysis import SHARES, loss_at
from ratewise.runs import RunRecord

#: Points that are kept of the rates that a judged run had.
RATES = 40
#: Where test losses are kept: of the untrained model, and at these shares of the steps.
MARKS = (0.0, *SHARES)
#: The role of runs whose time alone counts.
CLOCK = "clock"
#: The modules whose digest is noted beside a run.
_RULES = ("ratewise.rules.greedy", "ratewise.rules.significance", "ratewise.compare.training")


def kept(records: Iterable[RunRecord]) -> list[Result]:
    """Return what is kept of the runs of a unit."""
    return [_kept(record) for record in records]


def _kept(run: RunRecord) -> Result:
    """Of a run that judges the losses and rates on the way, of others the end alone.

    Numbers are rounded to float32, which compresses.
    """
    numbers = [run.validation_loss[-1]]
    if run.role == "judged":
        ended = run.status == "finished"
        at = np.linspace(0, len(run.lr) - 1, RATES).round().astype(int)
        rates = np.asarray(run.lr)[at] if ended else np.full(RATES, math.nan)
        numbers = [*(loss_at(run, share) for share in MARKS), *rates, *_validated(run)]
    return Result(
        task=run.task,
        method=run.schedule,
        setting=f"{run.optimizer}, {run.base_lr:.6g}",
        seed=run.seed,
        role=run.role,
        steps=run.steps,
        losses=np.asarray(numbers, np.float32).tolist(),
        seconds=run.train_seconds,
        versions=json.dumps({**run.versions, "rules": code.digest(*_RULES)}),
    )


def _validated(run: RunRecord) -> list[float]:
    """Return the validation losses at even distances, the untrained model's first."""
    by_step = dict(zip(run.eval_step, run.validation_loss, strict=True))
    count = min(run.config["evaluations"], run.steps)
    return [by_step.get(step, math.inf) for step in _evenly(run.steps, count)]


def _evenly(steps: int, count: int) -> list[int]:
    return [round(steps * i / count) for i in range(count + 1)]


def runs(results: Iterable[Result]) -> list[RunRecord]:
    """Return the runs as records: what was not kept of them is empty, rates are rarer."""
    return [_run(one) for one in results]


def _run(one: Result) -> RunRecord:
    optimizer, _, value = one.setting.rpartition(", ")
    judged = one.role == "judged"
    tests = one.losses[: len(MARKS)] if judged else []
    rates = [x for x in one.losses[len(MARKS) : len(MARKS) + RATES] if math.isfinite(x)]
    validated: Sequence[float] = one.losses[len(MARKS) + RATES :] if judged else one.losses
    ended = math.isfinite(validated[-1]) and (bool(rates) or not judged)
    count = len(validated) - 1
    return RunRecord(
        run_id="",
        role=one.role,
        task=one.task,
        preset="small",
        optimizer=optimizer,
        schedule=one.method,
        base_lr=float(value),
        seed=one.seed,
        steps=one.steps,
        config={},
        status="finished" if ended else "diverged",
        diverged_at=None,
        metric_name="",
        metric_mode="min",
        train_step=[round(1 + (one.steps - 1) * i / (RATES - 1)) for i in range(len(rates))],
        train_loss=[],
        lr=rates,
        eval_step=_evenly(one.steps, count) if count else [one.steps],
        validation_loss=list(validated),
        test_step=[round(share * one.steps) for share in MARKS] if judged else [],
        test_loss=tests,
        test_metric=[],
        train_seconds=one.seconds,
        eval_seconds=0.0,
        started_at="",
        versions=json.loads(one.versions),
        machine={},
    )
