"""Arguments that every scheduler shares, checked: each error names range, value and fix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import InvalidArgument, invalid, wrong_type
from ratewise.rules.checks import is_number
from ratewise.rules.schema import LARGEST_RATE

#: How far rates keep from the ends of their type: bounds and factors are multiples of them.
ROOM = 1e3


def check_optimizer(optimizer: Any) -> None:
    """Raise unless `optimizer` is one of torch's kind."""
    if not isinstance(optimizer, Optimizer):
        fix = "pass the optimizer whose rate is to be scheduled"
        raise wrong_type("optimizer", "a torch.optim.Optimizer", optimizer, fix)


def check_capture(decide_every: int, ramp: int, schedule: Any) -> None:
    """Raise where a step that a CUDA graph captures would not be like every other.

    Args:
        decide_every: steps a period.
        ramp: steps that are left of the ramp.
        schedule: an open-loop shape, or None.
    """
    if decide_every > 1 or ramp or schedule is not None:
        raise InvalidArgument(
            f"in a CUDA graph a step must be like every other, got decide_every={decide_every}, "
            f"{ramp} steps of the ramp left, schedule={schedule!r}: they count steps in Python, "
            "which no replay runs; capture with decide_every=1 and no schedule, once the ramp is "
            "over"
        )


def chosen_groups(groups: Any, count: int) -> list[int] | None:
    """Return the indices of the scheduled groups, or None for all of them, later ones included."""
    if groups is None:
        return None
    fix = f"pass different indices from 0 to {count - 1}"
    if isinstance(groups, str) or not isinstance(groups, Sequence) or not groups:
        raise wrong_type("groups", "a list of indices of parameter groups", groups, fix)
    legal = all(type(index) is int and 0 <= index < count for index in groups)
    if not legal or len(set(groups)) < len(groups):
        raise invalid("groups", f"indices below {count}", list(groups), fix)
    return list(groups)


def new_rates(lr: Any, count: int) -> list[float]:
    """Return one rate a group."""
    several = isinstance(lr, Sequence) and not isinstance(lr, str)
    rates = list(lr) if several else [lr] * count
    fix = "pass one number, or one a scheduled group"
    if len(rates) != count:
        raise invalid("lr", f"{count} numbers", rates, fix)
    for rate in rates:
        check_positive("lr", rate, fix)
    return [float(rate) for rate in rates]


def check_rate(index: int, rate: float) -> None:
    """Raise unless a parameter group's rate can be scheduled: torch takes NaN and infinity."""
    if not 0.0 <= rate <= LARGEST_RATE:
        allowed = f"a number in [0, {LARGEST_RATE:g}]"
        raise invalid("lr", f"{allowed} in parameter group {index}", rate, "pass e.g. lr=1e-3")


def check_scaled(name: str, factor: float, rates: Sequence[float], like: Any) -> None:
    """Raise where rates times a factor are infinite, or rounded to nothing, in their type.

    Args:
        name: of the factor.
        factor: > 0.
        rates: one group's; those that are 0 stay so.
        like: the group's rate as it lies there, a number or a tensor.
    """
    kind = torch.finfo(like.dtype if isinstance(like, Tensor) else torch.float64)
    least, most = kind.tiny * ROOM, min(kind.max / ROOM, LARGEST_RATE)
    for rate in rates:
        if rate and not least <= rate * factor <= most:
            allowed = f"one that leaves rates in [{least:.2g}, {most:.2g}]"
            raise invalid(name, allowed, factor, f"a rate of {rate:g} would leave them")


def check_positive(name: str, value: Any, fix: str) -> None:
    """Raise unless `value` is a finite number above 0."""
    if not is_number(value):
        raise wrong_type(name, "a number", value, fix)
    if not 0.0 < value < math.inf:
        raise invalid(name, "a finite number > 0", value, fix)
