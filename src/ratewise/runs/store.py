"""A folder of runs: one atomically renamed Parquet file each, so that a kill loses none."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import duckdb

from ratewise.errors import StoreError
from ratewise.runs.schema import SCHEMA_VERSION, UNITS, RunRecord, from_row, to_row

MARKER = "ratewise-store.json"
_CREATE = "CREATE TEMP TABLE run ({})".format(
    ", ".join(f"{name} {kind}" for name, (kind, _) in UNITS.items())
)
_INSERT = f"INSERT INTO run VALUES ({', '.join('?' * len(UNITS))})"


class Store:
    """Runs below one folder; several processes may write at once.

    A run is written under a temporary name, synced, and renamed: it is there whole or not at
    all. What cannot be read, or is not a run, is moved to ``set-aside/`` and named in
    `set_aside` and a warning; it is never trusted and never deleted.

    Args:
        folder: an empty or absent folder, or one that a store made.

    Raises:
        StoreError: the folder holds something else, cannot be written, or is of a newer version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.set_aside: list[tuple[Path, str]] = []
        self._runs = self.folder / "runs"
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        self._claim()
        self._clean()

    def _claim(self) -> None:
        marker = self.folder / MARKER
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise StoreError(f"{self.folder} is a file: choose another folder (--out)")
            if marker.exists():
                version = _version(marker)
                if version > SCHEMA_VERSION:
                    raise StoreError(
                        f"{self.folder} is a store of version {version}, this ratewise reads "
                        f"{SCHEMA_VERSION}: upgrade ratewise or choose another folder (--out)"
                    )
            elif self.folder.exists() and (found := sorted(os.listdir(self.folder))):
                raise StoreError(
                    f"{self.folder} is not a ratewise store, it holds {', '.join(found[:3])}"
                    f"{', ...' if len(found) > 3 else ''}: choose another folder (--out)"
                )
            self._runs.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                _write(marker, json.dumps({"schema_version": SCHEMA_VERSION}).encode())
            probe = self._runs / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be written ({error.strerror}): choose another folder (--out)"
            ) from error

    def _clean(self) -> None:
        """Remove the temporary files of writers that were killed."""
        for path in self._runs.glob(".tmp-*"):
            writer = path.name.split("-")[1]
            if not (writer.isdigit() and _alive(int(writer))):
                path.unlink(missing_ok=True)

    def path(self, run_id: str) -> Path:
        """Return where that run lies, or would lie."""
        return self._runs / f"{run_id}.parquet"

    def __contains__(self, run_id: str) -> bool:
        return self.path(run_id).exists()

    def run_ids(self) -> set[str]:
        """Return the ids of the files that lie there, read or not."""
        return {path.stem for path in self._runs.glob("*.parquet")}

    def add(self, record: RunRecord) -> Path:
        """Write one run and return its file; a run that is there already is replaced."""
        path = self.path(record.run_id)
        temporary = self._runs / f".tmp-{os.getpid()}-{threading.get_ident()}-{record.run_id}"
        with self._lock:
            if self._writer is None:  # opening a connection costs more than a run's file
                self._writer = duckdb.connect(config={"threads": 1})
                self._writer.execute(_CREATE)
            self._writer.execute("DELETE FROM run")
            self._writer.execute(_INSERT, to_row(record))
            self._writer.execute(f"COPY run TO '{_quoted(temporary)}' (FORMAT parquet)")
        _rename(temporary, path)
        return path

    def close(self) -> None:
        """Let go of what writing needs; the store opens it again when it is needed."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def load(self) -> list[RunRecord]:
        """Return every run, ordered by task, optimizer, schedule, rate and seed."""
        paths = sorted(self._runs.glob("*.parquet"))
        records = self._read_together(paths)
        if records is None:
            records = [record for path in paths if (record := self._read_one(path))]
        key = ("task", "optimizer", "schedule", "base_lr", "seed")
        return sorted(records, key=lambda record: [getattr(record, name) for name in key])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the view `runs`, one row a run.

        >>> import tempfile
        >>> Store(tempfile.mkdtemp()).query("SELECT 1 + 1")
        [(2,)]
        """
        with duckdb.connect() as connection:
            if any(self._runs.glob("*.parquet")):
                files = _quoted(self._runs / "*.parquet")
                connection.execute(f"CREATE VIEW runs AS FROM read_parquet('{files}')")
            else:
                connection.execute(_CREATE.replace("TEMP TABLE run", "TABLE runs"))
            return connection.execute(sql).fetchall()

    def write_sweep(self, sweep: dict[str, Any]) -> None:
        """Keep what was asked for: tasks, schedules, rates, seeds."""
        _write(self.folder / "sweep.json", json.dumps(sweep, indent=2).encode())

    def read_sweep(self) -> dict[str, Any] | None:
        """Return what `write_sweep` kept, or None."""
        path = self.folder / "sweep.json"
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except ValueError as error:
            raise StoreError(f"{path} is damaged ({error}): remove it and run again") from error

    def _read_together(self, paths: list[Path]) -> list[RunRecord] | None:
        """Read all files in one query; None if any of them is not in order."""
        if not paths:
            return []
        try:
            rows = _rows(self._runs / "*.parquet")
            if {row["schema_version"] for row in rows} != {SCHEMA_VERSION}:
                return None
            records = [from_row(row) for row in rows]
        except (duckdb.Error, ValueError, KeyError):
            return None
        same = {record.run_id for record in records} == {path.stem for path in paths}
        return records if same and len(records) == len(paths) else None

    def _read_one(self, path: Path) -> RunRecord | None:
        """Read one file, or set it aside with the reason."""
        try:
            rows = _rows(path)
            version = rows[0].get("schema_version") if rows else None
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise StoreError(
                    f"{path} is of version {version}, this ratewise reads {SCHEMA_VERSION}: "
                    "upgrade ratewise"
                )
            if len(rows) != 1:
                raise ValueError(f"holds {len(rows)} rows, not one")
            record = from_row(rows[0])
            if record.run_id != path.stem:
                raise ValueError(f"holds run {record.run_id}: it was renamed")
        except (duckdb.Error, ValueError) as error:
            self._put_aside(path, str(error).splitlines()[0])
            return None
        return record

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
        warnings.warn(f"{path} is not a whole run ({reason}): moved to {target}", stacklevel=4)


def _rows(files: Path) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        cursor = connection.execute(f"FROM read_parquet('{_quoted(files)}', union_by_name = true)")
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _version(marker: Path) -> int:
    try:
        return int(json.loads(marker.read_text())["schema_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{marker} is damaged: choose another folder (--out)") from error


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    temporary.write_bytes(content)
    _rename(temporary, path)


def _rename(temporary: Path, path: Path) -> None:
    """Sync the file, then give it its name; sync the folder so that the name lasts."""
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    with contextlib.suppress(OSError):  # not every file system lets a folder be opened
        handle = os.open(path.parent, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
