"""The rate of every step, from what was logged or from a schedule with a name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from ratewise.curves import Curve, Series, scheduled, with_schedule
from ratewise.errors import InvalidArgument, UnknownName

FALL = Series.of([10, 20], [3.0, 2.0])


def logged(rates: np.ndarray, every: int) -> Curve:
    step = np.arange(every, len(rates) + 1, every)
    return Curve("run", Series.of(step, rates[step - 1]), FALL)


@pytest.mark.parametrize("every", [1, 7, 50])
def test_what_was_logged_now_and_then_gives_every_rate(every: int):
    rates = scheduled("cosine", 1e-3, 700)
    found = logged(rates, every).rates(700)
    assert found[every - 1 :] == pytest.approx(rates[every - 1 :], abs=1e-3 * 1e-3 * every)


def test_a_jump_stays_a_jump_and_a_slope_a_slope():
    steps = np.r_[np.full(400, 1.0), np.full(400, 0.3)]
    found = logged(steps, 100).rates()
    assert set(found[99:].round(12)) == {1.0, 0.3}
    slope = np.r_[np.full(400, 1.0), np.linspace(1, 0, 400)]
    assert np.abs(np.diff(logged(slope, 100).rates())[100:]).max() < 0.01


def test_before_the_first_point_no_rate_is_made_up():
    assert np.all(logged(np.ones(100), 10).rates()[:9] == 0)


def test_schedules_by_name_are_those_that_torch_makes():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
    scheduler = CosineAnnealingLR(optimizer, 40, eta_min=0.05)
    expected = []
    for _ in range(40):
        optimizer.step()
        scheduler.step()
        expected.append(scheduler.get_last_lr()[0])
    assert scheduled("cosine", 0.5, 40, final_share=0.1) == pytest.approx(expected)


def test_a_named_schedule_is_given_to_a_curve_without_rates_alone():
    bare = Curve("run", train_loss=FALL)
    curve = with_schedule(bare, "linear", 0.1, total_steps=40, warmup_steps=4)
    assert curve.rates() == pytest.approx(scheduled("linear", 0.1, 40, warmup_steps=4)[:20])
    assert (curve.peak_lr, curve.facts.schedule, curve.facts.total_steps) == (0.1, "linear", 40)
    with pytest.raises(InvalidArgument, match="has rates of its own"):
        with_schedule(curve, "linear", 0.1)
    with pytest.raises(InvalidArgument, match="at least the run's 20 steps"):
        with_schedule(bare, "linear", 0.1, total_steps=10)
    with pytest.raises(InvalidArgument, match=r"has no learning rates.*--schedule"):
        bare.rates()


@pytest.mark.parametrize(
    "wrong",
    [
        {"peak_lr": 0.0},
        {"peak_lr": float("nan")},
        {"total_steps": 0},
        {"warmup_steps": 10},
        {"final_share": 1.0},
        {"cooldown": 0.5},
        {"schedule": "wsd"},
        {"schedule": "wsd", "cooldown": 0.0},
    ],
)
def test_a_number_outside_its_range_is_named(wrong: dict):
    sound = {"schedule": "cosine", "peak_lr": 0.1, "total_steps": 10}
    assert len(scheduled(**sound)) == 10
    with pytest.raises(
        InvalidArgument, match=f"^{'cooldown' if 'schedule' in wrong else next(iter(wrong))}"
    ):
        scheduled(**(sound | wrong))
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        scheduled(**(sound | {"schedule": "cosin"}))
