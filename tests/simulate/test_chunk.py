"""How many runs are stacked: the fastest of a few sizes, found once a machine and kept."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.simulate.trainings import regression
from torch import nn

from ratewise.errors import InvalidArgument
from ratewise.simulate import chunk, run
from ratewise.simulate.chunk import CANDIDATES, choose, file, measure


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RATEWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Machine:
    """A trial on a clock of its own: run-steps a second of each size as they are given."""

    def __init__(self, monkeypatch: Any, speeds: dict[int, float]) -> None:
        self.speeds, self.now, self.tried = speeds, 0.0, []
        self.steps = 0
        monkeypatch.setattr(chunk, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def __call__(self, size: int) -> Callable[[], object]:
        self.tried.append(size)
        self.now += 5.0  # what setting up takes counts for nothing
        first = [True]

        def step() -> None:
            self.now += 3.0 if first.pop() else size / self.speeds[size]
            first.append(False)
            self.steps += 1

        return step


#: Best at 64, and slower from there on.
SPEEDS = {1: 1000.0, 4: 2000.0, 16: 4000.0, 64: 8000.0, 256: 6000.0, 1024: 5000.0}


def test_the_fastest_is_taken_and_not_measured_again(monkeypatch, cache):
    machine = Machine(monkeypatch, SPEEDS)
    assert choose("auto", 4096, 5000, "a task", machine) == 64
    assert machine.tried == list(CANDIDATES)
    assert measure(machine, [16, 64]) == pytest.approx({16: 4000.0, 64: 8000.0})
    (entry,) = json.loads((cache / "chunks.json").read_text()).values()
    assert {int(size): speed for size, speed in entry["speeds"].items()} == pytest.approx(SPEEDS)
    assert [path.name for path in cache.iterdir()] == ["chunks.json"], "nothing half-written stays"

    machine.tried.clear()
    assert choose("auto", 4096, 5000, "a task", machine) == 64
    assert choose("auto", 100, 5000, "a task", machine) == 64
    assert choose("auto", 20, 5000, "a task", machine) == 20
    assert choose("auto", 300, 20, "a task", machine) == 16
    assert machine.tried == []


def test_what_the_answer_depends_on_is_measured_for_itself(monkeypatch):
    machine = Machine(monkeypatch, SPEEDS)
    choose("auto", 100, 5000, "a task", machine)
    for change in ("another task", "another machine"):
        machine.tried.clear()
        with monkeypatch.context() as patch:
            if change == "another machine":
                patch.setattr(chunk, "machine", lambda: "a faster one")
            key = "b" if change == "another task" else "a task"
            assert choose("auto", 100, 5000, key, machine) == 64
        assert machine.tried[0] == 1, change


def test_of_sizes_about_as_fast_the_smallest_is_taken(monkeypatch):
    machine = Machine(monkeypatch, {1: 100.0, 4: 400.0, 16: 970.0, 64: 1000.0, 256: 1010.0})
    assert choose("auto", 300, 300, "a task", machine) == 16
    machine = Machine(monkeypatch, {1: 100.0, 4: 400.0, 16: 900.0, 64: 1000.0, 256: 1010.0})
    assert choose("auto", 300, 300, "another task", machine) == 64


def test_larger_sizes_are_not_tried_once_two_in_a_row_were_slower(monkeypatch):
    machine = Machine(monkeypatch, {1: 1000.0, 4: 900.0, 16: 800.0, 64: 9000.0})
    assert choose("auto", 4096, 5000, "a task", machine) == 1, "the ordinary loop is the fastest"
    assert machine.tried == [1, 4, 16]
    assert choose("auto", 4096, 5000, "a task", machine) == 1
    assert machine.tried == [1, 4, 16], "what was left out is not missed"
    once = Machine(monkeypatch, {1: 1000.0, 4: 900.0, 16: 2000.0, 64: 1900.0, 256: 1.0})
    assert choose("auto", 4096, 5000, "b", once) == 16


def test_a_short_measurement_is_completed_when_more_is_asked(monkeypatch):
    machine = Machine(monkeypatch, SPEEDS)
    assert choose("auto", 10, 5000, "a task", machine) == 10
    assert machine.tried == [1, 4, 16], "the next size up stands for what lies between"
    assert choose("auto", 4096, 5000, "a task", machine) == 64
    assert machine.tried == [1, 4, 16, *CANDIDATES]


def test_no_more_are_stacked_than_there_are_or_than_fit(monkeypatch):
    machine = Machine(monkeypatch, SPEEDS)
    assert choose("auto", 1, 5000, "a task", machine) == 1
    assert choose("auto", 4096, 1, "a task", machine) == 1
    assert machine.tried == [], "where there is no choice nothing is measured"
    assert choose("auto", 3, 5000, "a task", machine) == 3
    assert choose("auto", 4096, 20, "b", machine) == 16
    assert max(machine.tried) == 16


def test_a_size_may_be_set(monkeypatch):
    machine = Machine(monkeypatch, SPEEDS)
    assert choose(7, 100, 5000, "a task", machine) == 7
    assert choose(200, 100, 100, "a task", machine) == 100
    assert machine.tried == []
    with pytest.raises(InvalidArgument, match=r"^chunk must be at most 50 within the memory's"):
        choose(60, 100, 50, "a task", machine)
    for wrong in (0, -1, True, 2.0, "many", None):
        with pytest.raises(InvalidArgument, match=r"^chunk must be 'auto' or an integer >= 1, got"):
            choose(wrong, 100, 5000, "a task", machine)


def damages() -> dict[str, Callable[[dict[str, Any]], bytes]]:
    def with_speeds(value: Any) -> Callable[[dict[str, Any]], bytes]:
        return lambda entries: json.dumps({k: {"speeds": value} for k in entries}).encode()

    return {
        "empty": lambda entries: b"",
        "cut off": lambda entries: json.dumps(entries).encode()[:-20],
        "not text": lambda entries: b"\xff\xfe\x00",
        "a list": lambda entries: b"[1, 2]",
        "numbers": lambda entries: json.dumps(dict.fromkeys(entries, 3)).encode(),
        "no speeds": lambda entries: json.dumps({k: {} for k in entries}).encode(),
        "speeds of nothing": with_speeds({}),
        "speeds of words": with_speeds({"four": 1.0}),
        "words of speeds": with_speeds({"1": "fast"}),
        "a speed of nonsense": with_speeds({"-5": 1e9, "3": 1e9}),
    }


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_file_is_measured_anew_and_mended(damage, monkeypatch, cache):
    machine = Machine(monkeypatch, SPEEDS)
    choose("auto", 100, 5000, "a task", machine)
    whole = json.loads(file().read_text())
    file().write_bytes(damages()[damage](whole))
    machine.tried.clear()
    assert choose("auto", 100, 5000, "a task", machine) == 64
    assert machine.tried[:4] == [1, 4, 16, 64]
    assert json.loads(file().read_text()).keys() >= whole.keys()
    machine.tried.clear()
    assert choose("auto", 100, 5000, "a task", machine) == 64
    assert machine.tried == []


def test_sizes_that_nobody_tried_are_not_believed(monkeypatch):
    machine = Machine(monkeypatch, SPEEDS)
    choose("auto", 4096, 5000, "a task", machine)
    entries = json.loads(file().read_text())
    for entry in entries.values():
        entry["speeds"] |= {"-7": 1e12, "0": 1e12, "500": 1e12}
    file().write_text(json.dumps(entries))
    assert choose("auto", 4096, 5000, "a task", machine) == 64


def test_where_nothing_can_be_written_it_is_measured_each_time(monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("RATEWISE_CACHE", str(tmp_path / "a file" / "below"))
    machine = Machine(monkeypatch, SPEEDS)
    for _ in range(2):
        machine.tried.clear()
        assert choose("auto", 100, 5000, "a task", machine) == 64
        assert machine.tried[0] == 1


def test_the_file_lies_in_the_user_s_cache(monkeypatch, tmp_path):
    assert file() == tmp_path / "cache" / "chunks.json"
    monkeypatch.delenv("RATEWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert file() == tmp_path / "xdg" / "ratewise" / "chunks.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert file() == tmp_path / "home" / ".cache" / "ratewise" / "chunks.json"


def test_a_call_measures_once_and_trains_what_it_would_have(monkeypatch):
    options: dict[str, Any] = {"runs": 5, "steps": 4, "lr": 0.1, "dtype": torch.float64}
    monkeypatch.setattr(chunk, "_SECONDS", 0.0)
    first = run(regression(), "adam", "greedy", noise="gaussian", **options)
    assert len(json.loads(file().read_text())) == 1

    def forbidden(*_: object) -> None:
        raise AssertionError("measured again")

    wider = dataclasses.replace(
        regression(), model=lambda: nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 1))
    )
    with monkeypatch.context() as patch:
        patch.setattr(chunk, "measure", forbidden)
        again = run(regression(), "adam", "greedy", noise="gaussian", **options)
        for task, optimizer in ((regression(), "sgd"), (wider, "adam")):
            with pytest.raises(AssertionError, match="measured again"):
                run(task, optimizer, **options)
    assert first.chunk == again.chunk
    assert (first.loss == again.loss).all()
    untimed = run(regression(), "adam", "greedy", noise="gaussian", chunk=first.chunk, **options)
    assert (first.loss == untimed.loss).all()
