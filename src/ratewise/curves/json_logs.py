"""Logs in JSON: Trainer's state, ratewise's events, the history of Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ratewise.curves.curve import Facts
from ratewise.curves.log import Log, count, from_rows, number
from ratewise.curves.tables import MOST_BYTES
from ratewise.errors import CorruptData
from ratewise.files import contents

#: Fields of an event that `ratewise.JSONLWriter` wrote; see ratewise.schedulers.events.
_EVENT = {"step", "metric", "old_lr", "new_lr", "reason"}


def read_json(path: Path, wanted: Mapping[str, str] | None = None) -> list[Log]:
    """Return the log of a JSON file: Trainer's state, a list of rows, or an object of columns.

    Raises:
        CorruptData: damaged, or none of these.
    """
    value = _parsed(path, contents.contents(path, MOST_BYTES))
    if isinstance(value, dict) and isinstance(value.get("log_history"), list):
        return [_trainer(path, value)]
    if isinstance(value, dict) and any(isinstance(column, list) for column in value.values()):
        columns = {name: cells for name, cells in value.items() if isinstance(cells, list)}
        length = max(map(len, columns.values()))
        return [_rows(path, [
            {name: cells[i] for name, cells in columns.items() if i < len(cells)}
            for i in range(length)
        ], wanted)]  # fmt: skip
    if isinstance(value, list):
        return [_rows(path, value, wanted)]
    raise CorruptData(f"{path} is JSON, but no log: neither rows, columns nor Trainer's state")


def read_json_lines(path: Path, wanted: Mapping[str, str] | None = None) -> list[Log]:
    """Return the log of a file with an object of JSON a line.

    A last line that is cut short is left out, and so are others that cannot be read.

    Raises:
        CorruptData: no line can be read, or they have no step or loss.
    """
    text = contents.contents(path, MOST_BYTES).decode("utf-8", "replace")
    lines = [line for line in text.split("\n") if line.strip()]
    rows, wrong, cut = [], 0, False
    for index, line in enumerate(lines):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no object")
            rows.append(row)
        except (ValueError, RecursionError):
            cut = index == len(lines) - 1 and not text.endswith("\n")
            wrong += not cut
    if not rows:
        raise CorruptData(f"{path} has no line with an object of JSON")
    log = _events(path, rows) if rows[0].keys() >= _EVENT else _rows(path, rows, wanted)
    said = [f"{wrong} lines that are no objects of JSON"] if wrong else []
    log.left_out = said + ["the last line, half-written"] * cut + log.left_out
    return [log]


def _parsed(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{path} is no JSON, or cut short ({contents.shown(error)})") from error


def _rows(path: Path, rows: Iterable[Any], wanted: Mapping[str, str] | None) -> Log:
    """Return the log of rows; what Weights & Biases nests is named as it names it, "a.b"."""
    flat = [_flat(row) for row in rows if isinstance(row, dict)]
    names = dict.fromkeys(name for row in flat for name in row)
    return from_rows(path.stem, names, flat, wanted)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in row.items():
        if isinstance(cell, dict):
            found |= {f"{name}.{inner}": value for inner, value in cell.items()}
        else:
            found[name] = cell
    return found


def _trainer(path: Path, state: Mapping[str, Any]) -> Log:
    """Return the log of Trainer's state; its summary at the end has a mean loss, and is none.

    The rate of an entry is its step's (transformers 5; older versions log the next step's).
    """
    log = Log(path.stem, facts=_trainer_facts(state))
    for row in state["log_history"]:
        step = number(row.get("step")) if isinstance(row, dict) else None
        if step is None:
            log.left_out.append("an entry without a step")
            continue
        names = {"loss": "train_loss", "eval_loss": "held_out_loss"}
        for field, kind in names.items():
            value = number(row.get(field))
            if value is not None:
                log.add(kind, step, value)
        rate = number(row.get("learning_rate"))
        if rate is not None:
            log.add("lr", step, rate)
    return log


def _trainer_facts(state: Mapping[str, Any]) -> Facts:
    passes = number(state.get("epoch"))
    return Facts(
        batch_size=count(state.get("train_batch_size")),
        passes=passes if passes is not None and 0 < passes < 2**53 else 0.0,
        total_steps=count(state.get("max_steps")),
    )


def _events(path: Path, rows: Iterable[Mapping[str, Any]]) -> Log:
    """Return the log of a scheduler's events: the rate holds from one change to the next."""
    log, before = Log(path.stem), None
    for row in rows:
        step, metric = number(row.get("step")), number(row.get("metric"))
        if step is None:
            log.left_out.append("an event without a step")
            continue
        if metric is not None:
            log.add("train_loss", step, metric)
        old, new = (_first(row.get(field)) for field in ("old_lr", "new_lr"))
        if old is not None and step > (before or 0):
            log.add("lr", step, old)
        if new is not None:
            log.add("lr", step + 1, new)
        before = step + 1
    return log


def _first(rates: Any) -> float | None:
    return number(rates[0]) if isinstance(rates, list) and rates else None
