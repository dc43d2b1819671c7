"""What UpdateRatioLR is for: any starting rate within three decades ends near a tuned cosine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from ratewise import UpdateRatioLR

STEPS = 300
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], float]] = {
    "adamw": (torch.optim.AdamW, 3e-3),
    "sgd": (lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9), 0.1),
}


def ours(optimizer: torch.optim.Optimizer) -> Any:
    return UpdateRatioLR(optimizer, total_steps=STEPS)


def cosine(optimizer: torch.optim.Optimizer) -> Any:
    return CosineAnnealingLR(optimizer, STEPS)


def held_out_loss(name: str, rate: float, schedule: Callable[..., Any]) -> float:
    """Train a small network on 1200 digits, and return its loss on the other 597."""
    images, labels = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = OPTIMIZERS[name][0](model.parameters(), lr=rate)
    scheduler = schedule(optimizer)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        batch = torch.randint(1200, (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x[1200:]), y[1200:]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rates_a_thousandfold_apart_end_at_one_loss_near_tuned_cosine_s(name: str):
    middle = OPTIMIZERS[name][1]
    rates = [middle / 1000**0.5, middle, middle * 1000**0.5]
    losses = [held_out_loss(name, rate, ours) for rate in rates]
    tuned = min(held_out_loss(name, middle * 3.0**k, cosine) for k in range(-3, 4))
    assert max(losses) <= 1.01 * min(losses)
    assert max(losses) <= 1.15 * tuned, "measured: 1.05 (AdamW) and 1.07 (SGD)"
    control = [held_out_loss(name, rate, cosine) for rate in rates]
    assert max(control) > 5 * min(control), "the rule off: the rate matters"
