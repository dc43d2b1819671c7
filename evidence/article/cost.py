"""What each method costs: rates kept, memory between steps, time a step, against model size."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from evidence import language
from evidence.article.plan import ALONE as _ALONE
from evidence.article.plan import GREEDY, Settings
from evidence.article.tasks import SIZES
from evidence.language import Size
from evidence.results import Result, Results
from evidence.timing import Spread, interleaved
from ratewise.compare import schedules
from ratewise.compare.optimizers import Optimizer as Named
from ratewise.compare.optimizers import named, step
from ratewise.compare.schedules import Schedule
from ratewise.compare.training import versions

ALPHABET, LENGTH, BATCH, RATE = 64, 32, 8, 1e-3
#: parameters -> width, heads, depth
MODELS = {**SIZES, "10M": (456, 8, 4)}


def _hypergradient(base: str, per: str, hyper_lr: float) -> Named:
    return Named("hypergradient", f"hypergradient-{base}", {"per": per, "hyper_lr": hyper_lr})


_SGD, _ADAMW = named("sgd"), named("adamw")
#: method -> what is built, the schedule on it, what it is measured against
METHODS: dict[str, tuple[Named, Schedule, str]] = {
    "SGD": (_SGD, _ALONE, ""),
    "SGD, cosine": (_SGD, schedules.named("cosine"), "SGD"),
    "SGD, GreedyLR": (_SGD, GREEDY[0], "SGD"),
    **{
        f"hypergradient, a rate a {unit}": (_hypergradient("sgd", per, 1e-6), _ALONE, "SGD")
        for unit, per in (("group", "group"), ("tensor", "tensor"), ("parameter", "element"))
    },
    "line search": (named("line-search"), _ALONE, "SGD"),
    "AdamW": (_ADAMW, _ALONE, ""),
    "AdamW, GreedyLR": (_ADAMW, GREEDY[0], "AdamW"),
    "hypergradient Adam, a rate a group": (
        _hypergradient("adam", "group", 1e-9),
        _ALONE,
        "AdamW",
    ),
    "line search, Adam's direction": (named("line-search-adam"), _ALONE, "AdamW"),
}


@dataclass(frozen=True)
class Cost:
    """One method on one model."""

    method: str
    base: str
    model: str
    device: str
    parameters: int
    rates: int  #: learning rates kept
    extra_bytes: int  #: kept between steps beyond what the base keeps
    seconds: list[float]  #: of a step, by round
    base_seconds: list[float]

    @property
    def added(self) -> Spread:
        """What a step takes more than the base's, in per cent."""
        pairs = zip(self.seconds, self.base_seconds, strict=True)
        return Spread.of([100 * (mine / base - 1) for mine, base in pairs])


def wanted(settings: Settings) -> dict[str, str]:
    """Return the models by the digest of how they are measured."""
    how = [settings.rounds, settings.least, list(METHODS)]
    return {
        hashlib.sha256(json.dumps([model, MODELS[model], how]).encode()).hexdigest()[:16]: model
        for model in settings.models
    }


def made(settings: Settings, model: str) -> list[Result]:
    """Measure all methods on a model, on every kind of device that is there."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    about = json.dumps(versions())
    return [
        Result(
            model,
            one.method,
            one.device,
            0,
            "cost",
            settings.rounds,
            [one.parameters, one.rates, one.extra_bytes, *one.seconds, *one.base_seconds],
            float(np.sum(one.seconds)),
            about,
        )
        for device in devices
        for one in _model(model, device, settings)
    ]


def load(results: Results, settings: Settings) -> list[Cost]:
    """Return what is there."""
    found = []
    for one in (x for name in wanted(settings) if name in results for x in results.of(name)):
        parameters, rates, extra = map(int, one.losses[:3])
        times, base = one.losses[3:], METHODS[one.method][2]
        both = times[: one.steps], times[one.steps :]
        found.append(Cost(one.method, base, one.task, one.setting, parameters, rates, extra, *both))
    return found


def _model(name: str, device: str, settings: Settings) -> list[Cost]:
    """Time all methods on one model, in turns, so that what disturbs disturbs all."""
    running = {method: _Running(method, name, device) for method in METHODS}
    clocks = {method: partial(one.timed, settings.least) for method, one in running.items()}
    seconds = interleaved(clocks, settings.rounds)
    return [
        Cost(
            method=method,
            base=METHODS[method][2],
            model=name,
            device=device,
            parameters=one.parameters,
            rates=_rates(one.optimizer),
            extra_bytes=one.kept() - running[METHODS[method][2] or method].kept(),
            seconds=seconds[method],
            base_seconds=seconds[METHODS[method][2] or method],
        )
        for method, one in running.items()
    ]


class _Running:
    """A model that one method trains on one batch."""

    def __init__(self, method: str, model: str, device: str) -> None:
        built, schedule, _ = METHODS[method]
        width, heads, depth = MODELS[model]
        size = Size(depth, width, heads, ALPHABET, LENGTH, BATCH)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.model, self.tokens = size.model().to(device), size.tokens().to(device)
        self.device = device
        self.optimizer = built.build(self.model, RATE, steps_per_epoch=100)
        self.driver = schedules.build(schedule, self.optimizer, 10_000)
        self.parameters = sum(p.numel() for p in self.model.parameters())

    def step(self) -> None:
        forward = partial(language.loss, self.model, self.tokens)
        self.driver.after_step(step(self.optimizer, forward))

    def timed(self, least: float) -> float:
        """Return the seconds of a step, over so many seconds of steps."""
        clock, wait = _clock(self.device)
        wait()
        begun, steps = clock(), 0
        while steps == 0 or clock() - begun < least:
            self.step()
            steps += 1
        wait()
        return (clock() - begun) / steps

    def kept(self) -> int:
        """Return the bytes that the optimizer keeps between steps."""
        held = [*self.optimizer.state.values(), *self.optimizer.param_groups]
        own = {id(p) for p in self.model.parameters()}
        return sum(_bytes(value, own) for entry in held for value in entry.values())


def _clock(device: str) -> tuple[Callable[[], float], Callable[[], Any]]:
    """Processor time on the CPU, where other processes do not count; else the wall's."""
    if device == "cpu":
        return time.process_time, lambda: None
    return time.perf_counter, torch.cuda.synchronize


def _bytes(value: Any, own: set[int]) -> int:
    if isinstance(value, Tensor):
        return 0 if id(value) in own else value.numel() * value.element_size()
    if isinstance(value, list | tuple):
        return sum(_bytes(item, own) for item in value)
    return 0


def _rates(optimizer: Optimizer) -> int:
    rates = optimizer.rates() if hasattr(optimizer, "rates") else None
    return len(optimizer.param_groups) if rates is None else sum(rate.numel() for rate in rates)
