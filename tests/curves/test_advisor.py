"""Advisor: ask and tell, kept in a file to the last run, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.curves.made import several
from tests.processes import Python

from ratewise import Advisor
from ratewise.curves import Key, Trial
from ratewise.curves.stored import to_record
from ratewise.errors import CannotWrite, CorruptData, InvalidArgument, UnknownName
from ratewise.files.locked import locked
from ratewise.runs import Store

KEY = Key("new", "adamw", "mlp", 1000)


def loss(value: float, best: float = 2e-3) -> float:
    return 2.0 * math.exp(0.15 * math.log(value / best) ** 2)


def used(advisor: Advisor, best: float = 2e-3) -> Advisor:
    while (trial := advisor.ask()) is not None:
        advisor.tell(trial, loss(trial.value, best))
    return advisor


def test_a_few_runs_find_the_best_and_it_says_why_it_stopped():
    advisor = used(Advisor(key=KEY))
    assert advisor.done
    assert "expected gain of another run is" in advisor.reason
    assert len(advisor.trials) <= 5
    assert loss(advisor.best()) <= 2.0 * 1.003
    assert used(Advisor(key=KEY, budget=2)).reason == "the budget of 2 runs is used up"
    assert len(used(Advisor(key=KEY, min_gain=0.5)).trials) <= len(advisor.trials)


def test_killed_after_any_run_it_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    whole = used(Advisor(tmp_path / "whole.json", key=KEY)).trials
    for stop in range(len(whole)):
        path = tmp_path / f"{stop}.json"
        first = Advisor(path, key=KEY)
        for _ in range(stop):
            trial = first.ask()
            first.tell(trial, loss(trial.value))
        first.ask()  # under way when it was killed
        again = used(Advisor(path, key=KEY))
        assert again.trials == whole
        assert again.best() == used(Advisor(tmp_path / "whole.json", key=KEY)).best()


def test_other_tasks_in_the_file_say_where_to_begin_and_two_runs_then_do(tmp_path: Path):
    path = tmp_path / "advisor.json"
    for number in range(6):
        used(Advisor(path, key=Key(f"old-{number}", "adamw", "mlp", 1000)), best=8e-3)
    advisor = used(Advisor(path, key=KEY, budget=2), best=9e-3)
    assert advisor.prior.tasks == 6
    assert advisor.trials[0][0] == pytest.approx(8e-3, rel=0.2)
    assert loss(advisor.best(), 9e-3) <= 2.0 * 1.005
    alone = used(Advisor(key=KEY, budget=2), best=9e-3)  # the control
    assert loss(alone.best(), 9e-3) > 2.0 * 1.05
    assert len(json.loads(path.read_text())["tasks"]) == 7


def test_a_folder_of_runs_is_read_and_what_is_told_is_kept_beside_it(tmp_path: Path):
    with Store(tmp_path / "past") as store:
        store.add_all(to_record(one.with_facts(task="old", optimizer="adamw")) for one in several())
    key = Key("new", "adamw", total_steps=4000, loss="train")
    advisor = Advisor(tmp_path / "past", key=key)
    assert advisor.prior.tasks >= 1
    assert advisor.prior.centre != Advisor(key=key).prior.centre
    advisor.tell(advisor.ask(), 3.0)
    again = Advisor(tmp_path / "past", key=key)
    assert again.trials == advisor.trials
    assert len(Store(tmp_path / "past").load()) == len(several())


def test_runs_side_by_side(tmp_path: Path):
    advisor = Advisor(tmp_path / "a.json", key=KEY, budget=4)
    first = [advisor.ask() for _ in range(3)]
    assert len({trial.value for trial in first}) == 3
    assert advisor.ask() is None
    assert not advisor.done
    assert "under way" in advisor.reason
    for trial in reversed(first):
        advisor.tell(trial, loss(trial.value))
    assert len(used(advisor).trials) <= 4
    assert advisor.done


def test_pilots_come_first_and_their_best_is_carried_over():
    for unit, factor in (("rate", 0.2**0.5), ("ratio", 0.2**0.6)):
        key = Key("new", "adamw", total_steps=3000, unit=unit)
        advisor = Advisor(key=key, budget=4, pilot_steps=600)
        best = 3e-3 if unit == "rate" else 0.016
        lengths = []
        while (trial := advisor.ask()) is not None:
            lengths.append(trial.total_steps)
            at = best * (1.0 if trial.total_steps == 600 else factor)
            advisor.tell(trial, loss(trial.value, at))
        assert lengths == [600, 600, 600, 3000]
        assert advisor.done
        assert advisor.best() == pytest.approx(best * factor, rel=0.15)
        assert advisor.trials[-1][0] == pytest.approx(advisor.best())


def test_diverged_runs_are_kept_and_values_may_be_told_without_asking(tmp_path: Path):
    path = tmp_path / "a.json"
    advisor = Advisor(path, key=KEY)
    advisor.tell(0.1, math.inf)
    advisor.tell(0.01, math.nan)
    advisor.tell(1e-3, 2.0)
    advisor.tell(1e-3, 2.1)
    again = Advisor(path, key=KEY)
    assert [value for value, _, _ in again.trials] == [0.1, 0.01, 1e-3, 1e-3]
    assert [end for _, end, _ in again.trials] == [math.inf, math.inf, 2.0, 2.1]
    assert again.ask().value < 0.01


#: Tells the runs of one of two tasks, once all processes are there.
TELLS = """
import sys, time
from pathlib import Path
from ratewise import Advisor
from ratewise.curves import Key

path, number, count, runs = Path(sys.argv[1]), *map(int, sys.argv[2:])
advisor = Advisor(path, key=Key(f"task-{number % 2}", "adamw", total_steps=100))
(path.parent / f"ready-{number}").touch()
while len(list(path.parent.glob("ready-*"))) < count:
    time.sleep(0.001)
for run in range(runs):
    advisor.tell(1e-3 * (1 + number + count * run), 2.0 + number)
"""


def test_several_processes_tell_one_file_and_each_run_is_kept_once(tmp_path: Path):
    script, path, count, runs = tmp_path / "tells.py", tmp_path / "a" / "advisor.json", 4, 15
    path.parent.mkdir()
    script.write_text(TELLS)
    started = [
        Python(str(script), str(path), *map(str, (number, count, runs)), cwd=tmp_path,
               logs=tmp_path / f"logs-{number}")
        for number in range(count)
    ]  # fmt: skip
    for one in started:
        ended = one.end()
        assert ended.status == 0, ended.stderr
    found = []
    for task in range(2):
        told = Advisor(path, key=Key(f"task-{task}", "adamw", total_steps=100)).trials
        assert {loss for _, loss, _ in told} == {2.0 + task, 4.0 + task}
        found += [round(1e3 * value) for value, _, _ in told]
    assert sorted(found) == list(range(1, 1 + count * runs))


def test_what_another_process_told_is_known_to_the_next_ask(tmp_path: Path):
    path = tmp_path / "a.json"
    advisor, other = Advisor(path, key=KEY, budget=4), Advisor(path, key=KEY)
    first = advisor.ask()
    other.tell(other.ask(), 2.0)
    other.tell(other.ask(), 2.1)
    assert advisor.ask().value not in (first.value, *(value for value, _, _ in other.trials))
    advisor.tell(first, 2.05)
    assert len(advisor.trials) == 3
    assert advisor.ask() is None  # the budget is of all: 3 told, 1 under way


def test_a_lock_that_another_holds_is_named(tmp_path: Path):
    path = tmp_path / "a.json"
    refused = pytest.raises(CannotWrite, match="another process has held")
    with locked(path), refused, locked(path, patience=0.0):
        pass
    with locked(path, patience=0.0):
        pass


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"budget": 0}, InvalidArgument, "budget must be"),
        ({"min_gain": 2.0}, InvalidArgument, "min_gain must be"),
        ({"centre": -1.0}, InvalidArgument, "centre must be"),
        ({"pilot_steps": 1000}, InvalidArgument, r"pilot_steps must be below key.total_steps=1000"),
        ({"pilot_steps": 200, "budget": 1}, InvalidArgument, "2 or more with pilots"),
        ({"store": "advisor.txt"}, InvalidArgument, "ends in .json"),
        ({"key": {"task": "a", "unit": "x"}}, UnknownName, "unknown unit"),
    ],
)
def test_what_it_cannot_use_is_named(options: dict[str, Any], error: type, words: str):
    with pytest.raises(error, match=words):
        Advisor(**{"key": KEY, **options})


@pytest.mark.parametrize("end", [-1.0, "2", None, True, -math.inf])
def test_a_loss_that_is_none_is_named_and_nothing_is_kept(end: Any, tmp_path: Path):
    advisor = Advisor(tmp_path / "a.json", key=KEY)
    with pytest.raises(InvalidArgument, match="loss must be a number >= 0"):
        advisor.tell(advisor.ask(), end)
    with pytest.raises(InvalidArgument, match="trial must be"):
        advisor.tell("0.1", 2.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 2, "tasks": []}',
        '{"format": 1, "tasks": [{"key": {}, "trials": []}]}',
        '{"format": 1, "tasks": [{"key": {"task": "", "optimizer": "", "family": "", '
        '"total_steps": 0, "passes": 0, "loss": "train", "unit": "rate"}, "trials": []}]}',
        "[" * 100_000,
    ],
)
def test_a_file_of_something_else_is_refused_and_stays(text: str, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(CorruptData, match="is no file of an Advisor"):
        Advisor(path, key=KEY)
    assert path.read_text() == text


def test_a_trial_says_what_is_to_be_run():
    trial = Advisor(key=KEY).ask()
    assert trial == Trial(1e-3, 1000, 0, "nothing was tried yet")
