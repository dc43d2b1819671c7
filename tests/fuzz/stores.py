"""Folders of runs that were damaged, forged or filled by others, read by the store and the report.

What is promised: an error has a name; what is no run is set aside and never deleted; every run
that nobody touched is there, as it was; a file that is no store's is left alone.
"""

from __future__ import annotations

import functools
import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from tests.compare.records import record, stored
from tests.fuzz.harness import Fault

from ratewise.compare import analysis, report
from ratewise.errors import RatewiseError
from ratewise.runs import Store

SCHEDULES = ("greedy", "cosine")
#: What a value in a JSON file is replaced by.
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, 1.5, math.nan, math.inf, "", "x", "\ud800", [], [[]], [1], {},
    {"x": 1}, [None], ["", ""],
)  # fmt: skip


def loss(task: str, optimizer: str, schedule: str, seed: int) -> float:
    """Return the final loss of a made-up run."""
    return 0.5 + 0.01 * seed / 1000 + (0.05 if schedule == "greedy" else 0.0)


@functools.cache
def _made() -> tuple[tempfile.TemporaryDirectory[str], dict[str, str]]:
    """Make a store once a process, and return it with its runs as texts."""
    folder = tempfile.TemporaryDirectory()
    store = stored(
        Store(Path(folder.name) / "store"), loss, schedules=SCHEDULES, seeds=2, tasks=["t"]
    )
    store.add_all([record(seed=seed, schedule="batch") for seed in range(3)])
    return folder, {run.run_id: repr(run) for run in store.load()}


def sound(folder: Path) -> tuple[Store, dict[str, str]]:
    """Return a copy of a store, and its runs as texts."""
    made, before = _made()
    shutil.copytree(Path(made.name) / "store", folder / "store")
    return Store(folder / "store"), before


def case(rng: np.random.Generator, folder: Path) -> str:
    """Damage a store in a few places, then read it."""
    store, before = sound(folder)
    touched: set[Path] = set()
    for _ in range(int(rng.integers(1, 4))):
        damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
        touched |= damage(rng, store.folder)
    return read(store.folder, before, touched)


def read(folder: Path, before: dict[str, str], touched: set[Path]) -> str:
    """Open, load, query and report; raise where a promise is broken."""
    counted = set(_files(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = "held"
        try:
            store = Store(folder)
            found = {run.run_id: repr(run) for run in store.load()}
            _compare(found, before, touched, store)
            _compare_ids(store.run_ids(), found)
            if store.query("SELECT count(*) FROM runs WHERE seed >= 0") < [(len(found),)]:
                raise Fault("a query meets fewer runs than there are")
            if store.set_aside:
                outcome = "held, some set aside"
            report.content(analysis.load(store))
        except RatewiseError as error:
            if "\n" in str(error):
                raise Fault(f"more than a line: {error}") from error
            outcome = f"refused {type(error).__name__}"
    if gone := len(counted) - len(_files(folder)):
        raise Fault(f"{gone} files are gone")
    return outcome


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]


MARKER = "ratewise-store.json"


def _compare(
    found: dict[str, str], before: dict[str, str], touched: set[Path], store: Store
) -> None:
    spoiled = {path.stem for path in touched}
    for run_id, text in before.items():
        whole = run_id not in spoiled and not (
            run_id in _IN_BATCH and any("batch" in name for name in spoiled)
        )
        if whole and found.get(run_id) != text:
            raise Fault(f"run {run_id}, which nobody touched, is {found.get(run_id)}")


def _compare_ids(ids: set[str], found: dict[str, str]) -> None:
    if lacking := found.keys() - ids:
        raise Fault(f"{len(lacking)} runs that load are not there")


_IN_BATCH = {record(seed=seed, schedule="batch").run_id for seed in range(3)}


def _run(rng: np.random.Generator, folder: Path) -> Path:
    paths = sorted((folder / "runs").glob("*.parquet"))
    return paths[int(rng.integers(len(paths)))]


def cut(rng: np.random.Generator, folder: Path) -> set[Path]:
    """Truncate a run's file."""
    path = _run(rng, folder)
    path.write_bytes(path.read_bytes()[: int(rng.integers(path.stat().st_size + 1))])
    return {path}


def flip(rng: np.random.Generator, folder: Path) -> set[Path]:
    """Change some bytes of a run's file."""
    path = _run(rng, folder)
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 9))):
        if content:
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return {path}


def retype(rng: np.random.Generator, folder: Path) -> set[Path]:
    """Give a column of a run another type, or other values, or take it away."""
    path = _run(rng, folder)
    with duckdb.connect() as connection:
        try:
            connection.execute(f"CREATE TABLE it AS FROM read_parquet('{path}')")
        except duckdb.Error:
            return {path}  # damaged before
        names = [row[0] for row in connection.execute("DESCRIBE it").fetchall()]
        name = names[int(rng.integers(len(names)))]
        values = ("NULL", "1", "-1", "'x'", "[1]", "['x']", "[NULL::DOUBLE]", "[]::DOUBLE[]",
                  "{'a': 1}", "TRUE", "1e300::DOUBLE", "'[' || repeat('[', 100000)",
                  "DATE '1970-01-01'",
                  "'\\xFF'::BLOB", "['nan'::DOUBLE]")  # fmt: skip
        value = values[int(rng.integers(len(values)))]
        what = f"* REPLACE ({value} AS {name})" if rng.random() < 0.8 else f"* EXCLUDE ({name})"
        connection.execute(f"COPY (SELECT {what} FROM it) TO '{path}' (FORMAT parquet)")
    return {path}


def mutate_sweep(rng: np.random.Generator, folder: Path) -> set[Path]:
    """Replace one value of the file that says what was asked for, or take it away."""
    _mutate(rng, folder / "sweep.json")
    return set()


def mutate_marker(rng: np.random.Generator, folder: Path) -> set[Path]:
    """Damage, empty or remove what makes the folder a store."""
    if rng.random() < 0.3:
        (folder / MARKER).unlink(missing_ok=True)
    else:
        _mutate(rng, folder / MARKER)
    return set()


def _mutate(rng: np.random.Generator, path: Path) -> None:
    kind = int(rng.integers(5))
    text = path.read_text(errors="replace") if path.exists() else "{}"
    if kind == 0:
        path.write_text(text[: int(rng.integers(len(text) + 1))])
    elif kind == 1:
        path.write_text(("[", '{"a":', "[{}")[int(rng.integers(3))] * 100_000)
    elif kind == 2:
        path.write_text(json.dumps(ODD[int(rng.integers(len(ODD)))]))
    else:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            return
        places = list(_places(content))
        if places:
            within, key = places[int(rng.integers(len(places)))]
            if kind == 3:
                del within[key]
            else:
                within[key] = ODD[int(rng.integers(len(ODD)))]
        path.write_text(json.dumps(content))


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Return every place in nested JSON as what holds it, and its key."""
    keys: list[Any] = []
    if isinstance(content, dict):
        keys = list(content)
    elif isinstance(content, list):
        keys = list(range(len(content)))
    return [(content, key) for key in keys] + [
        place for key in keys for place in _places(content[key])
    ]


def foreign(rng: np.random.Generator, folder: Path) -> set[Path]:
    """Put somebody else's file, or folder, where runs lie."""
    names = ("notes.txt", "x.parquet", ".tmp-mine", ".tmp-0-0-x", "batch-x.parquet", "ü'\".parquet")
    name = names[int(rng.integers(len(names)))]
    path = (folder / "runs" if rng.random() < 0.7 else folder) / name
    if path.exists():
        return set()
    if name.startswith(".tmp-0"):
        return set()
    if rng.random() < 0.3:
        path.mkdir()
    else:
        path.write_bytes(rng.bytes(int(rng.integers(40))))
    return {path}


def rename(rng: np.random.Generator, folder: Path) -> set[Path]:
    """Give a run's file the name of another run, or of none."""
    path = _run(rng, folder)
    target = _run(rng, folder) if rng.random() < 0.5 else path.with_name("0123456789abcdef.parquet")
    if target.exists():
        target.write_bytes(path.read_bytes())
    else:
        path.rename(target)
    return {path, target}


DAMAGES: tuple[Callable[[np.random.Generator, Path], set[Path]], ...] = (
    cut, flip, flip, retype, retype, mutate_sweep, mutate_sweep, mutate_marker, foreign, rename,
)  # fmt: skip


def _refused(folder: Path, name: str, text: str) -> None:
    store, before = sound(folder)
    (store.folder / name).write_text(text)
    if (outcome := read(store.folder, before, set())) != "refused StoreError":
        raise Fault(f"{name} is taken: {outcome}")


def _grid_lost(folder: Path) -> None:
    """A method whose grid is lost is not reported, and stops nothing."""
    store, before = sound(folder)
    lost = {run.run_id for run in store.load() if run.role == "grid" and run.schedule == "greedy"}
    for run_id in lost:
        store.path(run_id).write_bytes(b"")
    read(store.folder, before, {store.path(run_id) for run_id in lost})


def _forged(folder: Path, **changes: Any) -> None:
    """A run whose numbers are of another type is set aside."""
    store, before = sound(folder)
    path = sorted((store.folder / "runs").glob("*.parquet"))[0]
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE it AS FROM read_parquet('{path}')")
        changed = ", ".join(f"{value} AS {name}" for name, value in changes.items())
        connection.execute(
            f"COPY (SELECT * REPLACE ({changed}) FROM it) TO '{path}' (FORMAT parquet)"
        )
    read(store.folder, before, {path})
    if path.exists():
        raise Fault("a forged run is taken")


def _begun(folder: Path) -> None:
    """A folder in which a kill left nothing but a folder for runs is no store of another."""
    (folder / "store" / "runs").mkdir(parents=True)
    Store(folder / "store")


REGRESSIONS: dict[str, Callable[[Path], None]] = {
    "sweep.json holds a list": lambda folder: _refused(folder, "sweep.json", "[1]"),
    "sweep.json is nested deeply": lambda folder: _refused(folder, "sweep.json", "[" * 100_000),
    "sweep.json holds a plan of numbers": lambda folder: _refused(
        folder, "sweep.json", '{"plan": 3, "runs": []}'
    ),
    "sweep.json asks for nothing": lambda folder: _refused(
        folder, "sweep.json", '{"plan": {}, "runs": []}'
    ),
    "a marker that is nested deeply": lambda folder: _refused(folder, MARKER, "[" * 100_000),
    "a folder for runs without a marker": _begun,
    "a method whose grid was lost": _grid_lost,
    "a rate that is a text": lambda folder: _forged(folder, base_lr="'x'"),
    "losses that are texts": lambda folder: _forged(folder, test_loss="['x', 'x', 'x', 'x']"),
    "versions that are a list": lambda folder: _forged(folder, versions="'[]'"),
    "fewer losses than steps": lambda folder: _forged(folder, validation_loss="[1.0::DOUBLE]"),
}
