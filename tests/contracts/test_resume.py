"""Stopped anywhere, saved, loaded and gone on with, a run is the run that was never stopped."""

from __future__ import annotations

import io
import json
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contracts.rules import ROWS, Row, every_row, make_optimizer, metrics
from tests.contracts.training import STEPS, Training
from tests.processes import Python

from ratewise.errors import InvalidArgument, InvalidState, WrongType

ROOT = Path(__file__).parents[2]
QUICK = next(row for row in ROWS if row.name == "greedy, quick")


@pytest.fixture(autouse=True)
def one_thread():
    """Sums over several threads differ in their last bits from run to run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def resumed(row: Row, stop: int, order: str = "optimizer first", **how: Any) -> Training:
    """Return a run that was stopped after `stop` steps, and another that went on from it."""
    file = io.BytesIO()
    Training(row, **how).run(stop).save(file)
    file.seek(0)
    return Training(row, **{**how, "base": 0.7}).load(file, order).run(STEPS)


@every_row
@pytest.mark.parametrize("order", ["optimizer first", "scheduler first"])
def test_stopped_at_every_step_rates_and_weights_are_the_same_to_the_bit(row: Row, order: str):
    whole, saved, files = Training(row).run(STEPS), Training(row), []
    for stop in range(STEPS):
        saved.run(stop).save(file := io.BytesIO())
        files.append(file)
    for stop, file in enumerate(files):
        file.seek(0)
        again = Training(row, base=0.7).load(file, order).run(STEPS)
        assert again.rates == whole.rates, stop
        assert again.weights() == whole.weights(), stop


def test_in_these_runs_the_rate_rises_and_falls_after_most_stops():
    for row in ROWS:
        rates = [rates[0] for rates in Training(row).run(STEPS).rates]
        late = [after - before for before, after in pairwise(rates)][STEPS // 2 :]
        assert min(late) < 0, row.name
        # Those wait longer before they raise a rate; `test_greedy_significance` has a longer run.
        slow = row.name == "like transformers" or row.name.startswith("greedy, significance")
        assert max(late) > 0 or slow, row.name


@every_row
def test_tensor_rates_resume_to_the_bit(row: Row):
    whole = Training(row, tensor=True).run(STEPS)
    for stop in range(0, STEPS, 7):
        again = resumed(row, stop, tensor=True)
        assert again.rates == whole.rates, stop
        assert again.weights() == whole.weights(), stop


@pytest.mark.parametrize("part", ["rule", "own", "pending", "rates"])
def test_a_state_that_lacks_something_is_noticed(part: str):
    """The battery can fail: with one part of the state put back, runs differ."""
    row = next(row for row in ROWS if row.name == "greedy, ramp and periods")
    whole = Training(row).run(STEPS)
    differs = False
    for stop in range(5, STEPS):
        first = Training(row).run(stop)
        state = first.scheduler.state_dict()
        state["ratewise"][part] = Training(row).scheduler.state_dict()["ratewise"][part]
        first.scheduler.load_state_dict(state)
        differs = differs or first.run(STEPS).weights() != whole.weights()
    assert differs


def in_a_process(row: str, folder: Path, *flags: str) -> Python:
    files = [str(folder / "checkpoint.pt"), str(STEPS), str(folder / "result.json")]
    line = ["-m", "tests.contracts.training", row, *files, *flags]
    return Python(*line, cwd=ROOT, logs=folder / "logs")


@pytest.mark.parametrize("stop", [3, 17, 31])
def test_in_a_fresh_process_it_goes_on_to_the_bit(stop: int, tmp_path: Path):
    whole = Training(QUICK).run(STEPS)
    Training(QUICK).run(stop).save(tmp_path / "checkpoint.pt")
    done = in_a_process(QUICK.name, tmp_path).end()
    assert done.status == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {"rates": whole.rates, "weights": whole.weights()}


def test_killed_in_mid_run_it_goes_on_to_the_bit(tmp_path: Path):
    whole = Training(QUICK).run(STEPS)
    process = in_a_process(QUICK.name, tmp_path, "--held")
    deadline = time.monotonic() + 900
    while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.end().status == -signal.SIGKILL
    reached = len(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["rates"])
    assert 0 < reached <= STEPS // 2
    assert not (tmp_path / "result.json").exists()
    done = in_a_process(QUICK.name, tmp_path).end()
    assert done.status == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result == {"rates": whole.rates, "weights": whole.weights()}


# -- another rate on purpose --------------------------------------------------------------------


@every_row
def test_another_rate_in_code_changes_nothing_on_resume(row: Row):
    """`resumed` constructs with a base rate of 0.7: the state's rates prevail."""
    assert resumed(row, 20).rates[20:] == Training(row).run(STEPS).rates[20:]


def test_a_changed_rate_is_an_argument():
    first = QUICK.make(make_optimizer(0.01, 0.02))
    for loss in metrics(20):
        first.step(loss)
    optimizer = make_optimizer(0.01, 0.02)
    second = QUICK.make(optimizer)
    second.load_state_dict(first.state_dict(), lr=[0.003, 0.004])
    assert second.get_last_lr() == [0.003, 0.004]
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.003, 0.004]
    memory = [s.state_dict()["ratewise"]["rule"]["memory"] for s in (first, second)]
    assert memory[1]["scale"] == [1.0, 1.0]
    assert memory[0] | {"scale": 0} == memory[1] | {"scale": 0}, (
        "what was learned of the loss stays"
    )
    for loss in metrics(60):
        second.step(loss)
        assert 0.0003 <= second.get_last_lr()[0] <= 0.03  # the bounds are the new rate's


@pytest.mark.parametrize(
    ("lr", "error", "words"),
    [
        (0.0, InvalidArgument, "lr must be a finite number > 0"),
        ([0.1], InvalidArgument, "lr must be 2 numbers"),
        ("0.1", WrongType, "lr must be a number"),
        (5.0, InvalidArgument, r"lr must be in \[min_lr, max_lr\]"),
    ],
)
def test_a_bad_rate_on_resume_is_named_and_nothing_is_changed(lr: Any, error: type, words: str):
    first = QUICK.make(make_optimizer(0.01, 0.02))
    for loss in metrics(20):
        first.step(loss)
    second = QUICK.make(make_optimizer(0.01, 0.02), max_lr=1.0)
    before = second.state_dict()
    with pytest.raises(error, match=words):
        second.load_state_dict(first.state_dict(), lr=lr)
    assert second.state_dict() == before


# -- other formats ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 2, 3, 5, "4", None, True])
def test_a_state_of_another_format_is_refused_by_its_number(version: Any):
    scheduler = QUICK.make(make_optimizer(0.01))
    state, before = scheduler.state_dict(), scheduler.state_dict()
    state["ratewise"]["format"] = version
    with pytest.raises(InvalidState, match=f"must be 4, got {version!r}: a newer"):
        scheduler.load_state_dict(state)
    assert scheduler.state_dict() == before


@every_row
@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("rates", ["a"]),
        ("rates", [0.1, 0.2]),
        ("decide_every", "a"),
        ("decide_every", 0),
        ("own", []),
        ("outside", []),
        ("schedule", "cos"),
        ("events", [1]),
        ("trace", {}),
        ("late", 3),
        ("pending", "x"),
        ("rule", 3),
    ],
)
def test_a_damaged_state_is_refused_whole(row: Row, part: str, value: Any):
    first, second = row.make(make_optimizer(0.01)), row.make(make_optimizer(0.02))
    for loss in metrics(20):
        first.step(loss)
        second.step(loss)
    state, before = first.state_dict(), second.state_dict()
    state["ratewise"][part] = value
    with pytest.raises(InvalidState):
        second.load_state_dict(state)
    assert repr(second.state_dict()) == repr(before)


@pytest.mark.parametrize("other", [{"groups": [0]}, {"schedule": lambda step: 1.0}])
def test_a_checkpoint_of_another_scheduler_is_named(other: dict[str, Any]):
    state = QUICK.make(make_optimizer(0.01, 0.02)).state_dict()
    with pytest.raises(InvalidState):
        QUICK.make(make_optimizer(0.01, 0.02), **other).load_state_dict(state)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(make_optimizer(0.01), 10)
    with pytest.raises(InvalidState, match="must hold the key 'ratewise'"):
        QUICK.make(make_optimizer(0.01)).load_state_dict(cosine.state_dict())
