"""Parquet files of runs: how they are written, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from ratewise.errors import StoreError
from ratewise.runs.schema import (
    ADDED,
    BATCH,
    SCHEMA_VERSION,
    UNITS,
    RunRecord,
    batch_id,
    before,
    from_row,
    to_row,
)


def _kept(name: str, kind: str) -> str:
    """Return the column in SQL; up to DuckDB 1.5 a NaN within a parameter arrives as NULL."""
    if kind == "DOUBLE":
        return f"coalesce({name}, 'nan'::DOUBLE) AS {name}"
    if kind == "DOUBLE[]":
        return f"[coalesce(x, 'nan'::DOUBLE) FOR x IN {name}] AS {name}"
    return name


# One parameter a column is several times as fast as one parameter a value.
_ROWS = "SELECT {} FROM (SELECT {})".format(
    ", ".join(_kept(name, kind) for name, (kind, _) in UNITS.items()),
    ", ".join(f"unnest(CAST(? AS {kind}[])) AS {name}" for name, (kind, _) in UNITS.items()),
)
# A dictionary of a column's values takes 0.0 for -0.0, and one NaN for another; 1.1 has none.
_PLAIN = "" if duckdb.__version__.startswith("1.1.") else ", DICTIONARY_SIZE_LIMIT 0"
_NONE_YET = "CREATE TEMP TABLE none_yet ({}, filename VARCHAR)".format(
    ", ".join(f"{name} {kind}" for name, (kind, _) in UNITS.items())
)
_READ = "read_parquet([{}], union_by_name = true, filename = true)"
# A run that lies in several files is there once: its own file comes before a batch's. What is in
# another file than its own is no run; batches have been checked before.
_VIEW = """
    CREATE TEMP VIEW runs AS
    SELECT * EXCLUDE (filename, batch) REPLACE ({added})
    FROM (
        SELECT *, starts_with(parse_filename(filename), '{prefix}') AS batch
        FROM (FROM none_yet {files})
    )
    WHERE batch OR parse_filename(filename) = run_id || '.parquet'
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY batch, filename) = 1
"""


def is_batch(path: Path) -> bool:
    """Return whether the file is named as one that holds several runs."""
    return path.name.startswith(BATCH)


def order(path: Path) -> tuple[bool, str]:
    """Return the sort key of files: of a run that lies in several, the first is taken."""
    return is_batch(path), path.name


def write(connection: duckdb.DuckDBPyConnection, records: Sequence[RunRecord], path: Path) -> None:
    """Write the runs to a file, every number to the bit (one NaN for all up to DuckDB 1.5).

    Raises:
        OSError: the disk is full, or the folder is read-only.
    """
    columns = [list(column) for column in zip(*map(to_row, records), strict=True)]
    target = _quoted(str(path))
    try:
        connection.execute(f"COPY ({_ROWS}) TO '{target}' (FORMAT parquet{_PLAIN})", columns)
    except duckdb.IOException as error:
        raise OSError(str(error).splitlines()[0]) from error


def read(paths: Sequence[Path]) -> dict[str, list[RunRecord]]:
    """Return each file's runs by its name; all files lie in one folder and are read together.

    Raises:
        StoreError: a file is of a newer version.
        ValueError: a file's content is not what its name says.
        duckdb.Error: a file cannot be read.
    """
    found = _rows(paths) if paths else {}
    return {path.name: _checked(path, found.get(path.name, [])) for path in paths}


def _checked(path: Path, rows: list[dict[str, Any]]) -> list[RunRecord]:
    """Return a file's runs, or raise for the whole file."""
    for row in rows:
        version = row.get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise StoreError(
                f"{path} is of version {version}, this ratewise reads {SCHEMA_VERSION}: "
                "upgrade ratewise"
            )
    if not rows or (len(rows) > 1 and not is_batch(path)):
        raise ValueError(f"holds {len(rows)} rows, not one")
    records = [from_row(row) for row in rows]
    ids = {record.run_id for record in records}
    if not is_batch(path) and ids != {path.stem}:
        raise ValueError(f"holds run {records[0].run_id}: it was renamed")
    if is_batch(path) and (len(ids) < len(rows) or batch_id(ids) != path.stem):
        raise ValueError(f"holds {len(rows)} runs that are not those of its name")
    return records


def batch_ids(paths: Sequence[Path]) -> dict[str, frozenset[str]]:
    """Return the ids in each batch file, by its name; what is no batch is left out."""
    try:
        found = _rows(paths, "run_id, filename") if paths else {}
    except (duckdb.Error, ValueError):  # one of them is damaged
        if len(paths) == 1:
            return {}
        return {name: ids for path in paths for name, ids in batch_ids([path]).items()}
    held = {
        path: frozenset(str(row["run_id"]) for row in found.get(path.name, ())) for path in paths
    }
    return {path.stem: ids for path, ids in held.items() if ids and batch_id(ids) == path.stem}


def connected(**config: Any) -> duckdb.DuckDBPyConnection:
    """Return a connection that fetches and loads no extension, whatever a file asks for."""
    alone = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    return duckdb.connect(config={**alone, **config})


def query(paths: Sequence[Path], sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query over the view `runs`, one row a run."""
    with connected() as connection:
        connection.execute(_NONE_YET)
        files = f"UNION ALL BY NAME FROM {_READ.format(_listed(paths))}" if paths else ""
        added = ", ".join(f"coalesce({name}, {before(name)!r}) AS {name}" for name in ADDED)
        connection.execute(_VIEW.format(added=added, files=files, prefix=BATCH))
        return connection.execute(sql).fetchall()


def _rows(paths: Sequence[Path], columns: str = "*") -> dict[str, list[dict[str, Any]]]:
    """Return the files' rows by the files' names; nothing is checked."""
    found: dict[str, list[dict[str, Any]]] = {}
    with connected() as connection:
        cursor = connection.execute(f"SELECT {columns} FROM {_READ.format(_listed(paths))}")
        try:
            names = [column[0] for column in cursor.description or []]
            rows = cursor.fetchall()
        except RuntimeError as error:  # of DuckDB's binding: bytes that are no UTF-8
            raise ValueError(f"a name or a value in it is no text ({error})") from error
        for values in rows:
            row = dict(zip(names, values, strict=True))
            found.setdefault(Path(row["filename"]).name, []).append(row)
    return found


def _listed(paths: Iterable[Path]) -> str:
    """Return the paths in SQL, one by one: a folder may bear a sign that patterns are made of."""
    return ", ".join(f"'{_quoted(str(path))}'" for path in paths)


def _quoted(text: str) -> str:
    return text.replace("'", "''")
