"""The rate's arithmetic of hypergradient descent: settings, inner products, and one move."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import invalid, unknown, wrong_type
from ratewise.rules.checks import check_amount, is_number

#: What has a rate of its own.
PER = ("model", "group", "tensor", "element")
FORMS = ("additive", "multiplicative")
#: What the groups of an optimizer with per="model" have in common, since they share one rate.
SHARED = ("lr", "hyper_lr", "form", "normalize", "min_lr", "max_lr")
_NARROW = (torch.float16, torch.bfloat16)


def check_settings(group: Mapping[str, Any]) -> None:
    """Raise unless a group's settings of how its rate moves are in their ranges.

    Raises:
        InvalidArgument, UnknownName: a setting outside its range.
    """
    check_amount("hyper_lr", group["hyper_lr"])
    check_amount("weight_decay", group["weight_decay"])
    if group["form"] not in FORMS:
        raise unknown("form", group["form"], FORMS)
    for name, known in {"normalize": (None, True, False), "foreach": (None, True, False)}.items():
        if not any(group[name] is value for value in known):
            raise invalid(name, "None, True or False", group[name], "pass None for the default")
    if not isinstance(group["maximize"], bool):
        raise invalid("maximize", "True or False", group["maximize"], "pass False to minimize")
    low, high = group["min_lr"], group["max_lr"]
    if not (is_number(low) and 0.0 <= low < math.inf):
        raise invalid("min_lr", "a finite number >= 0", low, "pass 0.0 for no lower bound")
    if not (is_number(high) and high >= low):
        raise invalid("max_lr", f"a number >= min_lr={low}", high, "pass math.inf for no bound")


def check_lr(group: Mapping[str, Any]) -> None:
    """Raise unless a group's starting rate is a number within its bounds.

    >>> check_lr({"lr": 2.0, "min_lr": 0.0, "max_lr": 1.0})
    Traceback (most recent call last):
        ...
    ratewise.errors.InvalidArgument: lr must be in [min_lr, max_lr] = [0.0, 1.0], got 2.0: ...
    """
    rate, low, high = group["lr"], group["min_lr"], group["max_lr"]
    if not is_number(rate):
        raise wrong_type("lr", "a number", rate, "pass a float; it becomes a tensor here")
    if not 0.0 <= rate < math.inf:
        raise invalid("lr", "a finite number >= 0", rate, "pass e.g. 1e-3")
    if not low <= rate <= high:
        fix = "move lr inside, or widen min_lr and max_lr"
        raise invalid("lr", f"in [min_lr, max_lr] = [{low}, {high}]", rate, fix)


def normalizes(group: Mapping[str, Any]) -> bool:
    """Return whether inner products are divided by norms; None is as in the paper."""
    chosen = group["normalize"]
    return group["form"] == "multiplicative" if chosen is None else bool(chosen)


def rate_dtype(per: str, like: Tensor | None) -> torch.dtype:
    """Return the dtype of a rate.

    One number is a float64: with Adam's `hyper_lr` of 1e-7 most moves are below the last digit of
    a float32 rate. One a weight is what the weight is, and at least float32, to spare memory.
    """
    if per == "element" and like is not None:
        return torch.promote_types(like.dtype, torch.float32)
    # Apple's GPUs have no float64.
    return torch.float32 if like is not None and like.device.type == "mps" else torch.float64


def widened(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return 16-bit tensors in float32 and others as they are: sums and rates need the digits."""
    return [tensor.float() if tensor.dtype in _NARROW else tensor for tensor in tensors]


def terms(
    gradients: Sequence[Tensor], directions: Sequence[Tensor], normalize: bool, foreach: bool
) -> Tensor:
    """Return each pair's g.d, and where norms are needed g.g and d.d below it, [1 or 3, pairs].

    >>> terms([torch.tensor([3.0, 4.0])], [torch.tensor([1.0, 0.0])], True, False)
    tensor([[ 3.],
            [25.],
            [ 1.]])
    """
    left, right = widened(gradients), widened(directions)
    products: Iterable[Tensor] = (
        torch._foreach_mul(left, right)
        if foreach
        else (g * d for g, d in zip(left, right, strict=True))
    )
    rows = [torch.stack([product.sum() for product in products])]
    for side in (left, right) if normalize else ():
        norms = (
            torch._foreach_norm(side)
            if foreach
            else [torch.linalg.vector_norm(tensor) for tensor in side]
        )
        rows.append(torch.stack(list(norms)).square())
    return torch.stack(rows)


def hypergradient(rows: Tensor) -> Tensor:
    """Return h = g.d, divided by norms where `terms` came with them; 0/0 is 0.

    >>> hypergradient(torch.tensor([[3.0, 0.0], [25.0, 0.0], [1.0, 1.0]]))
    tensor([0.6000, 0.0000])
    """
    if len(rows) == 1:
        return rows[0]
    norms = rows[1].sqrt() * rows[2].sqrt()
    return torch.where(norms == 0, 0.0, rows[0] / norms)


def elementwise(gradient: Tensor, direction: Tensor, normalize: bool) -> Tensor:
    """Return each weight's h, in at least float32; of one number, g d / (|g| |d|) is a sign.

    >>> sides = torch.tensor([3.0, 0.0, torch.inf]), torch.tensor([-2.0, 1.0, 1.0])
    >>> elementwise(*sides, normalize=True)
    tensor([-1.,  0., nan])
    """
    left, right = widened([gradient, direction])
    product = left * right
    if not normalize:
        return product
    # By signs, since products of small numbers are 0; but inf / inf has none, as in `moved`.
    return torch.where(product.isfinite(), left.sign() * right.sign(), torch.nan)


def moved(rate: Tensor, h: Tensor, group: Mapping[str, Any]) -> Tensor:
    """Return the rate after one move, within its bounds; where h is not finite, as it was.

    >>> bounds = {"min_lr": 0.0, "max_lr": 1.0}
    >>> h = torch.tensor([1.0, 9.0, torch.nan])
    >>> moved(torch.full((3,), 0.5), h, {"hyper_lr": 0.1, "form": "additive", **bounds})
    tensor([0.6000, 1.0000, 0.5000])
    """
    change = group["hyper_lr"] * h
    new = rate + change if group["form"] == "additive" else rate * (1 + change)
    # Chosen on the device: to ask whether h is finite would make the host wait for it.
    return torch.where(torch.isfinite(new), new.clamp(group["min_lr"], group["max_lr"]), rate)
