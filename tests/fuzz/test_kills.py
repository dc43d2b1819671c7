"""The slice of the kills that the suite runs; `python -m tests.fuzz.kills` runs a thousand."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.fuzz import kills
from tests.fuzz.harness import Fault

from ratewise.runs import Store


def test_ten_kills_lose_no_run():
    counts = kills.try_out(10, seed=0)
    assert counts["kills"] >= 10
    assert counts["runs, each there once with the same numbers"] == 10 * counts["comparisons"]


def test_a_run_that_is_lost_changed_or_unfinished_is_noticed(tmp_path: Path):
    folder = tmp_path / "out"
    kills.compare(folder, jobs=1, report=False)
    expected = kills.kept(folder)
    kills.check(folder, expected)
    first, *_ = expected
    changed = {**expected, first: {**expected[first], "test_loss": "[0.0]"}}
    with pytest.raises(Fault, match="other numbers"):
        kills.check(folder, changed)
    (folder / ".tmp-1-1-page").touch()
    with pytest.raises(Fault, match="is left"):
        kills.check(folder, expected)
    (folder / "runs" / f"{first}.parquet").unlink()
    with pytest.raises(Fault, match="1 runs lost"):
        kills.check(folder, expected)


def test_a_store_killed_before_any_operation_on_files_opens_again(tmp_path: Path):
    number, killed = 0, True
    while killed:
        number += 1
        folder = tmp_path / str(number)

        def opened(number: int = number, folder: Path = folder) -> None:
            kills.die_before(number, folder)
            Store(folder)

        killed = kills.in_child(opened) == -signal.SIGKILL
        again = Store(folder)
        assert sorted(path.name for path in folder.rglob("*")) == ["ratewise-store.json", "runs"]
        assert again.load() == []
    assert number > 5, "it was hardly killed"
