"""The table of schedulers that the contract battery runs on: a new scheduler is a new row."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from tests.rules.policies import random_policy
from torch.optim import Optimizer

from ratewise import GreedyLR, LearnedLR, UpdateRatioLR


class Row(NamedTuple):
    """A scheduler with settings that make it act within a few steps."""

    name: str
    build: Callable[..., Any]
    options: dict[str, Any]
    start: float = 1.0  #: the first rate, as a multiple of the base rate
    late: int = 0  #: steps by which its first decision is held back
    shared: bool = True  #: whether it takes the arguments that all schedulers share
    excused: tuple[str, ...] = ()  #: tests of the battery that cannot apply to it, by name

    def make(self, optimizer: Optimizer, **more: Any) -> Any:
        """Return a new scheduler on `optimizer`."""
        return self.build(optimizer, **{**self.options, **more})


QUICK: dict[str, Any] = {"factor": 0.5, "patience": 1, "window": 2, "reference": "previous"}

ROWS = (
    Row("greedy", GreedyLR, {}),
    Row("greedy, quick", GreedyLR, QUICK),
    Row("greedy, stages", GreedyLR, {**QUICK, "warmup": 2, "cooldown": 2, "reset_after": 3}),
    Row("greedy on cosine", GreedyLR, {**QUICK, "anchor": "cosine", "total_steps": 60}),
    Row("greedy on a function", GreedyLR, {**QUICK, "anchor": lambda step: 1 / (1 + step)}),
    Row("greedy, ramp and periods", GreedyLR, {**QUICK, "warmup_steps": 3, "every": 2}, 1 / 4, 3),
    Row(
        "like transformers",
        GreedyLR.like_transformers,
        {"min_lr": 1e-4, "patience": 1},
        shared=False,
    ),
    # It steers by displacements and ignores losses: there is none to miss, to check or to refuse.
    # (`shared`: `missing`, `sync`, `on_nonfinite` and the mean of a period are about losses, too;
    # its own tests have `every`, `warmup_steps` and `groups`.)
    *(
        Row(
            f"update ratio per {per}",
            UpdateRatioLR,
            {"per": per, "schedule": "restarts", "total_steps": 60, "every": 3},
            shared=False,
            excused=(
                "test_a_bare_step_before_any_loss_says_what_to_pass",
                "test_refuses_what_is_not_one_number_and_changes_nothing",
            ),
        )
        for per in ("tensor", "group", "model")
    ),
    # (`shared`: `every`, `warmup_steps` and `on_nonfinite` follow from its policy.)
    Row(
        "learned",
        LearnedLR,
        {"policy": random_policy(schedule="restarts"), "total_steps": 60},
        shared=False,
    ),
)


def every_row(test: Callable[..., None]) -> Any:
    """Parametrize a test over the rows, but for those that are excused from it by its name."""
    rows = [row for row in ROWS if test.__name__ not in row.excused]
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)(test)


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
