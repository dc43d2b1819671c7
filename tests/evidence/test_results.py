"""What a study keeps: whole after a kill, exact to the bit, small enough to be committed."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import duckdb
import pytest

from evidence import results
from evidence.results import Result, Results
from ratewise.errors import RunFailed, StoreError
from ratewise.pool import HERE, Where


def run(task: str, *losses: float) -> Result:
    return Result(task, "cosine", "lr 0.1", 3, "simulated", 200, list(losses), 0.5, '{"torch":"2"}')


def made(unit: str) -> list[Result]:
    if unit == "bad":
        raise ValueError("planted")
    return [run(unit, 0.1 + 0.2, math.inf), run(unit, 5e-324)]


def test_what_is_kept_comes_back_to_the_bit(tmp_path: Path):
    kept = Results(tmp_path / "new" / "study.parquet")
    kept.add("unit", [run("a", 0.1 + 0.2, math.inf, -math.inf), run("b", 5e-324, -0.0)])
    kept.add("other", [run("c")])
    again = Results(kept.path)
    assert again.of("unit") == kept.of("unit")
    assert math.copysign(1, again.of("unit")[1].losses[1]) == -1
    assert again.of("other") == [run("c")]
    kept.add("nan", [run("d", math.nan)])
    assert math.isnan(Results(kept.path).of("nan")[0].losses[0])
    assert [path.name for path in kept.path.parent.iterdir()] == ["study.parquet"]


def test_what_is_missing_is_an_error_that_says_what_to_do(tmp_path: Path):
    with pytest.raises(StoreError, match="run the study without --page-only"):
        Results(tmp_path / "absent.parquet").of("unit")


def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path):
    path = tmp_path / "study.parquet"
    path.write_text("dear")
    with pytest.raises(StoreError, match="holds no results"):
        Results(path)
    assert path.read_text() == "dear"


def test_a_file_is_read_as_it_was_when_a_study_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "study.parquet"
    Results(path).add("old", [run("a", 1.0)])

    class Between:
        """A connection that sees the file replaced each time that it is about to read."""

        def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
            self._connection = connection

        def __enter__(self) -> Between:
            return self

        def __exit__(self, *_: object) -> None:
            self._connection.close()

        def execute(self, sql: str, values: list[str]) -> duckdb.DuckDBPyConnection:
            path.write_bytes(b"another file, half of which was read before")
            return self._connection.execute(sql, values)

    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda: Between(connect()))
    assert Results(path).of("old") == [run("a", 1.0)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_what_is_missing_is_made_and_one_failure_loses_no_other(tmp_path: Path, jobs: int):
    path = tmp_path / "study.parquet"
    Results(path).add("a", [run("kept", 1.0)])
    wanted = {name: name for name in ("a", "bad", "b", "c")}
    with pytest.raises(RunFailed, match="bad: ValueError: planted"):
        Results(path).complete(wanted, made, where=Where(jobs=jobs), label="units", progress=False)
    assert [file.name for file in tmp_path.iterdir()] == ["study.parquet"]
    again = Results(path)
    assert again.of("a") == [run("kept", 1.0)]
    assert again.of("b") == made("b")
    assert "bad" not in again
    again.complete({"a": "a", "b": "b"}, partial(pytest.fail), where=HERE, label="", progress=False)


def test_the_folder_of_workers_stays_while_one_may_be_about_to_write(tmp_path: Path):
    beside = tmp_path / "study.units"
    Results(beside / "a.parquet").add("a", [run("a")])
    kept = Results(tmp_path / "study.parquet")
    kept._gather(beside)
    assert kept.of("a") == [run("a")]
    assert list(beside.iterdir()) == []


def test_what_is_committed_is_small_and_can_be_read():
    for path in results.FOLDER.glob("*.parquet"):
        assert path.stat().st_size <= 2_000_000, path.name
        Results(path)
