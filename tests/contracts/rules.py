"""The table of schedulers that the contract battery runs on: a new scheduler is a new row."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from tests.rules.policies import random_policy
from torch.optim import Optimizer

from ratewise import GreedyConfig, GreedyLR, LearnedLR, PlannedLR, UpdateRatioLR
from ratewise.rules.plan import Plan
from ratewise.schedulers.metric_lr import MetricLR


class Row(NamedTuple):
    """A scheduler with settings that make it act within a few steps."""

    name: str
    build: Callable[..., Any]
    options: dict[str, Any]
    start: float = 1.0  #: the first rate, as a multiple of the base rate
    late: int = 0  #: steps by which its first decision is held back

    def takes(self, argument: str) -> bool:
        """Return whether it has a constructor's argument of that name."""
        return argument in inspect.signature(self.build).parameters

    def make(self, optimizer: Optimizer, **more: Any) -> Any:
        """Return a new scheduler on `optimizer`."""
        return self.build(optimizer, **{**self.options, **more})


QUICK: dict[str, Any] = {
    "factor": 0.5,
    "patience": 1,
    "window": 2,
    "config": GreedyConfig(reference="previous"),
}
#: Short stretches, and those without a trend lower the rate, so that it moves often.
WAITS = GreedyConfig("significance", factor=0.8, window=7, plateau="bad")
STAGES: dict[str, Any] = {
    **QUICK,
    "warmup": 2,
    "cooldown": 2,
    "config": GreedyConfig(reference="previous", reset_after=3),
}

ROWS = (
    Row("greedy", GreedyLR, {}),
    Row("greedy, quick", GreedyLR, QUICK),
    Row("greedy, stages", GreedyLR, STAGES),
    Row("greedy on cosine", GreedyLR, {**QUICK, "schedule": "cosine", "total_steps": 60}),
    Row("greedy on a function", GreedyLR, {**QUICK, "schedule": lambda step: 1 / (1 + step)}),
    Row("greedy, significance", GreedyLR, {"config": WAITS}),
    Row(
        "greedy, significance, annealed",
        GreedyLR,
        {
            "config": WAITS,
            "schedule": "stable-decay",
            "total_steps": 60,
        },
    ),
    Row(
        "greedy, ramp and periods",
        GreedyLR,
        {**QUICK, "warmup_steps": 3, "decide_every": 2},
        1 / 4,
        3,
    ),
    Row(
        "like transformers",
        GreedyLR.like_transformers,
        {"min_lr": 1e-4, "patience": 1},
    ),
    *(
        Row(
            f"update ratio per {per}",
            UpdateRatioLR,
            {"per": per, "schedule": "restarts", "total_steps": 60, "measure_every": 3},
        )
        for per in ("tensor", "group", "model")
    ),
    Row(
        "planned",
        PlannedLR,
        {
            "plan": Plan(((1, 1.0), (12, 0.5), (30, 0.05), (60, 0.6))),
            "peak": "optimizer",
        },
    ),
    Row(
        "learned",
        LearnedLR,
        {"policy": random_policy(schedule="restarts"), "total_steps": 60},
    ),
)


def make_optimizer(*rates: float, tensor: bool = False) -> torch.optim.Optimizer:
    groups = [
        {
            "params": [torch.nn.Parameter(torch.zeros(1))],
            "lr": torch.tensor(rate, dtype=torch.float64) if tensor else rate,
        }
        for rate in rates
    ]
    optimizer = torch.optim.SGD(groups, lr=rates[0])
    optimizer.step()
    return optimizer


#: Those that decide on a metric, and those that take none: what is asked of a metric differs.
METRIC_ROWS = [row for row in ROWS if isinstance(row.make(make_optimizer(0.01)), MetricLR)]
OTHER_ROWS = [row for row in ROWS if row not in METRIC_ROWS]


def over(rows: Sequence[Row]) -> Any:
    """Parametrize over rows."""
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


every_row, metric_rows, other_rows = over(ROWS), over(METRIC_ROWS), over(OTHER_ROWS)


def metrics(count: int = 50, seed: int = 0) -> list[float]:
    """Return losses that fall, rise and fall."""
    rng = random.Random(seed)
    return [2 + math.cos(step / 6) + rng.gauss(0, 0.05) for step in range(count)]


def follow(scheduler: Any, losses: Sequence[Any]) -> list[list[float]]:
    """Return the rates after each loss, without an optimizer step in between: a dry run."""
    seen = []
    for loss in losses:
        scheduler.step(loss)
        seen.append([float(rate) for rate in scheduler.get_last_lr()])
    return seen
