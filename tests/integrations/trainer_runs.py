"""A small Trainer run, its loop by hand, and the rates that its losses should give."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import transformers
from transformers import Trainer, TrainerCallback, TrainingArguments

from ratewise import GreedyConfig, GreedyLR
from ratewise.integrations.transformers import ObserveCallback

RATE, STEPS = 0.02, 24
#: Moves often, in both directions.
RULE: dict[str, Any] = {
    "factor": 0.5,
    "patience": 1,
    "window": 2,
    "config": GreedyConfig(reference="previous"),
}


class Tiny(nn.Module):
    """A small regression.

    Args:
        spoil: number of the training batch whose loss is NaN.
        loss: whether there is one in training.
    """

    def __init__(self, dropout: float = 0.0, spoil: int | None = None, loss: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1)
        )
        self.batches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.losses: list[float] = []
        self.spoil, self.loss = spoil, loss

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        out = self.layers(x).squeeze(-1)
        if labels is None or (self.training and not self.loss):
            return {"logits": out}
        loss = nn.functional.mse_loss(out, labels)
        if self.training:
            if len(self.losses) == self.spoil:
                loss = loss + math.nan  # its gradient is finite
            self.batches.append((x, labels))
            self.losses.append(loss.item())
        return {"loss": loss, "logits": out}


def rows(count: int = 40) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=generator)
    y = x.sum(1) + torch.randn(count, generator=generator) / 2
    return [{"x": each, "labels": label} for each, label in zip(x, y, strict=True)]


class Run(TrainerCallback):
    """A Trainer on a model and its scheduler; `rates` are those that the optimizer steps with."""

    def __init__(self, folder: Path, model: Any = None, rate: Any = RATE, **more: Any) -> None:
        self.rates: list[float] = []
        self.model = Tiny() if model is None else model
        self.optimizer = torch.optim.SGD(self.model.parameters(), rate, momentum=0.5)
        make = more.pop("scheduler", None)
        rule = RULE | more.pop("rule", {})
        self.scheduler = make(self.optimizer) if make else GreedyLR(self.optimizer, **rule)
        self.callback = ObserveCallback(self.scheduler, more.pop("metric", "loss"))
        data, trainer = more.pop("data", rows()), more.pop("trainer", {})
        options = {"max_steps": STEPS, "per_device_train_batch_size": 4, "logging_steps": 1}
        options |= {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 3}
        options |= {"save_strategy": "no", "log_level": "error"} | more
        self.trainer = Trainer(
            self.model,
            TrainingArguments(str(folder), **options),
            train_dataset=data,
            optimizers=(self.optimizer, self.scheduler),
            callbacks=[self.callback, self],
            **trainer,
        )
        self.trainer.remove_callback(transformers.PrinterCallback)

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.rates.append(float(kwargs["optimizer"].param_groups[0]["lr"]))

    def train(self, **kwargs: Any) -> Run:
        self.trainer.train(**kwargs)
        return self

    @property
    def weights(self) -> list[list[float]]:
        return [parameter.flatten().tolist() for parameter in self.model.parameters()]

    def logged(self, name: str) -> list[float]:
        return [logs[name] for logs in self.trainer.state.log_history if name in logs]


def rose_and_fell(rates: list[float]) -> bool:
    steps = [after - before for before, after in itertools.pairwise(rates)]
    return max(steps) > 0 > min(steps)


def dry(values: list[float | None], rate: Any = RATE, **rule: Any) -> list[float]:
    """The rates that steps with these metrics begin with; None is a step without one."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    scheduler = GreedyLR(optimizer, missing="hold", **RULE | rule)
    rates = []
    for value in values:
        rates.append(float(optimizer.param_groups[0]["lr"]))
        scheduler.step(value)
    return rates


def by_hand(run: Run, rate: float | torch.Tensor) -> tuple[list[float], list[list[float]]]:
    """Train on the batches that `run` saw, in a loop as anybody writes it."""
    model = Tiny()
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.5)
    scheduler = GreedyLR(optimizer, **RULE)
    rates = []
    for x, labels in run.model.batches:
        loss = model(x, labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step(loss)
    return rates, [parameter.flatten().tolist() for parameter in model.parameters()]
