"""Schedulers on tensors, and a watch for what would make a host wait."""

from __future__ import annotations

import functools
import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ratewise import GreedyConfig, GreedyLR

QUICK: dict[str, Any] = {"factor": 0.5, "patience": 1, "window": 2}
STAGES: dict[str, Any] = {
    **QUICK,
    "warmup": 2,
    "cooldown": 2,
    "config": GreedyConfig(reset_after=1),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "quick": QUICK,
    "no window": {**QUICK, "window": 1},
    "every third step": {**QUICK, "decide_every": 3},
    "ramp": {**QUICK, "warmup_steps": 5},
    "schedule": {**QUICK, "schedule": "cosine", "total_steps": 90},
    "a function": {**QUICK, "schedule": lambda step: 1 / (1 + step)},
    "stages and resets": STAGES,
    "stages that hold": {
        **STAGES,
        "config": GreedyConfig(reset_after=1, stage="hold", first="good"),
    },
    "given bounds": {
        **QUICK,
        "min_lr": 1e-3,
        "max_lr": [0.2, 0.3],
        "mode": "max",
        "config": GreedyConfig(reference="previous"),
    },
    "significance": {"criterion": "significance", "window": 9, "total_steps": 90},
    "nonfinite skipped": {**QUICK, "on_nonfinite": "skip"},
    "nonfinite raised": {**QUICK, "on_nonfinite": "raise"},
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


class Watch(TorchDispatchMode):
    """Notes each operation that would make a GPU wait or that crosses between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if waits(func):
            self.seen.append(str(func))
        result = func(*args, **(kwargs or {}))
        values = tree_leaves((args, kwargs, result))
        if len({value.device for value in values if isinstance(value, Tensor)}) > 1:
            self.seen.append(f"{func} between devices")
        return result


@functools.cache
def waits(func: Any) -> bool:
    """Return whether an operation needs a value on the host, or brings one from there."""
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(tags & set(func.tags)) or str(func).startswith(("aten.item", "aten.lift_fresh"))


def optimizer_of(*rates: float, tensor: bool = True) -> torch.optim.Optimizer:
    """Return SGD over one parameter a rate; the rates are float64 tensors on the CPU."""
    groups = [
        {
            "params": [torch.nn.Parameter(torch.zeros(1))],
            "lr": torch.tensor(rate, dtype=torch.float64) if tensor else rate,
        }
        for rate in rates
    ]
    return torch.optim.SGD(groups, lr=rates[0])


def scheduler_of(*, tensor: bool = True, **settings: Any) -> GreedyLR:
    """Return a scheduler of two groups in a dry run: every call of it is a step."""
    return GreedyLR(optimizer_of(0.1, 0.02, tensor=tensor), **settings)


def waves(count: int = 80) -> list[Tensor]:
    """Return losses that fall and rise, as float64 tensors; fewer than 100 are never read."""
    wave = 2 + torch.cos(torch.arange(count, dtype=torch.float64) / 8)
    return list(wave.unbind())


def rates(scheduler: GreedyLR) -> list[float]:
    return [float(rate) for rate in scheduler.get_last_lr()]


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
