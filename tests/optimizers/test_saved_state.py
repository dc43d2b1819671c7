"""States with impossible values are refused by name, and change nothing."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from ratewise.errors import InvalidArgument, InvalidState
from ratewise.optimizers import HypergradientAdam, HypergradientSGD, StochasticLineSearch


def made(kind: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    makers: dict[str, Any] = {
        "sgd": lambda p: HypergradientSGD(p, lr=0.1, momentum=0.9),
        "sgd-tensor": lambda p: HypergradientSGD(p, lr=0.1, per="tensor"),
        "adam-element": lambda p: HypergradientAdam(p, lr=0.1, per="element"),
        "adam-model": lambda p: HypergradientAdam(p, lr=0.1, per="model"),
        "search": lambda p: StochasticLineSearch(p, direction="adam", betas=(0.5, 0.9)),
    }
    return net, makers[kind](net.parameters())


def trained(kind: str, steps: int = 3) -> tuple[nn.Module, Any]:
    net, optimizer = made(kind)
    for _ in range(steps):
        step(net, optimizer)
    return net, optimizer


def step(net: nn.Module, optimizer: Any) -> None:
    def loss() -> torch.Tensor:
        return net(torch.eye(3)).square().mean()

    if isinstance(optimizer, StochasticLineSearch):
        optimizer.step(loss)
        return
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def put(state: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        state = state[key]
    state[path[-1]] = value


GROUP, FIRST = ("param_groups", 0), ("state", 0)
COMMON: list[tuple[tuple[Any, ...], Any]] = [
    (("state",), 3),
    (("param_groups",), None),
    (("param_groups",), [3]),
    ((*GROUP, "params"), 7),
    ((*GROUP, "lr"), math.nan),
    ((*GROUP, "lr"), -5.0),
    ((*GROUP, "lr"), math.inf),
    ((*GROUP, "lr"), "x"),
    (FIRST, "x"),
]
HYPER: list[tuple[tuple[Any, ...], Any]] = [
    ((*GROUP, "hyper_lr"), -1.0),
    ((*GROUP, "max_lr"), "x"),
    ((*GROUP, "per"), "weight"),
    ((*FIRST, "direction"), torch.ones(5)),
    ((*FIRST, "direction"), "x"),
]
ADAM: list[tuple[tuple[Any, ...], Any]] = [
    ((*GROUP, "betas"), (2.0, 0.9)),
    ((*FIRST, "step"), -1),
    ((*FIRST, "step"), "x"),
    ((*FIRST, "exp_avg"), torch.ones(5)),
    ((*FIRST, "exp_avg_sq"), None),
]
OWN_RATE: list[tuple[tuple[Any, ...], Any]] = [
    ((*FIRST, "lr"), torch.tensor(-1.0)),
    ((*FIRST, "lr"), torch.tensor(math.nan)),
    ((*FIRST, "lr"), torch.ones(5)),
    ((*FIRST, "lr"), 0.1),
]
SEARCH: list[tuple[tuple[Any, ...], Any]] = [
    (("state", "search", "rate"), math.nan),
    (("state", "search", "rate"), -1.0),
    (("state", "search", "rate"), "x"),
    (("state", "search", "forward_passes"), -3),
    (("state", "search", "checked"), "x"),
    (("state", "search"), [1]),
    (("state", "search", "config", "max_trials"), 2.5),
]
CASES = [
    (kind, path, value)
    for kind, fields in {
        "sgd": COMMON + HYPER,
        "sgd-tensor": COMMON + HYPER + OWN_RATE,
        "adam-element": COMMON + HYPER + ADAM + OWN_RATE,
        "adam-model": COMMON + HYPER + ADAM,
        "search": COMMON + ADAM + SEARCH,
    }.items()
    for path, value in fields
]


@pytest.mark.parametrize(("kind", "path", "value"), CASES)
def test_an_impossible_value_is_refused_and_changes_nothing(
    kind: str, path: tuple[Any, ...], value: Any
):
    state = copy.deepcopy(trained(kind)[1].state_dict())
    put(state, path, value)
    net, optimizer = trained(kind, steps=1)
    twin_net, twin = trained(kind, steps=1)
    with pytest.raises(InvalidState):
        optimizer.load_state_dict(state)
    step(net, optimizer)
    step(twin_net, twin)
    assert torch.equal(net.weight, twin_net.weight)


@pytest.mark.parametrize("kind", ["sgd", "sgd-tensor", "adam-element", "adam-model", "search"])
def test_a_state_as_it_was_saved_is_taken(kind: str):
    net, optimizer = trained(kind)
    state = copy.deepcopy(optimizer.state_dict())
    other, resumed = made(kind)
    other.load_state_dict(net.state_dict())
    resumed.load_state_dict(state)
    step(net, optimizer)
    step(other, resumed)
    assert torch.equal(net.weight, other.weight)


@pytest.mark.parametrize("state", [None, [], 3, {}])
@pytest.mark.parametrize("kind", ["sgd", "search"])
def test_what_is_no_state_dict_is_refused(kind: str, state: Any):
    with pytest.raises(InvalidState):
        made(kind)[1].load_state_dict(state)


def test_a_group_without_parameters_is_named():
    with pytest.raises(InvalidArgument, match="a dict with 'params'"):
        made("sgd")[1].add_param_group({"lr": 0.1})
