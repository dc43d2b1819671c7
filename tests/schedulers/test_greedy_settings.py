"""Settings of GreedyLR: bad ones are named, good ones do what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.greedy_options import arguments

from ratewise import GreedyConfig, GreedyLR
from ratewise.errors import InvalidArgument, InvalidState, NonFiniteLoss, UnknownName, WrongType


def make(lr: float | list[float] = 0.01, **options: Any) -> GreedyLR:
    rates = lr if isinstance(lr, list) else [lr]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.SGD(groups, lr=rates[0])
    optimizer.step()
    return GreedyLR(optimizer, **arguments(**options))


def rate_after(scheduler: GreedyLR, losses: list[float]) -> float:
    for loss in losses:
        scheduler.step(loss)
    return float(scheduler.get_last_lr()[0])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"factor": 1.0}, InvalidArgument, r"factor must be a number in \(0, 1\), got 1.0: pass"),
        ({"factor": 0.0}, InvalidArgument, "factor"),
        ({"factor": math.nan}, InvalidArgument, "factor"),
        ({"factor": "0.9"}, InvalidArgument, "factor"),
        ({"patience": -1}, InvalidArgument, "patience must be an integer >= 0, got -1"),
        ({"patience": 1.5}, InvalidArgument, "patience"),
        ({"patience": True}, InvalidArgument, "patience"),
        ({"window": 0}, InvalidArgument, "window must be an integer >= 1, got 0"),
        ({"window": -3}, InvalidArgument, "window"),
        ({"cooldown": -1}, InvalidArgument, "cooldown"),
        ({"warmup": -1}, InvalidArgument, "warmup"),
        ({"threshold": -1e-4}, InvalidArgument, "threshold"),
        ({"threshold": math.inf}, InvalidArgument, "threshold"),
        ({"eps": -1.0}, InvalidArgument, "eps"),
        ({"reset_after": 0}, InvalidArgument, "reset_after"),
        ({"mode": "mni"}, UnknownName, "did you mean 'min'"),
        ({"reference": "bets"}, UnknownName, "did you mean 'best'"),
        ({"stage": "wait"}, UnknownName, "known: extend, hold, ignore"),
        ({"plateau": "good"}, UnknownName, "plateau"),
        ({"first": "bad"}, UnknownName, "first"),
        ({"on_nonfinite": "ignore"}, UnknownName, "on_nonfinite"),
        ({"missing": "skip"}, UnknownName, "missing"),
        ({"min_lr": 0.1, "max_lr": 0.01}, InvalidArgument, "min_lr must be at most max_lr"),
        ({"min_lr": 0.02}, InvalidArgument, r"lr must be in \[min_lr, max_lr\]"),
        ({"max_lr": 0.0005}, InvalidArgument, r"lr must be in \[min_lr, max_lr\] .*, got 0.01"),
        ({"min_lr": -1.0}, InvalidArgument, "min_lr"),
        ({"min_lr": "1e-5"}, WrongType, "min_lr must be a number or a list"),
        ({"min_lr": [1e-5, 1e-5]}, InvalidArgument, "min_lr must be a list of 1 numbers"),
        ({"max_lr": []}, InvalidArgument, "max_lr must be a list of 1 numbers"),
        ({"schedule": "cosine"}, InvalidArgument, "total_steps must be an integer >= 1, got None"),
        ({"schedule": "cosin", "total_steps": 9}, UnknownName, "did you mean 'cosine'"),
        ({"schedule": 0.5}, WrongType, "schedule must be a name or a function"),
        ({"schedule": "cosine", "total_steps": 0}, InvalidArgument, "total_steps"),
        ({"total_steps": -5}, InvalidArgument, "total_steps must be an integer >= 1, got -5"),
        ({"total_steps": "x"}, InvalidArgument, "total_steps"),
        ({"groups": 0}, WrongType, "groups must be a list of indices"),
    ],
)
def test_bad_settings_are_named_with_range_value_and_fix(options, error, words):
    with pytest.raises(error, match=words) as caught:
        make(**options)
    assert ": " in str(caught.value), "no fix is offered"


def test_default_bounds_are_multiples_of_each_group_s_own_rate():
    falling = [1.0 / (1 + step) for step in range(200)]
    rising = [float(1 + step) for step in range(200)]
    quick = {"factor": 0.5, "patience": 0, "window": 1}
    up, down = make([0.01, 0.3], **quick), make([0.01, 0.3], **quick)
    rate_after(up, falling)
    rate_after(down, rising)
    assert up.get_last_lr() == pytest.approx([0.1, 3.0])
    assert down.get_last_lr() == pytest.approx([0.001, 0.03])


def test_bounds_as_numbers_and_lists():
    quick = {"factor": 0.5, "patience": 0, "window": 1}
    scheduler = make([0.01, 0.02], **quick, max_lr=[0.03, 0.02], min_lr=0.009)
    rate_after(scheduler, [1.0 / (1 + step) for step in range(20)])
    assert scheduler.get_last_lr() == pytest.approx([0.03, 0.02])
    rate_after(scheduler, [float(step) for step in range(20)])
    assert scheduler.get_last_lr() == pytest.approx([0.009, 0.009])


def test_patience_is_exceeded_not_met():
    scheduler = make(factor=0.5, patience=2, window=1, reference="best")
    rates = [rate_after(scheduler, [loss]) for loss in (5.0, 4.0, 3.0, 2.0, 1.0)]
    assert rates == [0.01, 0.01, 0.01, 0.02, 0.02]


def test_mode_max_is_the_mirror_image():
    losses = [2 + math.cos(step / 5) for step in range(60)]
    low = make(mode="min", factor=0.8, patience=1, window=3)
    high = make(mode="max", factor=0.8, patience=1, window=3)
    for loss in losses:
        assert rate_after(low, [loss]) == rate_after(high, [-loss])


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [
        ("extend", [1, 2, 4, 8, 4]),  # the warmup goes on although the loss has turned
        ("hold", [1, 2, 2, 2, 1]),
        ("ignore", [1, 2, 1, 0.5, 0.5]),
    ],
)
def test_stages_after_an_increase(stage, wanted):
    scheduler = make(
        1.0, factor=0.5, patience=0, window=1, warmup=2, stage=stage, reference="best",
        plateau="bad", min_lr=0.5, max_lr=8.0,
    )  # fmt: skip
    assert [rate_after(scheduler, [loss]) for loss in (3.0, 2.0, 4.0, 5.0, 6.0)] == wanted


def test_reference_previous_and_best_differ_on_a_partial_recovery():
    losses = [1.0, 5.0, 4.0, 3.0, 2.0]
    options = {"factor": 0.5, "patience": 1, "window": 1}
    assert rate_after(make(**options, reference="previous"), losses) > 0.01
    assert rate_after(make(**options, reference="best"), losses) < 0.01


def test_plateau_neutral_leaves_the_counters_alone():
    flat = [1.0] * 40
    options = {"factor": 0.5, "patience": 1, "window": 1}
    assert rate_after(make(**options, plateau="neutral"), flat) == 0.01
    assert rate_after(make(**options, plateau="bad"), flat) == pytest.approx(0.001)


def test_on_nonfinite_bad_skip_raise():
    options = {"factor": 0.5, "patience": 1, "window": 1}
    assert rate_after(make(**options, on_nonfinite="bad"), [1.0, math.nan, math.inf]) == 0.005
    assert rate_after(make(**options, on_nonfinite="skip"), [1.0, math.nan, math.inf]) == 0.01
    scheduler = make(**options, on_nonfinite="raise")
    scheduler.step(1.0)
    before = scheduler.state_dict()
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 2"):
        scheduler.step(math.nan)
    assert scheduler.state_dict() == before


@pytest.mark.parametrize("call", ["observe", "step"])
def test_losses_whose_sum_overflows_raise_before_anything_changes(call: str):
    scheduler = make(factor=0.5, patience=1, window=1, on_nonfinite="raise")
    scheduler.step(1.0)
    scheduler.observe(1.5e308)
    before = scheduler.state_dict()
    with pytest.raises(NonFiniteLoss, match="and the sum since the last decision inf"):
        getattr(scheduler, call)(5e307)
    assert scheduler.state_dict() == before
    scheduler.step(1e307)  # which the sum has room for


def test_reset_after_the_floor_restores_the_initial_rate():
    scheduler = make(factor=0.5, patience=0, window=1, min_lr=0.004, reset_after=2)
    rates, reasons = [], []
    for loss in [1.0] + [float(step) for step in range(2, 8)]:
        rates.append(rate_after(scheduler, [loss]))
        reasons.append(scheduler.last_reason)
    assert "reset" in reasons
    assert rates[reasons.index("reset")] == 0.01


def test_a_float32_rate_at_its_bound_is_inside_it():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=torch.tensor(0.1))
    assert float(GreedyLR(optimizer, max_lr=0.1).get_last_lr()[0]) == pytest.approx(0.1)
    with pytest.raises(InvalidArgument, match=r"lr must be in"):
        GreedyLR(optimizer, max_lr=0.0999)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s: s.rescale(math.inf), InvalidArgument, "factor must be a finite number > 0"),
        (lambda s: s.rescale(0), InvalidArgument, "factor"),
        (lambda s: s.rescale([0.5]), WrongType, "factor must be a number, got list"),
        (lambda s: s.explain(last=0), InvalidArgument, "last must be an integer >= 1"),
        (lambda s: s.add_listener("events.jsonl"), WrongType, "listener must be a function"),
        (lambda s: s.step(np.bool_(True)), WrongType, "loss must be a number"),
        (lambda s: s.step(10**400), WrongType, "loss must be one real number"),
    ],
)
def test_bad_calls_are_named_and_change_nothing(call: Any, error: type, words: str):
    scheduler = make()
    before = scheduler.state_dict()
    with pytest.raises(error, match=words):
        call(scheduler)
    assert scheduler.state_dict() == before


def test_last_reason_tells_the_decision():
    scheduler = make(factor=0.5, patience=0, window=1, max_lr=0.02)
    reasons = []
    for loss in (3.0, 2.0, 1.0, math.nan, 9.0):
        scheduler.step(loss)
        reasons.append(scheduler.last_reason)
    assert reasons == ["none", "increase", "clamped", "decrease", "decrease"]


def test_missing_hold_holds_from_the_start():
    scheduler = make(missing="hold")
    for _ in range(5):
        scheduler.step()
    assert scheduler.get_last_lr() == [0.01]
    assert scheduler.last_epoch == 5


def test_on_a_schedule_the_bounds_ride_along():
    quick = {"factor": 0.5, "patience": 0, "window": 1, "max_lr": 0.02}
    scheduler = make(**quick, schedule="cosine", total_steps=40)
    for step in range(1, 41):
        rate = rate_after(scheduler, [1.0 / step])
        scale = (1 + math.cos(math.pi * step / 40)) / 2
        assert rate <= 0.02 * scale + 1e-15
    assert rate == pytest.approx(0.0, abs=1e-15)


def test_a_schedule_that_gives_nonsense_is_named():
    scheduler = make(schedule=lambda step: 1.0 if step < 2 else -1.0)
    scheduler.step(1.0)
    with pytest.raises(InvalidArgument, match=r"schedule\(2\) returned it"):
        scheduler.step(1.0)


def test_a_function_as_schedule_must_be_given_again():
    saved = make(schedule=lambda step: 1.0).state_dict()
    with pytest.raises(InvalidState, match="a function is not saved"):
        make().load_state_dict(saved)


def test_the_initial_rate_outside_its_bounds_is_left_alone_in_the_parity_setting():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-5)
    assert GreedyLR.like_transformers(optimizer).get_last_lr() == [1e-5]


def test_state_does_not_grow_with_the_run():
    scheduler = make(window=5)

    def sizes() -> tuple[int, int, int]:
        ours = scheduler.state_dict()["ratewise"]
        points, events = ours.pop("trace")["points"], ours.pop("events")
        return len(points), len(events), len(str(ours))

    rate_after(scheduler, [1.0 + step % 7 for step in range(50)])
    _, _, early = sizes()
    rate_after(scheduler, [1.0 + step % 7 for step in range(3000)])
    points, events, late = sizes()
    assert late < early + 40
    assert 128 <= points <= 256
    assert events <= 256


# -- settings in one ------------------------------------------------------------------------------


def rates_of(**options: Any) -> list[float]:
    scheduler = make(**options)
    seen = []
    for loss in (4.0, 3.0, 3.5, 3.0, 2.0, 5.0, 6.0, 1.0):
        scheduler.step(loss)
        seen.append(scheduler.get_last_lr()[0])
    return seen


def test_a_config_is_the_same_as_its_settings_by_name():
    by_name = rates_of(factor=0.5, patience=0, window=1, reference="previous")
    config = GreedyConfig(patience=0, window=1, reference="previous")
    assert rates_of(factor=0.5, config=config) == by_name
    assert rates_of(factor=0.5, patience=0, config=config) == by_name
    assert rates_of(factor=0.5, patience=0, window=1) != by_name


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"factor": 0.5}, InvalidArgument, "factor must be what config has, 0.8, got 0.5"),
        ({"config": {"factor": 0.5}}, WrongType, "config must be a GreedyConfig"),
    ],
)
def test_a_setting_that_is_given_twice_with_two_values_is_named(options, error, words):
    with pytest.raises(error, match=words):
        make(**{"config": GreedyConfig(factor=0.8), **options})
