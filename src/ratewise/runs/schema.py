"""The columns of a stored run, their units, and the identity of a run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ratewise.errors import InvalidArgument, invalid

#: Version of the columns below. A file of a newer one is refused, never guessed at.
SCHEMA_VERSION = 3
#: column -> the version that brought it: an older file's run has `RunRecord`'s default there
ADDED = {
    "seen_loss": 2,
    "grad_norm": 2,
    "update_ratio": 2,
    "batch_size": 3,
    "parameters": 3,
    "passes": 3,
}
#: Lists that may be empty where `train_step` is not.
OPTIONAL = ("seen_loss", "grad_norm", "update_ratio")
#: What the name of a file with several runs begins with; a run's id is hexadecimal.
BATCH = "batch-"


@dataclass(frozen=True)
class RunRecord:
    """One training run. Its identity, `run_id`, is the digest of `config`.

    A diverged run's histories end where it stopped; what it did not reach is infinite. The lists
    that may be empty are either that or as long as `train_step`.
    """

    run_id: str
    role: str  #: "grid" (each rate, tuning seeds), "judged" (fresh seeds), "simulated", "imported"
    task: str
    preset: str
    optimizer: str
    schedule: str
    base_lr: float
    seed: int
    steps: int
    config: dict[str, Any]
    status: str  #: "finished" or "diverged": a training loss that was not finite
    diverged_at: int | None
    metric_name: str
    metric_mode: str
    train_step: list[int]
    train_loss: list[float]
    lr: list[float]
    eval_step: list[int]
    validation_loss: list[float]
    test_step: list[int]
    test_loss: list[float]
    test_metric: list[float]
    train_seconds: float
    eval_seconds: float
    started_at: str
    versions: dict[str, str]
    machine: dict[str, Any]
    seen_loss: list[float] = field(default_factory=list)  #: may be empty: same as `train_loss`
    grad_norm: list[float] = field(default_factory=list)  #: may be empty: not measured
    update_ratio: list[float] = field(default_factory=list)  #: may be empty: not measured
    batch_size: int = 0  #: 0: not known
    parameters: int = 0  #: 0: not known
    passes: float = 0.0  #: 0: not known


#: column -> (DuckDB type, unit or meaning)
UNITS: dict[str, tuple[str, str]] = {
    "run_id": ("VARCHAR", "16 hex digits, digest of config"),
    "role": ("VARCHAR", "grid | judged | simulated | imported"),
    "task": ("VARCHAR", "name"),
    "preset": ("VARCHAR", "name"),
    "optimizer": ("VARCHAR", "name"),
    "schedule": ("VARCHAR", "name"),
    "base_lr": ("DOUBLE", "learning rate"),
    "seed": ("BIGINT", "of weights, batch order and dropout; -1: not known"),
    "steps": ("BIGINT", "optimizer steps"),
    "config": ("VARCHAR", "JSON: everything that determines the run"),
    "status": ("VARCHAR", "finished | diverged"),
    "diverged_at": ("BIGINT", "optimizer step, or NULL"),
    "metric_name": ("VARCHAR", "name, or empty"),
    "metric_mode": ("VARCHAR", "max | min"),
    "train_step": ("BIGINT[]", "optimizer steps, from 1"),
    "train_loss": ("DOUBLE[]", "loss of the step's batch, in the task's unit; NaN: not logged"),
    "seen_loss": ("DOUBLE[]", "what the schedule was shown, at train_step; empty: train_loss"),
    "lr": ("DOUBLE[]", "learning rate that the step used, first group; NaN: not logged"),
    "grad_norm": ("DOUBLE[]", "2-norm of the step's gradient, at train_step, or empty"),
    "update_ratio": ("DOUBLE[]", "||change|| / ||parameters|| of the step, or empty"),
    "eval_step": ("BIGINT[]", "optimizer steps, from 0"),
    "validation_loss": ("DOUBLE[]", "mean loss of the validation part"),
    "test_step": ("BIGINT[]", "optimizer steps: 0, 10%, 50%, 100%"),
    "test_loss": ("DOUBLE[]", "mean loss of the test part"),
    "test_metric": ("DOUBLE[]", "mean metric of the test part"),
    "train_seconds": ("DOUBLE", "seconds of processor time, without evaluations"),
    "eval_seconds": ("DOUBLE", "seconds of processor time"),
    "started_at": ("VARCHAR", "ISO 8601, UTC"),
    "versions": ("VARCHAR", "JSON: name -> version"),
    "machine": ("VARCHAR", "JSON: kind of machine"),
    "batch_size": ("BIGINT", "samples an optimizer step; 0: not known"),
    "parameters": ("BIGINT", "of the model; 0: not known"),
    "passes": ("DOUBLE", "over the training data; 0: not known"),
    "schema_version": ("BIGINT", "SCHEMA_VERSION"),
}
#: column of steps -> the columns of what was measured there
ALIGNED = {
    "train_step": ("train_loss", "lr", *OPTIONAL),
    "eval_step": ("validation_loss",),
    "test_step": ("test_loss", "test_metric"),
}
JSON_COLUMNS = ("config", "versions", "machine")


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def make_run_id(config: dict[str, Any]) -> str:
    """Return the identity of the run that `config` determines.

    >>> make_run_id({"lr": 0.1, "seed": 0}) == make_run_id({"seed": 0, "lr": 0.1})
    True
    """
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:16]


def batch_id(run_ids: Iterable[str]) -> str:
    """Return the identity of a file that holds these runs, whatever their order.

    Raises:
        InvalidArgument: there is no run.

    >>> batch_id(["b", "a"]) == batch_id(["a", "b"]) != batch_id(["a"])
    True
    """
    ids = sorted(set(run_ids))
    if not ids:
        raise invalid("run_ids", "one or more ids", ids, "pass the ids of the batch's runs")
    return BATCH + hashlib.sha256(canonical(ids).encode()).hexdigest()[:16]


def to_row(record: RunRecord) -> list[Any]:
    """Return the record as the values of `UNITS`' columns.

    Raises:
        InvalidArgument: None where a value is needed; a number that is missing is NaN. Or lists
            that belong together have different lengths.
    """
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    for name, value in values.items():
        hole = None in value if isinstance(value, list) else value is None
        if hole and name != "diverged_at":
            raise invalid(f"the record's {name}", "without None", None, "pass NaN for a number")
    if odd := _misaligned(values):
        raise InvalidArgument(f"the record's {odd}: pass as many")
    values |= {name: canonical(values[name]) for name in JSON_COLUMNS}
    return [*(values[name] for name in UNITS if name != "schema_version"), SCHEMA_VERSION]


def _misaligned(values: dict[str, Any]) -> str:
    """Return which list is not as long as the steps that it belongs to, or nothing."""
    for steps, others in ALIGNED.items():
        for name in others:
            count, length = len(values[steps]), len(values[name])
            if length != count and not (name in OPTIONAL and length == 0):
                return f"{name} has {length} entries, {steps} has {count}"
    return ""


def _fits(value: Any, name: str) -> bool:
    """Return whether a value is of its column's type; DuckDB hands over what a file declares."""
    if name in JSON_COLUMNS:
        return isinstance(value, dict)
    if name == "diverged_at" and value is None:
        return True
    kind = UNITS[name][0]
    single = {"VARCHAR": str, "DOUBLE": float, "BIGINT": int}[kind.removesuffix("[]")]
    if not kind.endswith("[]"):
        return type(value) is single
    return isinstance(value, list) and all(type(entry) is single for entry in value)


def before(name: str) -> Any:
    """Return what a run has in a column that came after it."""
    kind = UNITS[name][0]
    return [] if kind.endswith("[]") else 0.0 if kind == "DOUBLE" else 0


def from_row(row: dict[str, Any]) -> RunRecord:
    """Return the record of a row; whatever is wrong with the row is a ValueError."""
    try:
        version = row["schema_version"]
        if version not in range(1, SCHEMA_VERSION + 1):
            raise ValueError(f"is of version {version}, not of 1 to {SCHEMA_VERSION}")
        values = {
            name: before(name) if version < ADDED.get(name, 1) else row[name]
            for name in UNITS
            if name != "schema_version"
        }
        values |= {name: json.loads(values[name]) for name in JSON_COLUMNS}
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"lacks a column, or has a damaged one: {error}") from error
    for name, value in values.items():
        if value is None and name != "diverged_at":
            raise ValueError(f"column {name} is empty")
        if not _fits(value, name):
            raise ValueError(f"column {name} holds no {UNITS[name][0]}")
    if odd := _misaligned(values):
        raise ValueError(f"column {odd}")
    if make_run_id(values["config"]) != values["run_id"]:
        raise ValueError("run_id is not the digest of its config")
    return RunRecord(**values)
