"""Reading a file or a folder of logs, whatever wrote them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ratewise.curves import published
from ratewise.curves.branches import joined
from ratewise.curves.curve import Curve
from ratewise.curves.json_logs import read_json, read_json_lines
from ratewise.curves.log import Log
from ratewise.curves.stored import from_record
from ratewise.curves.tables import read_csv, read_parquet
from ratewise.curves.tensorboard import BEGINNING, read_events
from ratewise.errors import InvalidArgument, MissingExtra, RatewiseError, invalid
from ratewise.runs import Store
from ratewise.runs.store import MARKER

#: Files below a folder that are looked at.
MOST_FILES = 100_000
_STATE = "trainer_state.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
Columns = Mapping[str, str] | None
#: A run's name, or that of several, and what reads them.
Source = tuple[str, Callable[[], list[Curve]]]
_READERS: dict[str, Callable[[Path, Columns], list[Log]]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}


class Reading(NamedTuple):
    """What came of a file or a folder."""

    curves: list[Curve]
    skipped: list[tuple[str, str]]  #: files that are no logs, and why


def read(
    logs: str | os.PathLike[str],
    *,
    columns: Mapping[str, str] | None = None,
    parents: Mapping[str, str] | None = None,
    join: bool = True,
) -> Reading:
    """Return the curves of a file or of a folder and what lies below it.

    Read are TensorBoard's event files, Trainer's `trainer_state.json`, Lightning's `metrics.csv`,
    exports of Weights & Biases (CSV, JSON), the events of `ratewise.JSONLWriter`, stores of runs,
    CSV and Parquet with a column each for step, rate and losses, and pairs of tables as published
    with "The Surprising Agreement ..." (`ratewise.curves.published`). Everything else in a folder
    is passed over; a file that looks like a log and is none is named in `skipped`.

    Args:
        logs: the file or folder.
        columns: which column is which ("step", "lr", "train_loss", "held_out_loss"), where their
            names do not say it.
        parents: branch -> the run from whose checkpoint it went on, by name.
        join: give each branch its trunk's beginning.

    Raises:
        InvalidArgument: there is no such file or folder, or nothing in it can be read.
        CorruptData: a file that was named itself is damaged.
        MissingExtra: there are event files, and tensorboard is not installed.
        UnknownName: `parents` names a run that is not there.
    """
    path = Path(logs)
    if not path.exists():
        raise invalid("logs", "a file or a folder that exists", str(logs), "check its name")
    found: list[Curve] = []
    skipped: list[tuple[str, str]] = []
    for name, make in _sources(path, columns):
        try:
            made = make()
        except (RatewiseError, OSError) as error:
            if path.is_file() or isinstance(error, MissingExtra):
                raise
            skipped.append((name, str(error)))
            continue
        found += made
    if not found:
        why = f": {skipped[0][1]}" if skipped else ": pass a folder with event files, CSV or JSON"
        raise InvalidArgument(f"no log of a training was found in {path}{why}")
    return Reading(joined(found, parents) if join else found, skipped)


def _sources(path: Path, columns: Columns) -> list[Source]:
    """Return the runs' names and how each is read, in the order of the names."""
    if path.is_file():
        if path.name.startswith(BEGINNING):
            name = path.parent.name
            return [_source(name, read_events, [path], name, columns)]
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            fix = f"pass a file that ends in {', '.join(_READERS)}, or TensorBoard's folder"
            raise invalid("logs", "a log", path.name, fix)
        return [_source(path.stem, reader, path, columns)]
    sources: list[Source] = []
    states: dict[Path, tuple[int, Path]] = {}
    count = 0
    for folder, below, names in os.walk(path):
        below.sort()
        here, count = Path(folder), count + len(names)
        if count > MOST_FILES:
            raise invalid("logs", f"of at most {MOST_FILES} files", count, "name a folder below")
        if MARKER in names:
            below.clear()
            sources.append((_label(path, here), partial(_store, here)))
            continue
        sources += _in_folder(path, here, sorted(names), columns)
        if _STATE in names:
            checkpoint = _CHECKPOINT.fullmatch(here.name)
            root = here.parent if checkpoint else here
            entry = (int(checkpoint[1]) if checkpoint else 2**62, here / _STATE)
            states[root] = max(entry, states.get(root, (-1, here)))
    for root, (_, state) in states.items():  # of a run's checkpoints, the last has all
        sources.append(_source(_label(path, root), read_json, state))
    return sorted(sources, key=lambda source: source[0])


def _in_folder(path: Path, here: Path, names: list[str], columns: Columns) -> list[Source]:
    """Return what one folder holds, but for Trainer's states."""
    sources: list[Source] = []
    label, taken = _label(path, here), {_STATE}
    prefix = "" if here == path else f"{label}/"
    for runs, curves in published.tables(here):
        taken |= {runs.name, curves.name}
        name = prefix + runs.name.removesuffix("-runs.csv")
        sources.append(_source(name, published.read_tables, runs, curves))
    events = [here / name for name in names if name.startswith(BEGINNING)]
    if events:
        sources.append(_source(label, read_events, events, label, columns))
    for name in names:
        reader, stem = _READERS.get(Path(name).suffix.lower()), Path(name).stem
        if reader is not None and name not in taken:
            own = label if stem == "metrics" else prefix + stem  # the name of Lightning's
            sources.append(_source(own, reader, here / name, columns))
    return sources


def _source(name: str, reader: Callable[..., list[Log]], *arguments: Any) -> Source:
    return name, partial(_curves, name, reader, *arguments)


def _curves(name: str, reader: Callable[..., list[Log]], *arguments: Any) -> list[Curve]:
    """Return the curves of one source, with names that no other source has."""
    curves = [log.curve() for log in reader(*arguments)]
    if len(curves) == 1:
        return [replace(curves[0], name=name)]
    parents = [f"{name}/{curve.facts.parent}" if curve.facts.parent else "" for curve in curves]
    return [
        replace(curve.with_facts(parent=parent), name=f"{name}/{curve.name}")
        for curve, parent in zip(curves, parents, strict=True)
    ]


def _store(folder: Path) -> list[Curve]:
    return [from_record(record) for record in Store(folder).load()]


def _label(path: Path, folder: Path) -> str:
    """Return a folder's name below another, or its own where it is that or lies above."""
    inside = folder != path and folder.is_relative_to(path)
    return folder.relative_to(path).as_posix() if inside else folder.resolve().name
