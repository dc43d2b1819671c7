"""A batch's file is there whole or not at all: damage, kills and renaming never pass for runs."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from tests.compare.records import record

from ratewise.errors import CannotWrite, StoreError
from ratewise.runs import RunRecord, Store, parquet
from ratewise.runs.schema import SCHEMA_VERSION

ROOT = Path(__file__).parents[2]
FIRST, SECOND = ([record(seed=seed) for seed in seeds] for seeds in (range(4), range(4, 8)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs-of-mine")


def ids(runs: list[RunRecord]) -> list[str]:
    return [run.run_id for run in runs]


def rewrite(path: Path, sql: str, content: Path | None = None) -> None:
    """Replace a file by a query over the table `it`, its own or another file's content."""
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE it AS FROM read_parquet('{content or path}')")
        connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garbled(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) - 12) + content[-8:])


def no_text(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"metric_mode", b"metric_\xffode", 1))


SPOILS: dict[str, Callable[[Path], object]] = {
    "half": half,
    "without its end": without_its_end,
    "garbled": garbled,
    "a name that is no text": no_text,
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: rewrite(path, "SELECT 1 AS x"),
    "foreign, with ids": lambda path: rewrite(path, "SELECT run_id FROM it"),
    "no rows": lambda path: rewrite(path, "FROM it WHERE seed < 0"),
    "a row less": lambda path: rewrite(path, "FROM it WHERE seed <> 6"),
    "a row twice": lambda path: rewrite(path, "FROM it UNION ALL (FROM it WHERE seed = 6)"),
    "a row of another run": lambda path: rewrite(
        path, "SELECT * REPLACE (replace(config, '\"seed\":6', '\"seed\":9') AS config) FROM it"
    ),
    "a hole": lambda path: rewrite(
        path, "SELECT * REPLACE (CASE WHEN seed <> 6 THEN lr END AS lr) FROM it"
    ),
    "a column less": lambda path: rewrite(path, "SELECT * EXCLUDE (grad_norm) FROM it"),
    "no version": lambda path: rewrite(path, "SELECT * EXCLUDE (schema_version) FROM it"),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_damaged_batch_is_set_aside_whole_while_the_rest_loads(store: Store, spoil):
    alone = record(seed=100)
    store.add(alone)
    store.add_all(FIRST)
    path = store.add_all(SECOND)
    spoil(path)
    Store(store.folder).run_ids()  # never stumbles, whatever lies there
    with pytest.warns(UserWarning, match=f"{path.name} is not a whole batch"):
        assert store.load() == [*FIRST, alone]
    (moved, reason), *others = store.set_aside
    assert not others
    assert moved == store.folder / "set-aside" / path.name
    assert moved.exists()
    assert reason
    assert not store.has_all(ids(SECOND))
    assert store.run_ids() == {alone.run_id, *ids(FIRST)}
    store.add_all(SECOND)
    assert store.load() == [*FIRST, *SECOND, alone]


@pytest.mark.parametrize("spoil", ["half", "empty", "foreign", "no rows", "a row less"])
def test_a_query_meets_no_part_of_a_damaged_batch(store: Store, spoil: str):
    alone = record(seed=100)
    foreign = store.add(alone)
    store.add_all(FIRST)
    SPOILS[spoil](store.add_all(SECOND))
    rewrite(foreign.with_name("foreign.parquet"), "SELECT 1 AS x", content=foreign)
    again = Store(store.folder)
    with pytest.warns(UserWarning, match="is not a whole batch"):
        assert again.query("SELECT count(*), max(seed) FROM runs") == [(5, 100)]
    assert len(again.set_aside) == 1


@pytest.mark.parametrize("name", ["batch-0123456789abcdef", SECOND[0].run_id])
def test_a_renamed_batch_is_set_aside(store: Store, name: str):
    store.add_all(FIRST)
    path = store.add_all(SECOND)
    path = path.rename(path.with_name(f"{name}.parquet"))
    assert SECOND[1].run_id not in Store(store.folder)
    with pytest.warns(UserWarning, match=f"{name}.parquet is not a whole"):
        assert store.load() == FIRST


def test_a_newer_batch_is_refused_not_set_aside(store: Store):
    path = store.add_all(FIRST)
    rewrite(path, f"SELECT * REPLACE ({SCHEMA_VERSION + 1} AS schema_version) FROM it")
    with pytest.raises(StoreError, match=f"{path.name} is of version {SCHEMA_VERSION + 1}"):
        store.load()
    assert path.exists()


def unfinished(store: Store) -> list[str]:
    return [name for name in os.listdir(store.folder / "runs") if name.startswith(".tmp-")]


def assert_only_first(store: Store) -> None:
    assert store.load() == FIRST
    assert store.run_ids() == set(ids(FIRST))
    assert store.query("SELECT count(*) FROM runs") == [(len(FIRST),)]
    assert not store.has_all(ids(SECOND))
    assert not store.set_aside


def test_a_writer_that_fails_before_the_rename_leaves_no_run(store: Store, monkeypatch):
    def fail(temporary: Path, path: Path) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    store.add_all(FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(CannotWrite, match=r"batch-\w+\.parquet cannot be written \(no space"):
            store.add_all(SECOND)
    assert not unfinished(store)
    assert_only_first(store)
    store.add_all(SECOND)
    assert store.load() == FIRST + SECOND


KILLED = """
import os, sys
from tests.runs.test_damage import SECOND, Store
os.replace = lambda temporary, path: os._exit(9)
Store(sys.argv[1]).add_all(SECOND)
"""


def test_a_writer_killed_before_the_rename_leaves_no_run_and_is_cleaned_up(store: Store):
    store.add_all(FIRST)
    done = subprocess.run([sys.executable, "-c", KILLED, store.folder], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert len(unfinished(store)) == 1
    assert_only_first(store)
    again = Store(store.folder)
    assert not unfinished(store)
    assert_only_first(again)


def test_what_duckdb_s_binding_cannot_return_is_damage(store: Store, monkeypatch):
    path = store.add_all(FIRST)

    class Cursor:
        @property
        def description(self) -> None:
            raise RuntimeError("nanobind::str(): conversion error!")

    class Connection(contextlib.nullcontext):
        def execute(self, sql: str) -> Cursor:
            return Cursor()

        def __enter__(self) -> Connection:
            return self

    monkeypatch.setattr(parquet, "connected", Connection)
    assert store.load() == []
    monkeypatch.undo()
    assert [aside.name for aside in (store.folder / "set-aside").iterdir()] == [path.name]
