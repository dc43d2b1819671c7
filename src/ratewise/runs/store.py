"""A folder of runs in Parquet files, each renamed into place, so that none is lost if killed."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from ratewise.errors import StoreError, invalid
from ratewise.files import writing
from ratewise.runs import parquet
from ratewise.runs.schema import BATCH, SCHEMA_VERSION, RunRecord, batch_id

MARKER = "ratewise-store.json"
SWEEP = "sweep.json"


class Store:
    """Runs below one folder; several processes may write at once.

    A run lies in a file of its own (`add`) or with others in the file of a batch (`add_all`). A
    file is written under a temporary name, synced, and renamed: it is there whole or not at all.
    What cannot be read, or is not what its name says, is moved to ``set-aside/`` as a whole and
    named in `set_aside` and a warning; it is never trusted and never deleted. A run that lies in
    several files counts once: its own file comes first, then batches by name.

    Args:
        folder: an empty or absent folder, or one that a store made.

    Raises:
        StoreError: the folder holds something else, cannot be written, or is of a newer version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.set_aside: list[tuple[Path, str]] = []
        self._runs = self.folder / "runs"
        self._batches: dict[str, frozenset[str]] = {}  # never stale: the name is the ids' digest
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        self._claim()

    def _claim(self) -> None:
        """Make the folder a store, the marker first: what lies below it is then a store's own."""
        marker = self.folder / MARKER
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise StoreError(f"{self.folder} is a file: choose another folder (--out)")
            self.folder.mkdir(parents=True, exist_ok=True)
            foreign = self._foreign()
            if marker.exists():  # asked after the look: another process may have made it meanwhile
                version = _version(marker)
            elif foreign:
                raise StoreError(
                    f"{self.folder} is not a ratewise store, it holds {', '.join(foreign[:3])}"
                    f"{', ...' if len(foreign) > 3 else ''}: choose another folder (--out)"
                )
            else:
                version = 0
            # An older store's marker is raised at once, not with the first file of this version:
            # no writer can then forget it, and no older ratewise meets such a file unwarned.
            if version < SCHEMA_VERSION:
                writing.write(marker, json.dumps({"schema_version": SCHEMA_VERSION}))
            self._runs.mkdir(exist_ok=True)
            probe = self._runs / writing.unfinished("probe")
            probe.touch()
            probe.unlink()
            self.clean()
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be written ({error.strerror}): runs and reports are written "
                "there; allow it, or use a copy or another folder (--out)"
            ) from error

    def _foreign(self) -> list[str]:
        """Return what no store leaves behind: before the marker there is at most its beginning."""
        found = sorted(name for name in os.listdir(self.folder) if not writing.is_unfinished(name))
        # up to 0.1, an empty folder for runs came before the marker
        return [] if found == ["runs"] and not any(self._runs.iterdir()) else found

    def clean(self) -> None:
        """Remove the unfinished files of processes that have ended."""
        writing.clean(self.folder)
        writing.clean(self._runs)

    def path(self, run_id: str) -> Path:
        """Return where the run's own file lies, or would lie."""
        return self._runs / f"{run_id}.parquet"

    def __contains__(self, run_id: str) -> bool:
        return self.path(run_id).exists() or run_id in self._ids_in_batches()

    def has_all(self, run_ids: Iterable[str]) -> bool:
        """Return whether the batch of exactly these runs is there, at the price of one look.

        Raises:
            InvalidArgument: `run_ids` is empty.
        """
        return self.path(batch_id(run_ids)).exists()

    def run_ids(self) -> set[str]:
        """Return the ids of the runs that lie there: of a run's own file, read or not."""
        return self._ids_in_batches().union(
            path.stem for path in self._files() if not parquet.is_batch(path)
        )

    def add(self, record: RunRecord) -> Path:
        """Write one run and return its file; a run that is there already is replaced."""
        return self._put([record], record.run_id)

    def add_all(self, records: Iterable[RunRecord]) -> Path:
        """Write runs into one file, which is much faster than one each, and return it.

        The file's name is `batch_id` of the runs, so that the same runs replace it, and
        `has_all` finds it.

        Raises:
            InvalidArgument: there is no run, or one is there twice.
        """
        records = list(records)
        ids = frozenset(record.run_id for record in records)
        if not records or len(ids) < len(records):
            got = f"{len(records)} records of {len(ids)} runs"
            raise invalid("records", "one or more runs, each once", got, "pass each run once")
        name = batch_id(ids)
        path = self._put(records, name)
        self._batches[name] = ids
        return path

    def _put(self, records: Sequence[RunRecord], name: str) -> Path:
        path = self.path(name)
        with self._lock, writing.whole(path) as temporary:
            if self._writer is None:  # opening a connection costs more than a run's file
                self._writer = parquet.connected(threads=1)
            parquet.write(self._writer, records, temporary)
        return path

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the resources for writing; the store reopens them when needed."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def load(self) -> list[RunRecord]:
        """Return every run once, ordered by task, optimizer, schedule, rate, seed and id."""
        paths = self._files()
        try:
            parts = list(parquet.read(paths).values())
        except (duckdb.Error, ValueError):  # one of them is not in order
            parts = list(map(self._read_one, paths))
        records: dict[str, RunRecord] = {}
        for record in (record for part in parts for record in part):
            records.setdefault(record.run_id, record)
        key = ("task", "optimizer", "schedule", "base_lr", "seed", "run_id")
        return sorted(records.values(), key=lambda record: [getattr(record, name) for name in key])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the view `runs`, one row a run.

        Files count by their ids alone: a batch without those of its name is set aside, and a
        file of one run with another is left out; `load` looks at everything.

        >>> import tempfile
        >>> Store(tempfile.mkdtemp()).query("SELECT 1 + 1")
        [(2,)]
        """
        self._ids_in_batches()
        for path in self._files():
            if parquet.is_batch(path) and path.stem not in self._batches:
                self._read_one(path)
        return parquet.query(self._files(), sql)

    def write_sweep(self, sweep: dict[str, Any]) -> None:
        """Keep what was asked for: tasks, schedules, rates, seeds."""
        writing.write(self.folder / SWEEP, json.dumps(sweep, indent=2))

    def read_sweep(self) -> dict[str, Any] | None:
        """Return what `write_sweep` kept, or None; its entries are not looked at.

        Raises:
            StoreError: the file holds something else.
        """
        path = self.folder / SWEEP
        try:
            sweep = _read_json(path) if path.exists() else None
        except (OSError, ValueError) as error:
            raise damaged_sweep(self.folder, str(error)) from error
        if sweep is not None and not isinstance(sweep, dict):
            raise damaged_sweep(self.folder, f"it holds a {type(sweep).__name__}, not an object")
        return sweep

    def _files(self) -> list[Path]:
        return sorted(self._runs.glob("*.parquet"), key=parquet.order)

    def _ids_in_batches(self) -> set[str]:
        there = list(self._runs.glob(f"{BATCH}*.parquet"))
        new = [path for path in there if path.stem not in self._batches]
        self._batches |= parquet.batch_ids(new)
        return set().union(*(self._batches.get(path.stem, ()) for path in there))

    def _read_one(self, path: Path) -> list[RunRecord]:
        """Return one file's runs, or set it aside with the reason."""
        try:
            return parquet.read([path])[path.name]
        except (duckdb.Error, ValueError) as error:
            self._put_aside(path, str(error).splitlines()[0])
            return []

    def _put_aside(self, path: Path, reason: str) -> None:
        folder = self.folder / "set-aside"
        folder.mkdir(exist_ok=True)
        target = folder / path.name
        for number in range(1, 10_000):
            if not target.exists():
                break
            target = folder / f"{path.name}.{number}"
        os.replace(path, target)
        self.set_aside.append((target, reason))
        kind = "batch" if parquet.is_batch(path) else "run"
        warnings.warn(f"{path} is not a whole {kind} ({reason}): moved to {target}", stacklevel=4)


def damaged_sweep(folder: Path, reason: str) -> StoreError:
    """Return the error for a damaged file about the last sweep."""
    fix = "remove it and run the comparison again, all runs stay"
    return StoreError(f"{folder / SWEEP} is damaged ({reason}): {fix}")


def _version(marker: Path) -> int:
    try:
        version = _read_json(marker)["schema_version"]
        if type(version) is not int or version < 1:
            raise ValueError(version)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f'{marker} is damaged: write {{"schema_version": {SCHEMA_VERSION}}} into it if its '
            "runs are yours, or choose another folder (--out)"
        ) from error
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{marker.parent} is a store of version {version}, this ratewise reads "
            f"{SCHEMA_VERSION}: upgrade ratewise or choose another folder (--out)"
        )
    return version


def _read_json(path: Path) -> Any:
    """Return what a JSON file holds; whatever is wrong with it but its absence is a ValueError."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
