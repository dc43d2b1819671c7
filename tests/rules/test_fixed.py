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


def test_names_what_is_wrong():
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        fixed_scale("cosin", 0, 10)
    for total in (0, -1, 2.5, True):
        with pytest.raises(InvalidArgument, match="total_steps must be an integer >= 1"):
            fixed_scale("cosine", 0, total)
