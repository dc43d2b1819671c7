"""Files of version 1 are read for ever; what is newer or of no version is not guessed at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from tests.compare.records import record

from ratewise.runs import RunRecord, Store
from ratewise.runs.schema import ADDED, JSON_COLUMNS, SCHEMA_VERSION, UNITS, from_row, to_row

#: The columns of version 1, as they were; never to be changed.
VERSION_1 = """
    run_id VARCHAR, role VARCHAR, task VARCHAR, preset VARCHAR, optimizer VARCHAR,
    schedule VARCHAR, base_lr DOUBLE, seed BIGINT, steps BIGINT, config VARCHAR, status VARCHAR,
    diverged_at BIGINT, metric_name VARCHAR, metric_mode VARCHAR, train_step BIGINT[],
    train_loss DOUBLE[], lr DOUBLE[], eval_step BIGINT[], validation_loss DOUBLE[],
    test_step BIGINT[], test_loss DOUBLE[], test_metric DOUBLE[], train_seconds DOUBLE,
    eval_seconds DOUBLE, started_at VARCHAR, versions VARCHAR, machine VARCHAR,
    schema_version BIGINT
"""
OLD, NEW = record(seed=1), replace(record(seed=2), grad_norm=[1.5] * 10, seen_loss=[2.5] * 10)


def write_version_1(folder: Path, run: RunRecord) -> Path:
    """Write a run as version 1 did, without a line of the code under test."""
    path = folder / "runs" / f"{run.run_id}.parquet"
    names = [column.split()[0] for column in VERSION_1.split(",")]
    values = {"schema_version": 1, **vars(run)}
    for name in JSON_COLUMNS:
        values[name] = json.dumps(values[name], sort_keys=True, separators=(",", ":"))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE run ({VERSION_1})")
        marks = ", ".join("?" * len(names))
        connection.execute(f"INSERT INTO run VALUES ({marks})", [values[name] for name in names])
        connection.execute(f"COPY run TO '{path}' (FORMAT parquet)")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store that version 1 made, with one run."""
    folder = tmp_path / "old"
    (folder / "runs").mkdir(parents=True)
    (folder / "ratewise-store.json").write_text('{"schema_version": 1}')
    write_version_1(folder, OLD)
    return folder


def test_a_store_of_version_1_is_read_and_its_marker_raised(folder: Path):
    store = Store(folder)
    assert store.load() == [OLD]
    assert (OLD.seen_loss, OLD.grad_norm, OLD.update_ratio) == ([], [], [])
    assert (OLD.batch_size, OLD.parameters, OLD.passes) == (0, 0, 0.0)
    sql = "SELECT batch_size, parameters, passes, len(update_ratio) FROM runs"
    assert store.query(sql) == [(0, 0, 0.0, 0)]
    assert OLD.run_id in store
    assert not store.set_aside
    marker = json.loads((folder / "ratewise-store.json").read_text())
    assert marker == {"schema_version": SCHEMA_VERSION}
    assert Store(folder).load() == [OLD]


@pytest.mark.parametrize("batch", [False, True])
def test_both_versions_in_one_store(folder: Path, batch: bool):
    sql = "SELECT seed, len(grad_norm), len(seen_loss), update_ratio FROM runs ORDER BY seed"
    store = Store(folder)
    assert store.query(sql) == [(1, 0, 0, [])]
    if batch:
        store.add_all([NEW, record(seed=3)])
    else:
        store.add(NEW)
        store.add(record(seed=3))
    assert store.load() == [OLD, NEW, record(seed=3)]
    assert store.query(sql) == [(1, 0, 0, []), (2, 10, 10, []), (3, 0, 0, [])]
    assert store.run_ids() == {OLD.run_id, NEW.run_id, record(seed=3).run_id}
    store.add(OLD)
    assert store.load() == [OLD, NEW, record(seed=3)]
    assert not store.set_aside


def test_version_1_lacks_the_added_columns_alone(folder: Path):
    names = {column.split()[0] for column in VERSION_1.split(",")}
    assert set(UNITS) - names == set(ADDED)
    path = write_version_1(folder, OLD)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE it AS SELECT * EXCLUDE (lr) FROM read_parquet('{path}')")
        connection.execute(f"COPY it TO '{path}' (FORMAT parquet)")
    with pytest.warns(UserWarning, match="lacks a column, or has a damaged one: 'lr'"):
        assert Store(folder).load() == []


def test_a_file_of_version_2_has_no_counts(tmp_path: Path):
    known = replace(NEW, batch_size=8, parameters=9, passes=0.5)
    store = Store(tmp_path / "store")
    path = store.add(known)
    assert store.load() == [known]
    columns = [name for name, version in ADDED.items() if version > 2]
    assert columns == ["batch_size", "parameters", "passes"]
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE TABLE it AS SELECT * EXCLUDE ({', '.join(columns)}) "
            f"REPLACE (2 AS schema_version) FROM read_parquet('{path}')"
        )
        connection.execute(f"COPY it TO '{path}' (FORMAT parquet)")
    assert Store(store.folder).load() == [NEW]
    assert store.query("SELECT batch_size, passes, len(grad_norm) FROM runs") == [(0, 0.0, 10)]


@pytest.mark.parametrize("version", [0, -1, None, SCHEMA_VERSION + 1, "2"])
def test_a_row_of_no_known_version_is_refused(version):
    row = dict(zip(UNITS, to_row(NEW), strict=True))
    assert from_row(row) == NEW
    with pytest.raises(ValueError, match=f"is of version {version}, not of 1 to"):
        from_row({**row, "schema_version": version})


def test_the_identity_of_runs_has_not_changed():
    assert OLD.run_id == "efa7e5ded76332f9"
    assert record().run_id == "587574f0d3cdd3e9"
