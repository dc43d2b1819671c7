"""What schedules the rate of a factorisation in the study: each method, and what is tuned of it.

Every method chooses the multiple c of 1 / L for each step; all are clipped to [1e-3, 1.9].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ratewise.learning.noisy_descent import Descent, Problems, Step
from ratewise.learning.random_factorisations import start
from ratewise.nmf.learned import NMFPolicy, PolicySchedule
from ratewise.rules import greedy
from ratewise.rules.greedy_config import GreedyConfig, GreedyLimits


class Rule(Protocol):
    """One run's rate, or those of a stack, step by step."""

    def rate(self, step: int) -> Tensor:
        """Return c for a step, [runs]; steps count from 0."""

    def heard(self, seen: Step) -> None:
        """Take what the step saw."""


#: Added to a stack's seed, of which its noise is drawn, for that of its starts.
_STARTS = 0x9E3779B9
#: (settings, steps) -> a rule; each setting is one number a run, [runs].
Build = Callable[[dict[str, Tensor], int], Rule]


@dataclass(frozen=True)
class Method:
    """A way to schedule.

    Args:
        build: makes the rule.
        space: what a setting is drawn from: `LogRange`, or values to choose from.
    """

    build: Build
    space: dict[str, LogRange | tuple[float, ...]]

    def settings(self, count: int, seed: int) -> list[dict[str, float]]:
        """Return settings to try; the same for the same seed."""
        rng = np.random.default_rng(seed)
        return [{name: _drawn(x, rng) for name, x in self.space.items()} for _ in range(count)]


class LogRange(NamedTuple):
    """Numbers whose logarithms are uniform."""

    low: float
    high: float


def _drawn(part: LogRange | tuple[float, ...], rng: np.random.Generator) -> float:
    if isinstance(part, LogRange):
        return float(np.exp(rng.uniform(math.log(part.low), math.log(part.high))))
    return float(part[rng.integers(len(part))])


class _Open:
    """A schedule of time alone: c_0 times a height."""

    def __init__(self, base: Tensor, height: Callable[[float], Tensor | float], steps: int) -> None:
        self._base, self._height, self._steps = base, height, steps

    def rate(self, step: int) -> Tensor:
        return self._base * self._height(step / self._steps)

    def heard(self, seen: Step) -> None:
        pass


def _constant(s: dict[str, Tensor], steps: int) -> Rule:
    return _Open(s["c"], lambda t: 1.0, steps)


def _step(s: dict[str, Tensor], steps: int) -> Rule:
    """Multiply by gamma, `drops` times in a run."""
    return _Open(s["c"], lambda t: s["gamma"] ** torch.floor(t * (s["drops"] + 1)), steps)


def _exponential(s: dict[str, Tensor], steps: int) -> Rule:
    return _Open(s["c"], lambda t: s["last"] ** t, steps)


def _cosine(s: dict[str, Tensor], steps: int) -> Rule:
    def height(t: float) -> Tensor:
        return s["last"] + (1 - s["last"]) * (1 + math.cos(math.pi * t)) / 2

    return _Open(s["c"], height, steps)


def _trapezium(t: float, s: dict[str, Tensor]) -> Tensor:
    """Warm up, hold, fall linearly to `last`."""
    rising = ((t + 1e-9) / s["warmup"].clamp_min(1e-6)).clamp_max(1.0)
    falling = ((1.0 - t) / (1.0 - s["hold"]).clamp_min(1e-6)).clamp_max(1.0)
    return torch.where(
        t + 0 * rising < s["warmup"], 0.1 + 0.9 * rising, s["last"] + (1 - s["last"]) * falling
    )


def _hold(s: dict[str, Tensor], steps: int) -> Rule:
    return _Open(s["c"], lambda t: _trapezium(t, s), steps)


class _Greedy:
    """GreedyLR on the loss that the steps see, each run alone; runs of one config step together."""

    def __init__(self, base: Tensor, configs: Sequence[GreedyConfig]) -> None:
        self._base = base
        self._limits = GreedyLimits((0.01,), (10.0,), (0.0,))
        self._parts = []
        for config in dict.fromkeys(configs):
            runs = torch.tensor([i for i, one in enumerate(configs) if one == config])
            state = greedy.init(config, zero=torch.zeros_like(base[runs]), xp=torch)
            self._parts.append((config, runs, state))

    def rate(self, step: int) -> Tensor:
        scale = torch.empty_like(self._base)
        for _, runs, state in self._parts:
            scale[runs] = state.scale[0]
        return self._base * scale

    def heard(self, seen: Step) -> None:
        self._parts = [
            (config, runs, self._after(config, state, seen.loss[runs]))
            for config, runs, state in self._parts
        ]

    def _after(self, config: GreedyConfig, state: Any, loss: Tensor) -> Any:
        return greedy.update(state, loss=loss, config=config, limits=self._limits, xp=torch)


def _greedy(s: dict[str, Tensor], steps: int) -> Rule:
    columns = (s[name].tolist() for name in ("factor", "patience", "window", "best"))
    configs = [
        GreedyConfig(
            factor=factor,
            patience=int(patience),
            window=int(window),
            reference="best" if best > 0.5 else "previous",
        )
        for factor, patience, window, best in zip(*columns, strict=True)
    ]
    return _Greedy(s["c"], configs)


class _Formula:
    """c_0 (1 - sigma^2 / E |g|^2), the noisy bound of Theorem 2, under a trapezium of time.

    Where sigma is known it is taken; for samples of rows, what consecutive gradients have in
    common estimates the share of the signal.
    """

    def __init__(self, s: dict[str, Tensor], steps: int) -> None:
        self._s, self._steps = s, steps
        self._square = self._part = torch.zeros_like(s["c"])
        self._heard = 0

    def rate(self, step: int) -> Tensor:
        share = 1.0 if self._heard < 2 else self._part / self._square.clamp_min(1e-30)
        share = torch.as_tensor(share).clamp(1e-3, 1.0)
        return self._s["c"] * share * _trapezium(step / self._steps, self._s)

    def heard(self, seen: Step) -> None:
        keep = 0.9 if self._heard else 0.0
        known = seen.noise > 0
        part = torch.where(known, seen.square - seen.noise, seen.inner)
        self._square = keep * self._square + (1 - keep) * seen.square
        self._part = keep * self._part + (1 - keep) * part
        self._heard += 1


_HIGH = LogRange(0.2, 1.9)
_HOLD, _LAST = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9), (0.0, 0.01, 0.05, 0.1)
METHODS: dict[str, Method] = {
    "constant": Method(_constant, {"c": LogRange(0.02, 1.9)}),
    "step": Method(_step, {"c": _HIGH, "gamma": (0.1, 0.2, 0.3, 0.5, 0.7), "drops": (1, 2, 3, 5)}),
    "exponential": Method(_exponential, {"c": _HIGH, "last": LogRange(1e-3, 0.5)}),
    "cosine": Method(_cosine, {"c": _HIGH, "last": (0.0, *_LAST)}),
    "warmup-hold-decay": Method(
        _hold, {"c": _HIGH, "warmup": (0.0, 0.0, 0.05, 0.1), "hold": _HOLD, "last": _LAST}
    ),
    "GreedyLR": Method(
        _greedy,
        {
            "c": _HIGH,
            "factor": (0.5, 0.7, 0.8, 0.9, 0.95),
            "patience": (0, 1, 3, 5),
            "window": (1, 5, 10),
            "best": (0, 1),
        },
    ),
    "noise formula": Method(
        _Formula, {"c": _HIGH, "warmup": (0.0, 0.0, 0.05), "hold": _HOLD, "last": _LAST}
    ),
}


class Learned:
    """A policy, as `StochasticNMF` uses it."""

    def __init__(self, policy: NMFPolicy, steps: int, runs: int) -> None:
        self._schedule = PolicySchedule(policy, steps, torch.zeros(runs))

    def rate(self, step: int) -> Tensor:
        """Return c, [runs]."""
        return self._schedule.c

    def heard(self, seen: Step) -> None:
        """Take what the step saw."""
        self._schedule.observe(seen.loss, seen.inner, seen.square)

    @property
    def outside(self) -> Tensor:
        """How many decisions fell back, [runs]."""
        return self._schedule.outside


@dataclass(frozen=True)
class Stack:
    """Problems of one shape, the length of their runs, and the seed of their noise."""

    name: str
    problems: Problems
    steps: int
    seed: int


def reseeded(stack: Stack, seeds: int) -> Stack:
    """Return each problem `seeds` times in a row, each with a start and noise of its own.

    Whatever is run on it, one seed of a problem is the same start and noise.
    """
    problems = stack.problems.repeated(seeds)
    generator = torch.Generator().manual_seed((stack.seed + _STARTS) % 2**32)
    w, h = start(problems.v, problems.w.shape[2], generator)
    return replace(stack, problems=replace(problems, w=w, h=h))


def run_stack(stack: Stack, rule: Rule, copies: int = 1) -> Tensor:
    """Return the final loss over the first one, [runs], without noise.

    Args:
        stack: what is factorised.
        rule: of as many runs as there are problems, times `copies`.
        copies: runs of each problem, in a row; they share its noise.
    """
    descent = Descent(stack.problems.repeated(copies), stack.seed, copies)
    first = descent.loss()
    for step in range(stack.steps):
        rule.heard(descent.step(rule.rate(step)))
    return descent.loss() / first


def tried(method: Method, stack: Stack, settings: Sequence[dict[str, float]]) -> Tensor:
    """Return the final losses of all settings, [problems, settings]."""
    runs = len(stack.problems)
    rule = method.build(_spread(settings, runs), stack.steps)
    return run_stack(stack, rule, len(settings)).reshape(runs, len(settings))


def _spread(settings: Sequence[dict[str, float]], runs: int) -> dict[str, Tensor]:
    """Return each setting's numbers, one a run: [problems * settings]."""
    names = settings[0]
    return {name: torch.tensor([one[name] for one in settings]).repeat(runs) for name in names}
