"""Bad input to the hypergradient optimizers: a named error says what to type, before any change."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from ratewise.errors import InvalidArgument, UnknownName, WrongType
from ratewise.optimizers.hypergradient import HypergradientAdam, HypergradientSGD

INVALID, UNKNOWN = InvalidArgument, UnknownName
BOTH: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"hyper_lr": -1e-3}, INVALID, r"hyper_lr must be a finite number >= 0, got -0.001"),
    ({"hyper_lr": math.inf}, INVALID, "hyper_lr must be a finite number"),
    ({"hyper_lr": math.nan}, INVALID, "hyper_lr must be a finite number"),
    ({"hyper_lr": "1"}, INVALID, "hyper_lr must be a finite number"),
    ({"per": "layer"}, UNKNOWN, "known: element, group, model, tensor"),
    ({"per": ["group"]}, UNKNOWN, "known: element, group, model, tensor"),
    ({"form": "multiply"}, UNKNOWN, "did you mean 'multiplicative'.* known: additive, "),
    ({"normalize": "yes"}, INVALID, "normalize must be None, True or False"),
    ({"normalize": 1}, INVALID, "normalize must be None, True or False"),
    ({"foreach": 0}, INVALID, "foreach must be None, True or False"),
    ({"maximize": 1}, INVALID, "maximize must be True or False"),
    ({"lr": -0.1}, INVALID, "lr must be a finite number >= 0, got -0.1: pass"),
    ({"lr": math.nan}, INVALID, "lr must be a finite number"),
    ({"lr": math.inf}, INVALID, "lr must be a finite number"),
    ({"lr": True}, WrongType, "lr must be a number"),
    ({"lr": torch.tensor(0.1)}, WrongType, "lr must be a number, got Tensor: pass a float"),
    ({"lr": 0.1, "max_lr": 0.01}, INVALID, r"lr must be in \[min_lr, max_lr\] = \[0.0, 0.01\]"),
    ({"lr": 0.1, "min_lr": 0.2}, INVALID, r"lr must be in .* widen min_lr and max_lr"),
    ({"min_lr": -1.0}, INVALID, "min_lr must be a finite number >= 0"),
    ({"min_lr": math.inf}, INVALID, "min_lr must be a finite number >= 0"),
    ({"min_lr": 0.2, "max_lr": 0.1}, INVALID, "max_lr must be a number >= min_lr=0.2, got 0.1"),
    ({"max_lr": math.nan}, INVALID, "max_lr must be a number >= min_lr"),
    ({"weight_decay": -1.0}, INVALID, "weight_decay must be a finite number >= 0"),
]
OF_SGD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"momentum": -0.1}, INVALID, "momentum must be a finite number >= 0"),
    ({"momentum": math.nan}, INVALID, "momentum must be a finite number >= 0"),
    ({"dampening": 1.5}, INVALID, r"dampening must be a number in \[0, 1\], got 1.5"),
    ({"nesterov": True}, INVALID, "nesterov must be with momentum > 0 and dampening 0"),
    (
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        INVALID,
        "got 'momentum=0.9 and dampening=0.1'",
    ),
]
OF_ADAM: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"betas": (0.9, 1.0)}, INVALID, r"betas must be two numbers in \[0, 1\)"),
    ({"betas": 0.9}, INVALID, r"betas must be two numbers in \[0, 1\)"),
    ({"betas": (0.9,)}, INVALID, r"betas must be two numbers in \[0, 1\)"),
    ({"betas": (-0.1, 0.9)}, INVALID, r"betas must be two numbers in \[0, 1\)"),
    ({"eps": -1e-8}, INVALID, "eps must be a finite number >= 0"),
    ({"eps": math.nan}, INVALID, "eps must be a finite number >= 0"),
]
ROWS = [(HypergradientSGD, *row) for row in BOTH + OF_SGD]
ROWS += [(HypergradientAdam, *row) for row in BOTH + OF_ADAM]


def weight() -> nn.Parameter:
    return nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(("kind", "settings", "error", "words"), ROWS)
def test_a_bad_setting_of_the_optimizer(
    kind: Any, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        kind([weight()], **settings)


@pytest.mark.parametrize(("kind", "settings", "error", "words"), ROWS)
def test_a_bad_setting_of_a_group_that_is_added(
    kind: Any, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    optimizer = kind([weight()])
    if "per" in settings:
        error, words = InvalidArgument, "per must be 'group' in every group"
    before = str(optimizer.state_dict())
    with pytest.raises(error, match=words):
        optimizer.add_param_group({"params": [weight()], **settings})
    assert str(optimizer.state_dict()) == before


@pytest.mark.parametrize("kind", [HypergradientSGD, HypergradientAdam])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"lr": 0.1}, {}),
        ({}, {"lr": 0.1}),
        ({}, {"hyper_lr": 1e-9}),
        ({}, {"form": "multiplicative"}),
        ({}, {"max_lr": 0.5}),
    ],
)
def test_groups_of_one_model_rate_must_start_and_move_alike(
    kind: Any, one: dict[str, Any], other: dict[str, Any]
) -> None:
    [name] = {**one, **other}
    rows = [{"params": [weight()], **one}, {"params": [weight()], **other}]
    with pytest.raises(InvalidArgument, match=f"^{name} must be .* use per='group'"):
        kind(rows, per="model")
    kind(rows, per="group")


def test_groups_of_one_model_rate_may_name_it() -> None:
    rows = [{"params": [weight()], "lr": 0.1}, {"params": [weight()], "lr": 0.1}]
    optimizer = HypergradientSGD(rows, per="model")
    assert [rate.item() for rate in optimizer.rates()] == [0.1]


class Shard(nn.Parameter):
    """Looks like a parameter of `torch.distributed.tensor`."""

    placements = ("Shard(0)",)


def flattened() -> nn.Parameter:
    p = weight()
    p._fsdp_flattened = True  # type: ignore[attr-defined]
    return p


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (nn.Parameter(torch.ones(2, dtype=torch.complex64)), "real tensors.*view_as_real"),
        (nn.Parameter(torch.eye(2).to_sparse()), "dense tensors"),
        (Shard(torch.ones(2)), "whole tensors, got 'a shard, Shard'.*DistributedDataParallel"),
        (flattened(), "whole tensors"),
    ],
)
def test_parameters_that_have_no_whole_real_gradient(p: nn.Parameter, words: str) -> None:
    optimizer = HypergradientSGD([weight()])
    with pytest.raises(InvalidArgument, match=f"params must be {words}"):
        HypergradientSGD([p])
    for params in ([p], p, [("name", p)]):
        with pytest.raises(InvalidArgument, match=f"params must be {words}"):
            optimizer.add_param_group({"params": params})
    assert len(optimizer.param_groups) == 1


def test_torchs_own_complaints_about_parameters_stay() -> None:
    with pytest.raises(ValueError, match="empty"):
        HypergradientSGD([])
    with pytest.raises(TypeError, match="iterable"):
        HypergradientSGD(3)
    optimizer = HypergradientSGD([p := weight()])
    with pytest.raises(TypeError, match="only optimize Tensors"):
        optimizer.add_param_group({"params": [1.0]})
    with pytest.raises(ValueError, match="more than one"):
        optimizer.add_param_group({"params": [p]})
    with pytest.raises(TypeError, match="ordered"):
        optimizer.add_param_group({"params": {weight()}})
    with pytest.raises(WrongType, match="param_group must be a dict, got list"):
        optimizer.add_param_group([weight()])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [HypergradientSGD, HypergradientAdam])
def test_a_sparse_gradient_is_refused_before_anything_moves(kind: Any) -> None:
    first, table = nn.Linear(3, 3), nn.Embedding(5, 3, sparse=True)
    optimizer = kind([*first.parameters(), *table.parameters()])
    dense = torch.ones(5, 3)
    for step in range(2):
        optimizer.zero_grad()
        first(table(torch.tensor([1, 2]))).sum().backward()
        if step == 0:
            table.weight.grad = dense
            optimizer.step()
    before = copy.deepcopy((list(first.parameters()), table.weight, optimizer.state_dict()))
    with pytest.raises(InvalidArgument, match=r"gradients must be dense.*sparse=False"):
        optimizer.step()
    after = (list(first.parameters()), table.weight, optimizer.state_dict())
    assert str(after) == str(before)
