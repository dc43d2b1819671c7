"""The table of schedulers that the contract battery runs on: a new scheduler is a new row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.optim import Optimizer

from ratewise import GreedyLR


class Row(NamedTuple):
    """A scheduler with settings that make it act within a few steps."""

    name: str
    build: Callable[..., Any]
    options: dict[str, Any]

    def make(self, optimizer: Optimizer, **more: Any) -> Any:
        """Return a new scheduler on `optimizer`."""
        return self.build(optimizer, **{**self.options, **more})


QUICK: dict[str, Any] = {"factor": 0.5, "patience": 1, "window": 2}

ROWS = (
    Row("greedy", GreedyLR, {}),
    Row("greedy, quick", GreedyLR, QUICK),
    Row("greedy, stages", GreedyLR, {**QUICK, "warmup": 2, "cooldown": 2, "reset_after": 3}),
    Row("greedy on cosine", GreedyLR, {**QUICK, "anchor": "cosine", "total_steps": 60}),
    Row("greedy on a function", GreedyLR, {**QUICK, "anchor": lambda step: 1 / (1 + step)}),
    Row("like transformers", GreedyLR.like_transformers, {"min_lr": 1e-4, "patience": 1}),
)
