"""Optimizers that choose the rate themselves, from gradients of it or from extra forward passes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratewise.optimizers.hypergradient import HypergradientAdam as HypergradientAdam
    from ratewise.optimizers.hypergradient import HypergradientSGD as HypergradientSGD
    from ratewise.optimizers.line_search import StochasticLineSearch as StochasticLineSearch

_HOMES = {
    "HypergradientAdam": "hypergradient",
    "HypergradientSGD": "hypergradient",
    "StochasticLineSearch": "line_search",
}
__all__ = ["HypergradientAdam", "HypergradientSGD", "StochasticLineSearch"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ratewise.optimizers' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ratewise.optimizers.{_HOMES[name]}"), name)
