"""Groups that nobody schedules, losses of odd kinds, and rates that no number can hold."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ratewise import GreedyLR, LearnedLR, SpikeGuard, UpdateRatioLR
from ratewise.errors import InvalidArgument, WrongType


class Grown:
    """A scheduler of the first group, on an optimizer that has got another one since."""

    def __init__(self, kind: Any, **settings: Any) -> None:
        self.model = nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scheduler = kind(self.optimizer, groups=[0], **settings)
        late = nn.Linear(1, 1)
        self.model.add_module("late", late)
        self.optimizer.add_param_group({"params": late.parameters(), "lr": 0.03})

    def bases(self) -> list[float]:
        return [float(rate) for rate in self.scheduler.base_lrs]


KINDS = [(GreedyLR, {}), (UpdateRatioLR, {}), (LearnedLR, {"total_steps": 20})]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_a_group_that_is_not_scheduled_needs_no_initial_rate(kind: Any, settings: Any):
    grown = Grown(kind, **settings)
    grown.scheduler.load_state_dict(copy.deepcopy(grown.scheduler.state_dict()))
    grown.scheduler.rescale(0.5)
    assert grown.bases() == [0.05, 0.03]
    assert [group["lr"] for group in grown.optimizer.param_groups] == [0.05, 0.03]
    assert "initial_lr" not in grown.optimizer.param_groups[1], "it is nobody's to schedule"


def test_a_guard_brings_back_a_scheduler_of_some_groups():
    grown = Grown(GreedyLR)
    guard = SpikeGuard(grown.model, grown.optimizer, grown.scheduler, tolerate=0)
    assert guard.spiked(math.nan)
    assert [group["lr"] for group in grown.optimizer.param_groups] == [0.05, 0.03]


ODD = {
    "sparse": torch.tensor([0.5]).to_sparse(),
    "sparse scalar": torch.tensor(0.5).to_sparse(),
    "csr": torch.tensor([[0.5]]).to_sparse_csr(),
    "quantized": torch.quantize_per_tensor(torch.tensor([0.5]), 0.1, 0, torch.quint8),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("loss", ODD.values(), ids=ODD)
@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_a_loss_of_an_odd_kind_is_named_and_changes_nothing(loss: Tensor, tensor: bool):
    rate = torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1
    layer = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate)
    scheduler = GreedyLR(optimizer)
    guard = SpikeGuard(layer, optimizer, scheduler)
    before = repr(scheduler.state_dict())
    for hear in (scheduler.step, scheduler.observe, guard.spiked):
        with pytest.raises(WrongType, match=r"pass loss.to_dense\(\) or loss.dequantize\(\)"):
            hear(loss)
    assert repr(scheduler.state_dict()) == before


@pytest.mark.parametrize(("kind", "settings"), KINDS)
@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_a_rate_is_never_rescaled_out_of_what_a_number_holds(
    kind: Any, settings: Any, factor: float
):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = kind(optimizer, **settings)
    scheduler.rescale(factor**0.05)
    before = repr(scheduler.state_dict())
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="factor must be one that leaves rates in"):
            scheduler.rescale(factor)
    assert repr(scheduler.state_dict()) == before


@pytest.mark.parametrize("factor", [1e25, 1e-38])
def test_a_rate_in_float32_is_kept_within_float32(factor: float):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=torch.tensor(1e6))
    scheduler = GreedyLR(optimizer)
    if factor < 1:
        scheduler.rescale(1e-6)
    with pytest.raises(InvalidArgument, match="factor"):
        scheduler.rescale(factor)


def test_what_is_within_the_limits_is_done():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.0625)
    scheduler = GreedyLR(optimizer)
    for factor in (2.0**60, 2.0**-120, 2.0**60):
        scheduler.rescale(factor)
    assert scheduler.get_last_lr() == [0.0625]


@pytest.mark.parametrize("rate", [math.nan, math.inf, 1e31])
@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_a_rate_that_is_no_rate_is_refused(kind: Any, settings: Any, rate: float):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=rate)
    with pytest.raises(InvalidArgument, match="lr must be a number in"):
        kind(optimizer, **settings)
