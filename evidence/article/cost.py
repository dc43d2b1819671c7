"""What each method costs: rates kept, memory between steps, time a step, against model size."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from evidence import language
from evidence.article.tasks import SIZES
from evidence.language import Size
from evidence.timing import Spread, interleaved
from ratewise.compare import schedules
from ratewise.compare.optimizers import Optimizer as Named
from ratewise.compare.optimizers import named, step
from ratewise.compare.training import one_thread
from ratewise.files import writing
from ratewise.progress import tracked

ALPHABET, LENGTH, BATCH, RATE = 64, 32, 8, 1e-3
#: parameters -> width, heads, depth
MODELS = {**SIZES, "10M": (456, 8, 4)}


def _hypergradient(base: str, per: str, hyper_lr: float) -> Named:
    return Named("hypergradient", f"hypergradient-{base}", {"per": per, "hyper_lr": hyper_lr})


_SGD, _ADAMW = named("sgd"), named("adamw")
#: method -> what is built, the schedule on it, what it is measured against
METHODS: dict[str, tuple[Named, str, str]] = {
    "SGD": (_SGD, "none", ""),
    "SGD, cosine": (_SGD, "cosine", "SGD"),
    "SGD, GreedyLR": (_SGD, "greedy", "SGD"),
    **{
        f"hypergradient, a rate a {unit}": (_hypergradient("sgd", per, 1e-6), "none", "SGD")
        for unit, per in (("group", "group"), ("tensor", "tensor"), ("parameter", "element"))
    },
    "line search": (named("line-search"), "none", "SGD"),
    "AdamW": (_ADAMW, "none", ""),
    "AdamW, GreedyLR": (_ADAMW, "greedy", "AdamW"),
    "hypergradient Adam, a rate a group": (
        _hypergradient("adam", "group", 1e-9),
        "none",
        "AdamW",
    ),
    "line search, Adam's direction": (named("line-search-adam"), "none", "AdamW"),
}


@dataclass(frozen=True)
class Settings:
    """How thoroughly it is measured."""

    models: tuple[str, ...] = tuple(MODELS)
    rounds: int = 15  #: each method once a round, one after the other
    seconds: float = 0.15  #: of a method in a round, at least one step


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


def measure(path: Path, settings: Settings, *, progress: bool = True) -> list[Cost]:
    """Measure, once: the file keeps what was measured.

    Args:
        path: a JSON file.
        settings: how thoroughly.
        progress: show a bar.
    """
    if path.exists():
        return [Cost(**entry) for entry in json.loads(path.read_text())]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    cells = [(model, device) for device in devices for model in settings.models]
    found: list[Cost] = []
    with one_thread():
        for model, device in tracked(cells, len(cells), "costs", show=progress):
            found += _model(model, device, settings)
    writing.write(path, json.dumps([asdict(cost) for cost in found]))
    return found


def _model(name: str, device: str, settings: Settings) -> list[Cost]:
    """Time all methods on one model, in turns, so that what disturbs disturbs all."""
    running = {method: _Running(method, name, device) for method in METHODS}
    clocks = {method: partial(one.timed, settings.seconds) for method, one in running.items()}
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
        self.driver = schedules.build(
            schedules.Schedule(schedule, schedule), self.optimizer, 10_000
        )
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
