"""Curves in the store of runs: one row a training, beside those that ratewise made itself."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ratewise.curves.curve import Curve, Facts, Floats, Series, Steps
from ratewise.curves.series import sound
from ratewise.runs import RunRecord, make_run_id

#: What an imported run's role is.
IMPORTED = "imported"
_NO_SEED = -1


def to_record(curve: Curve) -> RunRecord:
    """Return the row of a curve; the same curve has the same identity.

    Rates and training losses share the column of steps: NaN is where one was not logged.
    """
    step = np.union1d(curve.lr.step, curve.train_loss.step)
    facts = asdict(curve.facts)
    config = {
        "made_by": "ratewise.curves",
        "run": curve.name,
        "facts": facts,
        "left_out": list(curve.left_out),
        "digest": _digest(curve),
    }
    return RunRecord(
        run_id=make_run_id(config),
        role=IMPORTED,
        task=curve.facts.task or curve.name,
        preset="",
        optimizer=curve.facts.optimizer,
        schedule=curve.facts.schedule,
        base_lr=curve.peak_lr if len(curve.lr) else math.nan,
        seed=_NO_SEED,
        steps=curve.facts.total_steps or curve.steps,
        config=config,
        status="finished" if curve.diverged_at is None else "diverged",
        diverged_at=curve.diverged_at,
        metric_name="",
        metric_mode="min",
        train_step=step.tolist(),
        train_loss=_at(step, curve.train_loss).tolist(),
        lr=_at(step, curve.lr).tolist(),
        eval_step=curve.held_out_loss.step.tolist(),
        validation_loss=curve.held_out_loss.value.tolist(),
        test_step=[],
        test_loss=[],
        test_metric=[],
        train_seconds=math.nan,
        eval_seconds=math.nan,
        started_at="",
        versions={},
        machine={},
        batch_size=curve.facts.batch_size,
        parameters=curve.facts.parameters,
        passes=curve.facts.passes,
    )


def from_record(record: RunRecord) -> Curve:
    """Return the curve of a row, imported or of a run that ratewise made."""
    about = record.config.get("facts") if record.role == IMPORTED else None
    known = {"optimizer": record.optimizer, "schedule": record.schedule, "task": record.task}
    facts = Facts(
        **known,
        batch_size=record.batch_size,
        parameters=record.parameters,
        passes=record.passes,
        total_steps=record.steps,
    )
    name = record.run_id
    said: list[str] = []
    if isinstance(about, dict):
        own: Any = {key: about[key] for key in asdict(facts) if key in about}
        facts = replace(facts, **own)
        name = str(record.config.get("run", name))
        said = [str(one) for one in record.config.get("left_out", [])]
    logged = {
        "lr": (record.train_step, record.lr),
        "train_loss": (record.train_step, record.train_loss),
        "held_out_loss": (record.eval_step, record.validation_loss),
    }
    series = {key: _finite(*points) for key, points in logged.items()}
    return Curve(name, **series, facts=facts, left_out=tuple(said), diverged_at=record.diverged_at)


def _finite(step: Sequence[int], value: Sequence[float]) -> Series:
    """Return the points that have a number; a run of ratewise's own is in order, others are not."""
    return sound("", step, value).series


def _at(step: Steps, series: Series) -> Floats:
    """Return a series on other steps, NaN where it has none."""
    found = np.full(len(step), np.nan)
    found[np.searchsorted(step, series.step)] = series.value
    return found


def _digest(curve: Curve) -> str:
    digest = hashlib.sha256()
    for series in curve.series.values():
        for array in (series.step.astype("<i8"), series.value.astype("<f8")):
            digest.update(len(array).to_bytes(8, "little") + array.tobytes())
    return digest.hexdigest()[:16]
