"""Explanations and errors call a parameter by its name, where the optimizer knows it."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import nn

from ratewise import LearnedLR, UpdateRatioLR
from ratewise.errors import InvalidState


class Net(nn.Module):
    """Two layers with names."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer1 = nn.Linear(3, width)
        self.layer2 = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(torch.relu(self.layer1(x)))


def named(optimizer: type[torch.optim.Optimizer], parameters: Any) -> torch.optim.Optimizer:
    """Return an optimizer of named parameters."""
    return optimizer(parameters, lr=0.1)


def explained(scheduler: Any, model: nn.Module) -> str:
    """Return what the scheduler explains after three steps."""
    for _ in range(3):
        scheduler.optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().mean()
        loss.backward()
        scheduler.optimizer.step()
        scheduler.step(loss)
    said = io.StringIO()
    scheduler.explain(file=said)
    return said.getvalue()


@pytest.mark.parametrize("make", [UpdateRatioLR, LearnedLR])
def test_a_parameter_is_called_by_its_name(make: Any):
    model = Net()
    said = explained(
        make(named(torch.optim.AdamW, model.named_parameters()), total_steps=100), model
    )
    for name in dict(model.named_parameters()):
        assert f"  {name} (" in said
    assert "  parameter " not in said


def test_without_names_it_is_called_by_its_position():
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    said = explained(UpdateRatioLR(optimizer, total_steps=100), model)
    assert "  parameter 3 (1,)" in said
    assert "layer2" not in said


def test_groups_of_named_parameters_keep_their_order():
    model = Net()
    groups = [
        {"params": model.layer2.named_parameters(prefix="layer2")},
        {"params": model.layer1.named_parameters(prefix="layer1"), "lr": 0.01},
    ]
    said = explained(UpdateRatioLR(named(torch.optim.SGD, groups), total_steps=100), model)
    for name, parameter in model.named_parameters():
        assert f"  {name} {tuple(parameter.shape)}: " in said


def test_a_state_of_another_shape_is_named_too():
    before, after = Net(4), Net(5)
    state = UpdateRatioLR(named(torch.optim.SGD, before.named_parameters())).state_dict()
    scheduler = UpdateRatioLR(named(torch.optim.SGD, after.named_parameters()))
    with pytest.raises(
        InvalidState, match=r"layer1\.weight was of shape \[4, 3\].*of \[5, 3\] now"
    ):
        scheduler.load_state_dict(state)
