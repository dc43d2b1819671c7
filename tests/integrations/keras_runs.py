"""A small Keras model, what a callback records of it, and the rates that it should have."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="the extra ratewise[keras] is not installed")

import ratewise  # noqa: E402
from ratewise.rules.greedy_config import GreedyConfig, GreedyLimits, merged  # noqa: E402
from ratewise.rules.greedy_float import FloatGreedy  # noqa: E402

BATCH = 8
ROWS = 38  # four batches of 8 and one of 6
RULE = {"factor": 0.8, "patience": 1, "window": 2, "config": GreedyConfig(reference="previous")}
SPOILED = 100.0  # a target that makes `loss_with_holes` NaN, and no gradient of it


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    return x, (x @ [[1.0], [-2.0], [0.5], [0.0]] + rng.normal(size=(ROWS, 1))).astype("float32")


def loss_with_holes(y: Any, predicted: Any) -> Any:
    hole = y > SPOILED / 2
    error = keras.ops.square(predicted - keras.ops.where(hole, 0.0, y))
    return keras.ops.mean(error + keras.ops.where(hole, math.nan, 0.0), axis=-1)


def network(rate: Any = 0.05, loss: Any = "mse") -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss=loss, metrics=["mae"])
    return model


class Recorder(keras.callbacks.Callback):
    """The rate and the loss by hand before each batch; what Keras's logs say after it.

    Before `GreedyLR` in the list it sees the batch's own value, after it the running mean.
    """

    def __init__(self, loss_by_hand: Callable[[Any, int], float] | None = None) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.logs: list[dict[str, float]] = []
        self.epochs: list[dict[str, float]] = []
        self.by_hand: list[float] = []
        self._loss = loss_by_hand

    @property
    def losses(self) -> list[float]:
        return [logs["loss"] for logs in self.logs]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.rates.append(rate_of(self.model))
        if self._loss is not None:
            self.by_hand.append(self._loss(self.model, batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.logs.append(dict(logs))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append({**logs, "rate": rate_of(self.model)})


def rate_of(model: Any) -> float:
    return float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))


def fit(model: Any, *callbacks: Any, epochs: int = 3, **kwargs: Any) -> Any:
    x, y = kwargs.pop("data", None) or data()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **options)


def weights(model: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(value) for value in model.weights]


def float32(rates: Iterable[float]) -> list[float]:
    return [float(np.float32(rate)) for rate in rates]


def literal_rates(
    values: Iterable[float],
    base: float,
    *,
    decide_every: int = 1,
    warmup_steps: int = 0,
    low: float = 0.1,
    high: float = 10.0,
    **rule: Any,
) -> list[float]:
    """The rate of each step and of the one after the last, by the rule and a slow loop."""
    config = merged(rule.pop("config", None), **rule)
    greedy = FloatGreedy(config, GreedyLimits((low,), (high,), (0.0,)))
    rates, period = [base / (warmup_steps + 1)], []
    for step, value in enumerate(values, start=1):
        if step > warmup_steps:
            period.append(value)
        if len(period) == decide_every:
            finite = [value for value in period if math.isfinite(value)]
            whole = len(finite) == decide_every or (config.on_nonfinite == "skip" and finite)
            greedy.update(sum(finite) / len(finite) if whole else math.nan)
            period = []
        ramp = min(1.0, (step + 1) / (warmup_steps + 1))
        rates.append(base * min(max(greedy.scale[0], low), high) * ramp)
    return rates


def torch_scheduler(rate: float, **rule: Any) -> tuple[Any, Any]:
    import torch  # here, because the process that runs on jax needs none

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)
    return optimizer, ratewise.GreedyLR(optimizer, **rule)


def rose_and_fell(rates: list[float]) -> bool:
    changes = np.diff(rates)
    return bool((changes > 0).any() and (changes < 0).any())
