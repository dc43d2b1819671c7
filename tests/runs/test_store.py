"""The store: what is in it is whole, what is not a run is set aside, nothing is trusted blindly."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from tests.compare.records import record

from ratewise.errors import StoreError
from ratewise.runs import Store
from ratewise.runs.schema import SCHEMA_VERSION, UNITS, from_row, make_run_id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs-of-mine")


def test_what_goes_in_comes_out(store: Store):
    runs = [record(seed=seed, loss=loss) for seed, loss in enumerate((0.5, math.inf))]
    for run in runs:
        path = store.add(run)
        assert path.name == f"{run.run_id}.parquet"
        assert run.run_id in store
    assert store.load() == runs
    assert Store(store.folder).load() == runs
    assert "0" * 16 not in store


def test_order_is_task_optimizer_schedule_rate_seed(store: Store):
    for task, rate, seed in (("b", 0.1, 0), ("a", 0.1, 1), ("a", 0.1, 0), ("a", 0.01, 5)):
        store.add(record(task=task, base_lr=rate, seed=seed))
    found = [(run.task, run.base_lr, run.seed) for run in store.load()]
    assert found == [("a", 0.01, 5), ("a", 0.1, 0), ("a", 0.1, 1), ("b", 0.1, 0)]


def test_adding_twice_keeps_one(store: Store):
    store.add(record(loss=0.5))
    store.add(record(loss=0.5))
    assert len(store.load()) == 1


def test_query_with_sql(store: Store):
    assert store.query("SELECT count(*) FROM runs") == [(0,)]
    for seed in range(3):
        store.add(record(seed=seed, loss=0.5 + seed))
    sql = "SELECT schedule, avg(test_loss[-1]) FROM runs GROUP BY schedule"
    assert store.query(sql) == [("cosine", 1.5)]


def test_every_column_has_a_unit_and_a_version(store: Store):
    path = store.add(record())
    columns = duckdb.sql(f"DESCRIBE FROM read_parquet('{path}')").fetchall()
    assert [name for name, *_ in columns] == list(UNITS)
    assert all(unit for _, unit in UNITS.values())
    assert store.query("SELECT DISTINCT schema_version FROM runs") == [(SCHEMA_VERSION,)]


def spoil_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_foreign(path: Path) -> None:
    duckdb.sql(f"COPY (SELECT 1 AS x) TO '{path}' (FORMAT parquet)")


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_renamed(path: Path) -> None:
    shutil.copy(path.with_name(f"{record(seed=0).run_id}.parquet"), path)


@pytest.mark.parametrize("spoil", [spoil_half, spoil_foreign, spoil_empty, spoil_renamed])
def test_a_damaged_file_is_named_and_set_aside(store: Store, spoil):
    good, bad = record(seed=0), record(seed=1)
    store.add(good)
    path = store.add(bad)
    spoil(path)
    with pytest.warns(UserWarning, match=f"{bad.run_id}.parquet is not a whole run"):
        assert store.load() == [good]
    assert bad.run_id not in store
    moved, reason = store.set_aside[0]
    assert moved.parent.name == "set-aside"
    assert moved.exists()
    assert reason
    store.add(bad)
    assert len(store.load()) == 2


def test_set_aside_never_overwrites(store: Store):
    for _ in range(2):
        spoil_half(store.add(record()))
        with pytest.warns(UserWarning, match="moved to"):
            store.load()
    assert len(list((store.folder / "set-aside").iterdir())) == 2


def test_a_changed_configuration_is_noticed(store: Store):
    run = record()
    forged = replace(run, config={**run.config, "lr": 9.0})
    store.add(forged)
    with pytest.warns(UserWarning, match="not the digest"):
        assert store.load() == []


def test_a_newer_schema_is_refused_not_guessed(store: Store):
    path = store.add(record())
    newer = path.with_name("x.parquet")
    sql = f"SELECT * REPLACE ({SCHEMA_VERSION + 1} AS schema_version) FROM read_parquet('{path}')"
    duckdb.sql(f"COPY ({sql}) TO '{newer}' (FORMAT parquet)")
    os.replace(newer, path)
    with pytest.raises(StoreError, match="upgrade ratewise"):
        store.load()
    assert path.exists()
    marker = store.folder / "ratewise-store.json"
    marker.write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(StoreError, match=f"store of version {SCHEMA_VERSION + 1}"):
        Store(store.folder)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(StoreError, match=r"holds thesis.tex: choose another folder"):
        Store(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(StoreError, match="is a file"):
        Store(tmp_path / "thesis.tex")


def test_two_processes_that_begin_one_store_at_once_do_not_refuse_each_other(tmp_path, monkeypatch):
    folder = tmp_path / "fresh"
    folder.mkdir()
    look, looks = os.listdir, []

    def slow(path):  # the other process makes its store between this one's looks
        if not looks:
            looks.append(path)
            Store(folder).add(record())
        return look(path)

    monkeypatch.setattr(os, "listdir", slow)
    assert Store(folder).load() == [record()]
    assert looks


def test_what_a_kill_before_the_marker_left_is_no_store_of_another(tmp_path: Path):
    (tmp_path / "runs").mkdir()  # as up to 0.1, when the folder came first
    (tmp_path / ".tmp-999999999-1-ratewise-store").write_text("{half")
    assert Store(tmp_path).load() == []
    assert sorted(os.listdir(tmp_path)) == ["ratewise-store.json", "runs"]


def test_a_folder_of_runs_that_is_somebody_else_s_is_left_alone(tmp_path: Path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "marathon.txt").write_text("42.195")
    with pytest.raises(StoreError, match="it holds runs: choose another folder"):
        Store(tmp_path)
    (tmp_path / ".tmp-mine").write_text("mine")
    with pytest.raises(StoreError, match=r"it holds \.tmp-mine, runs"):
        Store(tmp_path)
    assert (tmp_path / ".tmp-mine").exists()


@pytest.mark.parametrize("text", ["[1]", "3", '"a"', "null", "{half", "[" * 100_000, "\xff"])
@pytest.mark.parametrize("name", ["sweep.json", "ratewise-store.json"])
def test_a_damaged_json_file_is_named(store: Store, name: str, text: str):
    store.add(record())
    (store.folder / name).write_text(text, encoding="latin-1")
    if (name, text) == ("sweep.json", "null"):
        assert Store(store.folder).read_sweep() is None
    else:
        with pytest.raises(StoreError, match=f"{name} is damaged"):
            Store(store.folder).read_sweep()
    (store.folder / "ratewise-store.json").write_text('{"schema_version": 2}')
    assert Store(store.folder).load() == [record()]


@pytest.mark.parametrize("version", [0, -1, True, 1.5, "2", None, [2]])
def test_a_marker_of_no_version_is_named(store: Store, version):
    marker = store.folder / "ratewise-store.json"
    marker.write_text(json.dumps({"schema_version": version}))
    with pytest.raises(StoreError, match="is damaged"):
        Store(store.folder)
    assert json.loads(marker.read_text()) == {"schema_version": version}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "below")


def test_temporary_files_of_the_dead_are_removed_and_never_read(store: Store):
    runs = store.folder / "runs"
    dead, alive = runs / ".tmp-999999999-1-abc", runs / f".tmp-{os.getpid()}-1-abc"
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")
    again = Store(store.folder)
    assert not dead.exists()
    assert alive.exists()
    assert again.load() == []


def test_sweep_is_kept_and_a_damaged_one_is_named(store: Store):
    assert store.read_sweep() is None
    store.write_sweep({"plan": {"tasks": ["a"]}, "runs": []})
    assert Store(store.folder).read_sweep() == {"plan": {"tasks": ["a"]}, "runs": []}
    (store.folder / "sweep.json").write_text("{half")
    with pytest.raises(StoreError, match="is damaged"):
        store.read_sweep()


def test_paths_with_quotes_work(tmp_path: Path):
    store = Store(tmp_path / "it's mine")
    store.add(record())
    assert len(store.load()) == 1


def test_identity_is_the_configuration_alone():
    assert make_run_id({"a": 1.0, "b": 2}) == make_run_id({"b": 2, "a": 1.0})
    assert make_run_id({"a": 1.0}) != make_run_id({"a": 1.1})
    with pytest.raises(ValueError, match="lacks a column"):
        from_row({"run_id": "x"})


@pytest.mark.parametrize("call", ["mkdir", "touch"])
def test_a_read_only_folder_is_named_with_what_it_needs(store: Store, monkeypatch, call: str):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    store.add(record())
    monkeypatch.setattr(Path, call, refuse)
    needs = "runs and reports are written there; allow it, or use a copy or another folder"
    with pytest.raises(StoreError, match=rf"cannot be written \(Read-only file system\): {needs}"):
        Store(store.folder)
