"""Schedulers beside, before and after others, through copies and pickles; one battery."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest
import torch
from tests.contracts.rules import ROWS, Row, every_row, follow, make_optimizer, metrics
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    ExponentialLR,
    MultiStepLR,
    SequentialLR,
)

from ratewise import GreedyConfig, GreedyLR

QUICK = next(row for row in ROWS if row.name == "greedy, quick")


def trained(optimizer: torch.optim.Optimizer) -> None:
    """Make one step with gradients."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


@every_row
@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_first_in_a_sequence_it_gives_the_rates_that_it_gives_alone(row: Row, tensor: bool):
    """`SequentialLR` resets the rates and makes the first step again: a ramp must not double."""
    optimizer = make_optimizer(0.01, 0.02, tensor=tensor)
    inner = row.make(optimizer)
    sequence = SequentialLR(optimizer, [inner, CosineAnnealingLR(optimizer, 50)], milestones=[30])
    alone = row.make(make_optimizer(0.01, 0.02, tensor=tensor))
    assert inner.get_last_lr() == alone.get_last_lr() == [0.01 * row.start, 0.02 * row.start]
    for loss in metrics(29):
        inner.observe(loss)
        sequence.step()
        alone.step(loss)
        assert [float(rate) for rate in inner.get_last_lr()] == [
            float(rate) for rate in alone.get_last_lr()
        ]


@every_row
@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
@pytest.mark.parametrize("other", ["steps", "exponential", "a hand"])
def test_what_others_made_of_the_rate_survives_a_resume_at_every_step(
    row: Row, tensor: bool, other: str
):
    """Also where no decision of ours has met it yet."""

    def build() -> Any:
        optimizer = make_optimizer(0.01, tensor=tensor)
        inner = row.make(optimizer)
        theirs = {
            "steps": lambda: MultiStepLR(optimizer, [5, 11]),
            "exponential": lambda: ExponentialLR(optimizer, 0.9),
            "a hand": lambda: MultiStepLR(optimizer, [10_000]),
        }[other]()
        return optimizer, inner, ChainedScheduler([inner, theirs], optimizer=optimizer)

    def go(parts: Any, first: int, last: int) -> list[float]:
        optimizer, inner, chain = parts
        seen = []
        for step in range(first, last):
            trained(optimizer)
            inner.observe(losses[step])
            chain.step()
            if other == "a hand" and step == 7:
                rate = optimizer.param_groups[0]["lr"]
                optimizer.param_groups[0]["lr"] = rate.mul_(0.3) if tensor else rate * 0.3
            seen.append(float(optimizer.param_groups[0]["lr"]))
        return seen

    losses = [torch.tensor(x, dtype=torch.float64) if tensor else x for x in metrics(20)]
    whole = go(build(), 0, 20)
    for stop in range(1, 20, 2 if tensor else 1):
        first = build()
        head = go(first, 0, stop)
        second = build()
        second[0].load_state_dict(copy.deepcopy(first[0].state_dict()))
        second[2].load_state_dict(copy.deepcopy(first[2].state_dict()))
        assert head + go(second, stop, 20) == whole, stop


@every_row
@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_a_copy_hears_its_own_optimizer_and_nobody_else_s(row: Row, how: str):
    if how == "pickle" and callable(row.options.get("schedule")):
        return  # a lambda cannot be pickled, by nobody
    scheduler = row.make(make_optimizer(0.01))
    for loss in metrics(7):
        trained(scheduler.optimizer)
        scheduler.step(loss)
    hooks = len(scheduler.optimizer._optimizer_step_post_hooks)
    twin = pickle.loads(pickle.dumps(scheduler)) if how == "pickle" else copy.deepcopy(scheduler)
    assert len(scheduler.optimizer._optimizer_step_post_hooks) == hooks
    assert twin.optimizer is not scheduler.optimizer
    for loss in metrics(20, seed=1):
        for one in (scheduler, twin):
            trained(one.optimizer)
            one.step(loss)
        assert twin.get_last_lr() == scheduler.get_last_lr()
    trained(scheduler.optimizer)
    before = twin.last_epoch
    twin.step(1.0)
    assert twin.last_epoch == before, "the other's step is not its own"


@every_row
def test_a_dropped_scheduler_leaves_nothing_on_its_optimizer(row: Row):
    optimizer = make_optimizer(0.01)
    for _ in range(3):
        scheduler = row.make(optimizer)
        assert optimizer._optimizer_step_post_hooks
        del scheduler
        gc.collect()
        assert not optimizer._optimizer_step_post_hooks
        assert not optimizer._optimizer_step_pre_hooks


def test_a_frozen_group_does_not_hide_the_floor():
    optimizer = make_optimizer(0.1, 0.0)
    scheduler = GreedyLR(
        optimizer, patience=0, window=1, factor=0.5, config=GreedyConfig(reset_after=3)
    )
    follow(scheduler, [1.0 + step for step in range(8)])
    assert "reset" in [event.reason for event in scheduler.events]
    assert all(event.old_lr != event.new_lr for event in scheduler.events)
    assert all(rates[1] == 0.0 for rates in follow(scheduler, metrics(20)))


def test_a_dropped_scheduler_s_successor_begins_where_the_rate_is():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    follow(QUICK.make(optimizer), metrics(20))
    rate = optimizer.param_groups[0]["lr"]
    assert QUICK.make(optimizer).get_last_lr() == [rate]
