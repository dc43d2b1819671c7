"""A schedule's time is the optimizer's: what counts as a step, and when it decides."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import torch
from tests.contracts.rules import ROWS, Row, every_row, follow, make_optimizer, metrics, over
from torch import nn
from torch.optim.lr_scheduler import LinearLR, SequentialLR

from ratewise import GreedyLR
from ratewise.errors import InvalidArgument, StepOrderWarning, WrongType

QUICK = next(row for row in ROWS if row.name == "greedy, quick")
#: Those that take the arguments about metrics, one and all.
SHARED = [row for row in ROWS if row.takes("on_nonfinite")]


def rows_without(*options: str) -> Any:
    """Parametrize over the rows that take every argument and have none of these set."""
    return over([row for row in SHARED if not set(options) & set(row.options)])


shared_rows = rows_without()


class Training:
    """A scheduler on a real, small training; the losses that it is fed are given."""

    def __init__(self, row: Row, rates: tuple[float, ...] = (0.01,), **more: Any) -> None:
        self.weights = [nn.Parameter(torch.ones(2)) for _ in rates]
        groups = [{"params": [w], "lr": lr} for w, lr in zip(self.weights, rates, strict=True)]
        self.optimizer = torch.optim.SGD(groups, lr=rates[0])
        self.scheduler = row.make(self.optimizer, **more)

    def backward(self) -> None:
        for weight in self.weights:
            (weight**2).sum().backward()

    def step(self, loss: Any) -> list[float]:
        self.backward()
        self.optimizer.step()
        self.scheduler.step(loss)
        return [float(rate) for rate in self.scheduler.get_last_lr()]


@every_row
def test_trained_or_fed_by_hand_the_rates_are_the_same(row: Row):
    training = Training(row)
    assert [training.step(loss) for loss in metrics()] == follow(
        row.make(make_optimizer(0.01)), metrics()
    )


@every_row
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_repeated_call_for_one_optimizer_step_counts_once(row: Row, processes: int):
    """Accelerate's wrapper calls `step` once a process."""
    training, wanted = Training(row), Training(row)
    for loss in metrics():
        rates = training.step(loss)
        for _ in range(processes - 1):
            training.scheduler.step(loss)
        assert rates == wanted.step(loss)
        assert training.scheduler.get_last_lr() == rates
    assert training.scheduler.last_epoch == len(metrics())


@every_row
def test_steps_that_the_optimizer_did_not_make_do_not_advance(row: Row):
    training, wanted = Training(row), Training(row)
    for step, loss in enumerate(metrics()):
        if step and step % 3 == 0:  # accumulating: gradients, and no step
            training.backward()
            training.scheduler.step(100.0)
        assert training.step(loss) == wanted.step(loss)
    assert training.scheduler.last_epoch == len(metrics())


@every_row
def test_a_step_that_a_grad_scaler_skips_does_not_advance(row: Row):
    training, wanted = Training(row), Training(row)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step, loss in enumerate(metrics()):
        training.optimizer.zero_grad()
        overflow = math.inf if step in (0, 7, 8) else 1.0
        if step == 0:
            with pytest.warns(StepOrderWarning, match=r"call optimizer.step\(\) first"):
                self_step(training, scaler, overflow, loss)
        else:
            self_step(training, scaler, overflow, loss)
        if overflow == 1.0:
            wanted.step(loss)
        assert training.scheduler.get_last_lr() == wanted.scheduler.get_last_lr()
    assert training.scheduler.last_epoch == len(metrics()) - 3


def self_step(training: Training, scaler: Any, overflow: float, loss: float) -> None:
    scaler.scale((training.weights[0] * overflow).sum()).backward()
    scaler.step(training.optimizer)
    scaler.update()
    training.scheduler.step(loss)


def test_stepped_before_its_optimizer_it_waits_and_says_so_once():
    training = Training(QUICK)
    training.backward()
    with pytest.warns(StepOrderWarning, match="before its optimizer"):
        training.scheduler.step(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.scheduler.step(1.0)
        assert training.scheduler.last_epoch == 0
        training.step(1.0)
    assert training.scheduler.last_epoch == 1


def test_an_optimizer_whose_steps_cannot_be_heard_is_taken_at_the_user_s_word(monkeypatch):
    training = Training(QUICK)
    training.optimizer._optimizer_step_post_hooks.clear()
    for step, loss in enumerate(metrics(), start=1):
        training.step(loss)
        assert training.scheduler.last_epoch == step


def test_a_step_that_a_graph_captured_will_be_replayed_unheard(monkeypatch):
    training = Training(QUICK)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    training.step(1.0)
    monkeypatch.undo()
    for _ in range(3):  # replays: no Python runs in the optimizer
        training.scheduler.step(1.0)
    assert training.scheduler.last_epoch == 4


def test_a_copied_scheduler_hears_its_own_optimizer():
    training = Training(QUICK)
    for loss in metrics(10):
        training.step(loss)
    twin = copy.deepcopy(training)
    assert twin.optimizer is twin.scheduler.optimizer is not training.optimizer
    for loss in metrics(20, seed=1):
        assert twin.step(loss) == training.step(loss)


# -- periods, ramps, choices --------------------------------------------------------------------


@rows_without(
    "decide_every", "warmup_steps", "schedule"
)  # a coarse twin has another ramp and schedule
def test_every_decides_on_the_mean_of_the_period(row: Row):
    losses = metrics(60)
    training, coarse = Training(row, decide_every=3), row.make(make_optimizer(0.01))
    rates = [training.step(loss) for loss in losses]
    for period in range(20):
        total = losses[3 * period] + losses[3 * period + 1] + losses[3 * period + 2]
        coarse.step(total / 3)
        wanted = [float(rate) for rate in coarse.get_last_lr()]
        assert rates[3 * period + 2] == wanted
        if period:
            assert rates[3 * period] == rates[3 * period + 1] == rates[3 * period - 1]


@shared_rows
def test_a_period_with_one_nan_is_one_bad_step_or_is_passed_over(row: Row):
    losses = [1.0, math.nan, 1.0, 1.0]
    bad, skip = (Training(row, decide_every=4, on_nonfinite=how) for how in ("bad", "skip"))
    for _ in range(3):
        for loss in losses:
            bad.step(loss)
            skip.step(loss)
    memories = [x.scheduler.state_dict()["ratewise"]["rule"]["memory"] for x in (bad, skip)]
    kept = [(m["evidence"] or {"values": m["values"][: m["count"]]})["values"] for m in memories]
    assert kept[0] == []
    assert set(kept[1]) == {1.0}
    assert all(math.isfinite(rate) for rate in bad.scheduler.get_last_lr())


@every_row
def test_observed_micro_batches_are_one_metric(row: Row):
    training, wanted = Training(row), Training(row)
    for loss in metrics():
        training.scheduler.observe(loss - 0.25)
        training.scheduler.observe(loss + 0.25)
        assert training.step(None) == pytest.approx(wanted.step(loss), rel=1e-12)


@shared_rows
def test_a_metric_at_sparse_intervals_decides_when_it_comes(row: Row):
    training = Training(row, missing="hold")
    moved = []
    for step, loss in enumerate(metrics(60), start=1):
        before = training.scheduler.state_dict()["ratewise"]["rule"]["memory"]
        if step % 5 == 0:
            training.scheduler.observe(loss)
        training.step(None)
        if training.scheduler.state_dict()["ratewise"]["rule"]["memory"] != before:
            moved.append(step)
    latest = training.scheduler.decide_every - 1
    assert moved
    assert all(step % 5 <= latest for step in moved)


@shared_rows
def test_the_ramp_is_linear_and_what_follows_is_the_run_without_it(row: Row):
    options = {**row.options, "warmup_steps": 4}
    if isinstance(options.get("schedule"), str):
        options["total_steps"] += 4
    if callable(options.get("schedule")):
        options["schedule"] = lambda step: 1.0 if step < 4 else 1 / (1 + step - 4)
    ramped = Training(Row(row.name, row.build, options))
    plain = Training(Row(row.name, row.build, {**row.options, "warmup_steps": 0}))
    seen = [float(ramped.scheduler.get_last_lr()[0])]
    seen += [ramped.step(100.0)[0] for _ in range(4)]
    assert seen == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert [ramped.step(loss) for loss in metrics()] == [plain.step(loss) for loss in metrics()]


@rows_without("schedule")  # in a sequence it counts from the hand-off
def test_the_built_in_ramp_is_a_linear_one_in_sequence(row: Row):
    """`SequentialLR` of torch's LinearLR and the scheduler is the same as `warmup_steps`."""
    options = {**row.options, "warmup_steps": 0}
    alone = Training(Row(row.name, row.build, {**row.options, "warmup_steps": 4}))
    other = Training(Row(row.name, row.build, options), missing="hold")
    other.optimizer.zero_grad()
    ramp = LinearLR(other.optimizer, 1 / 5, 1.0, total_iters=4)
    sequence = SequentialLR(other.optimizer, [ramp, other.scheduler], milestones=[4])
    for step, loss in enumerate(metrics(30)):
        other.backward()
        other.optimizer.step()
        if step >= 4:
            other.scheduler.observe(loss)
        sequence.step()
        assert other.scheduler.get_last_lr() == pytest.approx(alone.step(loss), rel=1e-12)


@over([row for row in ROWS if row.takes("groups")])
def test_a_choice_of_groups_leaves_the_others_alone(row: Row):
    training = Training(row, (0.01, 0.02, 0.03), groups=[0, 2])
    whole = Training(row, (0.01, 0.03))
    for loss in metrics():
        first, second, third = training.step(loss)
        assert second == 0.02
        assert [first, third] == whole.step(loss)


@over([row for row in ROWS if row.takes("groups")])
def test_two_schedulers_share_an_optimizer_by_groups(row: Row):
    training = Training(row, (0.01, 0.02), groups=[0])
    other = QUICK.make(training.optimizer, groups=[1])
    alone, twin = Training(row, (0.01,)), Training(QUICK, (0.02,))
    for loss in metrics():
        training.backward()
        training.optimizer.step()
        training.scheduler.step(loss)
        other.step(loss)
        rates = [float(rate) for rate in other.get_last_lr()]
        assert rates == alone.step(loss) + twin.step(loss)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"decide_every": 0}, InvalidArgument, "decide_every must be an integer >= 1, got 0"),
        ({"decide_every": 1.5}, InvalidArgument, "decide_every"),
        ({"warmup_steps": -1}, InvalidArgument, "warmup_steps must be an integer >= 0"),
        (
            {"warmup_steps": 9, "schedule": "cosine", "total_steps": 9},
            InvalidArgument,
            "below total",
        ),
        ({"groups": [2]}, InvalidArgument, "groups must be indices below 2"),
        ({"groups": [0, 0]}, InvalidArgument, "different indices"),
        ({"groups": "0"}, WrongType, "a list of indices"),
        ({"groups": []}, WrongType, "a list of indices"),
        ({"groups": [1], "min_lr": [1e-5, 1e-5]}, InvalidArgument, "a list of 1 numbers"),
        ({"sync": "max"}, ValueError, "unknown sync 'max'"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], error: type, words: str):
    with pytest.raises(error, match=words):
        GreedyLR(make_optimizer(0.01, 0.02), **options)
