"""What a study keeps: `results/STUDY.parquet`, a row a run, from which it and its page go on."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb

from ratewise.compare.training import one_thread
from ratewise.data import locate
from ratewise.errors import StoreError
from ratewise.files import writing
from ratewise.pool import Done, Where, Work, drain, workers

#: Where the results are that are committed.
FOLDER = Path(__file__).parent / "results"
_Unit = TypeVar("_Unit", bound=Hashable)


class Result(NamedTuple):
    """What is kept of one run."""

    task: str
    method: str
    setting: str  #: whatever else tells the run from others of its unit
    seed: int
    role: str  #: "simulated", "tuned", "judged", ...
    steps: int  #: optimizer steps
    losses: list[float]  #: at the marks that the study's plan names
    seconds: float  #: of its training
    versions: str  #: JSON: of the packages that made it


_TYPES = {
    "unit": "VARCHAR",
    "task": "VARCHAR",
    "method": "VARCHAR",
    "setting": "VARCHAR",
    "seed": "BIGINT",
    "role": "VARCHAR",
    "steps": "BIGINT",
    "losses": "DOUBLE[]",
    "seconds": "DOUBLE",
    "versions": "VARCHAR",
}
#: One parameter a column; up to DuckDB 1.5 a NaN within a parameter arrives as NULL.
_COLUMNS = "SELECT * REPLACE ([coalesce(x, 'nan'::DOUBLE) FOR x IN losses] AS losses) FROM (SELECT "
_COLUMNS += ", ".join(f"unnest(CAST(? AS {kind}[])) AS {name}" for name, kind in _TYPES.items())


class Results:
    """The runs of a study in one file; they come, and are there or not, a unit at a time.

    Args:
        path: the Parquet file; there need not be one yet.

    Raises:
        StoreError: the file is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._units: dict[str, list[Result]] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        sql = f"SELECT {', '.join(_TYPES)} FROM read_parquet(?)"
        try:
            with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
                # DuckDB opens a path more than once, and a study may replace the file in between
                copy = shutil.copy(self.path, folder)
                rows = connection.execute(sql, [str(copy)]).fetchall()
        except (duckdb.Error, OSError) as error:
            reason = str(error).splitlines()[0]
            fix = "move it away, or take back the one that is committed"
            raise StoreError(f"{self.path} holds no results ({reason}): {fix}") from error
        for unit, *values in rows:
            self._units.setdefault(unit, []).append(Result(*values))

    def __contains__(self, unit: str) -> bool:
        return unit in self._units

    def of(self, unit: str) -> list[Result]:
        """Return a unit's runs, in the order that they were given in.

        Raises:
            StoreError: the unit is not there.
        """
        if unit not in self._units:
            raise StoreError(
                f"{self.path} lacks runs (unit {unit}): run the study without"
                " --page-only; it makes what is missing"
            )
        return self._units[unit]

    def add(self, unit: str, runs: Sequence[Result]) -> None:
        """Keep a unit's runs, at once: the file is there whole, or as it was."""
        self._units[unit] = list(runs)
        rows = [(name, *run) for name, found in self._units.items() for run in found]
        columns = [list(column) for column in zip(*rows, strict=True)]
        with (
            writing.whole(self.path) as temporary,
            duckdb.connect(config={"threads": 1}) as connection,
        ):
            target = str(temporary).replace("'", "''")
            kind = "FORMAT parquet, COMPRESSION zstd"
            connection.execute(f"COPY ({_COLUMNS})) TO '{target}' ({kind})", columns)

    def complete(
        self,
        wanted: Mapping[str, _Unit],
        work: Callable[[_Unit], list[Result]],
        *,
        where: Where,
        label: str,
        progress: bool = True,
    ) -> None:
        """Make the units that are not there yet; a kill loses those that are in flight.

        Args:
            wanted: by what determines a unit, as a digest, the unit; its text says which it is.
            work: makes a unit's runs; a function of a module, or a partial of one.
            where: the backend; each worker uses one thread.
            label: what the bar counts.
            progress: show a bar.

        Raises:
            RunFailed: units raised an error; all others are finished and kept.
        """
        beside = self.path.with_suffix(".units")  # workers leave a file a unit there
        self._gather(beside)
        todo = [(work, name, unit) for name, unit in wanted.items() if name not in self]
        how = Work(
            _make,
            partial(_data_at, os.environ.get(locate.VARIABLE)),
            keep=partial(_left, beside),
            name=_name,
        )
        with one_thread():
            try:
                with workers(how, where, len(todo)) as found:
                    ended = self._gathered(found.each(todo), beside)
                    drain(
                        ended,
                        len(todo),
                        lambda: label + found.places(),
                        show=progress,
                        what="units",
                    )
            finally:  # not sooner: a worker that is about to write needs the folder
                with contextlib.suppress(OSError):  # there is none, or something lies there
                    beside.rmdir()

    def _gathered(self, done: Iterator[Done], beside: Path) -> Iterator[Done]:
        for one in done:
            self._gather(beside)
            yield one

    def _gather(self, beside: Path) -> None:
        """Take in the units that lie beside the file, those that a kill left there, too."""
        for path in sorted(beside.glob("*.parquet")):
            for unit, runs in Results(path)._units.items():
                self.add(unit, runs)
            path.unlink()


@contextlib.contextmanager
def _data_at(folder: str | None) -> Iterator[None]:
    """Let a worker on another machine look for data where this one does, unless it knows better."""
    if folder is not None:
        os.environ.setdefault(locate.VARIABLE, folder)
    yield


@contextlib.contextmanager
def _left(beside: Path) -> Iterator[Callable[[Sequence[tuple[str, list[Result]]]], None]]:
    """Leave units beside the results, a file each."""

    def keep(made: Sequence[tuple[str, list[Result]]]) -> None:
        for name, runs in made:
            Results(beside / f"{name}.parquet").add(name, runs)

    yield keep


def _make(held: None, item: tuple[Callable[[Any], list[Result]], str, Any]) -> Any:
    """Make a unit's runs."""
    work, name, unit = item
    return name, work(unit)


def _name(item: tuple[Any, str, Any]) -> str:
    return str(item[2])
