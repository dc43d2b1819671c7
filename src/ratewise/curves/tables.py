"""Logs that are tables: CSV (Lightning's, Weights & Biases', anybody's) and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import duckdb

from ratewise.curves.log import Log, from_columns
from ratewise.errors import CorruptData
from ratewise.files import contents
from ratewise.runs import parquet

#: Bytes of a log, and columns of one; both far beyond what a training logs.
MOST_BYTES, MOST_COLUMNS = 1 << 29, 10_000
#: How Weights & Biases names a column that it exports from a chart: "run - metric".
_SEPARATOR = " - "
_BOUNDS = ("__MIN", "__MAX")


def read_csv(path: Path, wanted: Mapping[str, str] | None = None) -> list[Log]:
    """Return the log of a CSV file, or several where a column bears the name of its run.

    Lightning's `metrics.csv` has a row for each call of `log`, most cells of which are empty. A
    chart that was exported from Weights & Biases has a column "run - metric" for each run.

    Raises:
        CorruptData: no text in UTF-8, no header, or no column of steps or losses.
    """
    contents.contents(path, MOST_BYTES)
    text = contents.decoded(path)
    header, *rows = cells_of(path, text)
    if len(header) > MOST_COLUMNS or len(set(header)) < len(header):
        raise CorruptData(f"{path} has {len(header)} columns, some of one name, or too many")
    said = []
    if rows and not text.endswith(("\n", "\r")) and _cut(header, rows):
        rows.pop()
        said.append("the last line, half-written")
    wrong = sum(len(row) != len(header) for row in rows)
    if wrong:
        said.append(f"{wrong} lines with another number of cells than the header")
        rows = [row for row in rows if len(row) == len(header)]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    logs = []
    for run, names in _by_run(header).items():
        cells = partial(_column, columns, names)
        log = from_columns(run or path.stem, names, cells, wanted)
        log.left_out = said + log.left_out
        logs.append(log)
    return logs


def cells_of(path: Path, text: str) -> list[list[str]]:
    """Return the rows of a CSV file that are not empty, one at least.

    Args:
        path: of the file, for messages.
        text: that it holds.

    Raises:
        CorruptData: it is no CSV, or holds nothing.
    """
    if "\0" in text:
        raise CorruptData(f"{path} holds bytes 0: it is no CSV, or was cut by a crash")
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise CorruptData(f"{path} is no CSV ({contents.shown(error)})") from error
    if not rows:
        raise CorruptData(f"{path} is empty")
    return rows


def _column(
    columns: Mapping[str, Sequence[str]], names: Mapping[str, str], short: str
) -> Sequence[str]:
    """Return a column by its short name."""
    return columns.get(names[short], ())


def _cut(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the last line looks as if its end were missing."""
    shortest = min((len(row[-1]) for row in rows[:-1]), default=0)
    return len(rows[-1]) < len(header) or len(rows[-1][-1]) < shortest


def _by_run(header: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return run -> its columns by their short names; one run of no name where none is named."""
    runs: dict[str, dict[str, str]] = {}
    shared = {}
    for name in header:
        run, separator, metric = name.rpartition(_SEPARATOR)
        if not separator:
            shared[name] = name
        elif not metric.endswith(_BOUNDS) and metric not in ("_step", "_runtime", "_timestamp"):
            runs.setdefault(run, {})[metric] = name
    return {run: {**shared, **names} for run, names in runs.items()} or {"": shared}


def read_parquet(path: Path, wanted: Mapping[str, str] | None = None) -> list[Log]:
    """Return the log of a Parquet file with a column for each number.

    Raises:
        CorruptData: no Parquet, or no column of steps or losses.
    """
    contents.check_regular(path)
    quoted = str(path).replace("'", "''")
    try:
        with parquet.connected(threads=1) as connection:
            cursor = connection.execute(f"SELECT * FROM read_parquet(['{quoted}'])")
            names = [column[0] for column in cursor.description or []]
            rows = cursor.fetchall()
    except (duckdb.Error, RuntimeError) as error:
        raise CorruptData(f"{path} is no Parquet file ({contents.shown(error)})") from error
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
    return [from_columns(path.stem, names, lambda one: columns.get(one, ()), wanted)]
