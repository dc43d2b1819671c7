"""Optimizers by name, torch's own, each with its grid of base rates over three decades."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import unknown

#: name -> (class, keyword arguments, lowest rate of the grid)
_OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], float]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}, 1e-3),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.01}, 1e-4),
    "adagrad": (torch.optim.Adagrad, {}, 1e-3),
    "adafactor": (torch.optim.Adafactor, {}, 1e-3),
}


def names() -> list[str]:
    """Return the names of all optimizers.

    >>> names()
    ['sgd', 'adamw', 'adagrad', 'adafactor']
    """
    return list(_OPTIMIZERS)


def build(name: str, params: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer over `params` at base rate `lr`.

    Raises:
        UnknownName: no such optimizer.
    """
    kind, options, _ = _entry(name)
    return kind(params, lr=lr, **options)


def options(name: str) -> dict[str, Any]:
    """Return the keyword arguments other than the rate; part of a run's identity."""
    return dict(_entry(name)[1])


def grid(name: str, rates: int) -> list[float]:
    """Return base rates evenly spaced in the logarithm over three decades; one lies in the middle.

    >>> grid("adamw", 7)
    [0.0001, 0.000316, 0.001, 0.00316, 0.01, 0.0316, 0.1]
    >>> grid("sgd", 4)
    [0.001, 0.01, 0.1, 1.0]
    >>> grid("sgd", 1)
    [0.0316]
    """
    low = _entry(name)[2]
    if rates == 1:
        return [float(f"{low * 10**1.5:.3g}")]
    return [float(f"{low * 10 ** (3 * i / (rates - 1)):.3g}") for i in range(rates)]


def _entry(name: str) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], float]:
    if name not in _OPTIMIZERS:
        raise unknown("optimizer", name, _OPTIMIZERS)
    return _OPTIMIZERS[name]
