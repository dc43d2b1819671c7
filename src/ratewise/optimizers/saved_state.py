"""Checks of an optimizer's saved state before torch loads it, which compares only sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ratewise.rules import schema

#: What a parameter's state may have: tensors of its shape, and those that are not.
TENSORS = ("direction", "momentum_buffer", "exp_avg", "exp_avg_sq")
_FORM = schema.several(schema.count())


def check_state(
    state_dict: Any,
    groups: Sequence[dict[str, Any]],
    *,
    together: tuple[str, ...] = (),
    elementwise: bool = False,
) -> list[dict[str, Any]]:
    """Return the groups of a state dict, after checking everything that these optimizers keep.

    Torch checks the numbers of groups and parameters itself.

    Args:
        state_dict: the state to load.
        groups: the optimizer's own, whose parameters the state must fit.
        together: what a parameter that has any memory must have.
        elementwise: a parameter's own rate is of its shape, and not one number.

    Raises:
        InvalidState: a field is missing, unknown, or outside its range.
    """
    schema.require(isinstance(state_dict, dict), "state_dict", "a dict", state_dict)
    for name, kind, words in (("state", dict, "a dict"), ("param_groups", list, "a list")):
        value = state_dict.get(name)
        schema.require(isinstance(value, kind), f"state_dict[{name!r}]", words, value)
    saved: list[dict[str, Any]] = state_dict["param_groups"]
    for index, group in enumerate(saved):
        where = f"state_dict['param_groups'][{index}]"
        schema.require(isinstance(group, dict), where, "a dict", group)
        _FORM(f"{where}['params']", group.get("params"))
        for name, value in group.items():
            if name not in ("params", "lr"):
                _check_setting(f"{where}[{name!r}]", value)
        _check_rate(f"{where}['lr']", group.get("lr"), torch.Size())
    keys = [key for group in saved for key in group["params"]]
    parameters = [parameter for group in groups for parameter in group["params"]]
    shapes = dict(zip(keys, (parameter.shape for parameter in parameters), strict=False))
    for key, entry in state_dict["state"].items():
        where = f"state_dict['state'][{key!r}]"
        schema.require(
            key in keys, where, "of a parameter that state_dict['param_groups'] has", key
        )
        schema.require(isinstance(entry, dict), where, "a dict", entry)
        lacking = set(together) - entry.keys() if entry.keys() - {"lr", "direction"} else ()
        schema.require(not lacking, where, f"a dict that has {sorted(lacking)}", sorted(entry))
        shape = shapes.get(key, torch.Size())
        for name, value in entry.items():
            there = f"{where}[{name!r}]"
            if name == "lr":
                schema.require(isinstance(value, Tensor), there, "a tensor", value)
                _check_rate(there, value, shape if elementwise else torch.Size())
            else:
                _check_entry(there, name, value, shape)
    return saved


def _check_setting(where: str, value: Any) -> None:
    """Check that a setting is small plain data; the optimizer checks its range."""
    if isinstance(value, list | tuple):
        schema.several(schema.real, most=9)(where, list(value))
    elif not isinstance(value, Tensor):
        schema.plain(where, value)


def _check_entry(where: str, name: object, value: Any, shape: torch.Size) -> None:
    if name == "step":
        schema.count(1)(where, value)
    else:
        schema.require(name in TENSORS, where, f"one of {TENSORS}, 'step' and 'lr'", name)
        legal = isinstance(value, Tensor) and value.is_floating_point() and value.shape == shape
        schema.require(legal, where, f"a float tensor of shape {tuple(shape)}", value)


def _check_rate(where: str, value: Any, shape: torch.Size) -> None:
    """Check a rate: a number, or a tensor of a shape."""
    if not isinstance(value, Tensor):
        schema.number(0.0)(where, value)
        return
    legal = value.is_floating_point() and value.shape == shape
    schema.require(legal, where, f"a number, or floats of shape {tuple(shape)}", value.shape)
    sound = bool((torch.isfinite(value) & (value >= 0)).all())
    schema.require(sound, where, "finite numbers >= 0", value)
