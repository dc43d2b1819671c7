"""What a saved optimizer must look like: checked whole, before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import RatewiseError
from ratewise.rules import schema

#: Takes a field's name, its value and the parameter that it belongs to; raises `InvalidState`.
Check = Callable[[str, Any, Tensor], None]


def check_saved(
    optimizer: Optimizer,
    state_dict: Any,
    fields: Mapping[str, Check],
    settings: Callable[[dict[str, Any]], None],
) -> None:
    """Raise unless a state dict has an optimizer's form, and legal values.

    How many groups and parameters there are is left to torch, which compares them itself.

    Args:
        optimizer: it is for.
        state_dict: what is to be loaded.
        fields: what each parameter may have, by name.
        settings: raises a `RatewiseError` where a group's settings are outside their ranges.

    Raises:
        InvalidState: the field, its range, and the value.
    """
    schema.require(isinstance(state_dict, dict), "state_dict", "a dict", state_dict)
    for name, kind in (("state", dict), ("param_groups", list)):
        value = state_dict.get(name)
        schema.require(
            isinstance(value, kind), f"state_dict[{name!r}]", f"a {kind.__name__}", value
        )
    for index, group in enumerate(state_dict["param_groups"]):
        where = f"state_dict['param_groups'][{index}]"
        schema.require(isinstance(group, dict), where, "a dict", group)
        keys = group.get("params")
        schema.require(isinstance(keys, list), f"{where}['params']", "a list", keys)
        _rate(f"{where}['lr']", group.get("lr"))
        try:
            settings({**optimizer.defaults, **group})
        except RatewiseError as error:
            schema.require(False, where, f"of legal settings ({error})", "others")
    saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
    parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    for key, parameter in zip(saved, parameters, strict=False):
        where = f"state_dict['state'][{key!r}]"
        entries = state_dict["state"].get(key, {})
        schema.require(isinstance(entries, dict), where, "a dict", entries)
        for name, value in entries.items():
            if name in fields:
                fields[name](f"{where}[{name!r}]", value, parameter)


def like_parameter(name: str, value: Any, parameter: Tensor) -> None:
    """Check a tensor of its parameter's shape; of any values, as gradients may have had them."""
    legal = isinstance(value, Tensor) and value.shape == parameter.shape
    legal = legal and value.is_floating_point()
    schema.require(legal, name, f"a tensor of shape {list(parameter.shape)}", _shown(value))


def rates(name: str, value: Any, parameter: Tensor) -> None:
    """Check one rate, or one for each of a parameter's weights."""
    shapes = (torch.Size(()), parameter.shape)
    legal = isinstance(value, Tensor) and value.shape in shapes and value.is_floating_point()
    schema.require(legal, name, "a tensor of a number, or of one a weight", _shown(value))
    finite = bool((torch.isfinite(value) & (value >= 0)).all())
    schema.require(finite, name, "of finite numbers >= 0", "others")


def steps(name: str, value: Any, parameter: Tensor) -> None:
    """Check a number of steps."""
    schema.count()(name, value)


def _rate(name: str, value: Any) -> None:
    """Check a group's rate, a number or a tensor of one."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = float(value)
    legal = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    schema.require(legal, name, "a finite number >= 0", _shown(value))


def _shown(value: Any) -> Any:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else value
