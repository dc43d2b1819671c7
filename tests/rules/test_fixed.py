"""Open-loop anchors: the curves that torch's own schedulers draw, and named errors."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler

from ratewise.errors import InvalidArgument, UnknownName
from ratewise.rules.fixed import FIXED, fixed_scale

STEPS = 70

TORCH = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1.0),
    "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=STEPS),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=2.0),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / STEPS)),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, STEPS // 7, 2),
}


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)


@pytest.mark.parametrize("name", TORCH)
def test_equals_torch(name):
    opt = optimizer()
    scheduler = TORCH[name](opt)
    for step in range(STEPS):
        assert fixed_scale(name, step, STEPS) == pytest.approx(
            scheduler.get_last_lr()[0], rel=1e-9, abs=1e-9
        )
        opt.step()
        scheduler.step()


@pytest.mark.parametrize("name", FIXED)
def test_starts_at_one_stays_in_bounds_and_holds_past_the_end(name):
    scales = [fixed_scale(name, step, STEPS) for step in range(STEPS + 20)]
    assert scales[0] == 1.0
    assert all(0.0 <= scale <= 1.0 for scale in scales)
    assert set(scales[STEPS:]) == {scales[STEPS]}


def test_the_end_falls_over_the_share_that_is_named():
    scales = [fixed_scale("stable-decay:0.5", step, 8) for step in range(9)]
    assert scales == [1.0] * 5 + [0.75, 0.5, 0.25, 0.0]
    assert fixed_scale("stable-decay:1", 2, 8) == fixed_scale("linear", 2, 8)
    for step in range(STEPS + 1):
        assert fixed_scale("stable-decay:0.2", step, STEPS) == fixed_scale(
            "stable-decay", step, STEPS
        )
    for share in ("0", "1.5", "nan", "", "-0.1", "inf", "a"):
        with pytest.raises(InvalidArgument, match=r"stable-decay:SHARE with a share in \(0, 1\]"):
            fixed_scale(f"stable-decay:{share}", 0, 8)
    with pytest.raises(UnknownName, match=r"unknown schedule 'cosine:0\.3'"):
        fixed_scale("cosine:0.3", 0, 8)


def test_names_what_is_wrong():
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        fixed_scale("cosin", 0, 10)
    for total in (0, -1, 2.5, True):
        with pytest.raises(InvalidArgument, match="total_steps must be an integer >= 1"):
            fixed_scale("cosine", 0, total)
