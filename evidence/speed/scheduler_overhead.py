"""What one `step` of a scheduler costs: GreedyLR beside torch's and transformers' schedulers.

All contenders run in this one process, on the same losses (Python floats, drawn beforehand), in
turn: every repetition times each of them once on a fresh scheduler. A step of an idle optimizer
goes before each of the scheduler's, as in training: a scheduler may have hooked or wrapped it. What
the same loop takes without a scheduler, in the same repetition, is subtracted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.optim import Optimizer, lr_scheduler

import ratewise
from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.speed import kept
from evidence.timing import Spread, interleaved, measured_on, uncollected

try:
    from transformers.optimization import GreedyLR as TransformersGreedyLR
except ImportError:
    TransformersGreedyLR = None

GROUPS, WINDOWS = (1, 8), (1, 50)
OURS, THEIRS = "ratewise.GreedyLR, window {}", "transformers.GreedyLR, window {}"
COSINE, ALONE = "torch CosineAnnealingLR", ""
BASE_LR = 0.01


class Size(NamedTuple):
    """How thoroughly it is measured."""

    steps: int = 5000
    repeats: int = 21


SIZES = {"": Size(), "quick": Size(20, 3)}


class Idle(Optimizer):
    """An optimizer whose step does nothing by itself: what is timed is what hangs on to it."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do nothing."""


def contenders(steps: int) -> dict[str, tuple[Callable[[Optimizer], Any] | None, bool]]:
    """Return name -> (scheduler from optimizer, whether its step takes the loss)."""
    chosen: dict[str, tuple[Callable[[Optimizer], Any] | None, bool]] = {
        ALONE: (None, False),
        **{OURS.format(n): (partial(ratewise.GreedyLR, window=n), True) for n in WINDOWS},
        COSINE: (partial(lr_scheduler.CosineAnnealingLR, T_max=steps), False),
        "torch ReduceLROnPlateau": (lr_scheduler.ReduceLROnPlateau, True),
    }
    if TransformersGreedyLR is not None:
        bounded = partial(TransformersGreedyLR, min_lr=0.1 * BASE_LR, max_lr=10 * BASE_LR)
        for n in WINDOWS:
            chosen[THEIRS.format(n)] = partial(bounded, smooth=n > 1, window_size=n), True
    return chosen


def seconds_a_step(
    build: Callable[[Optimizer], Any] | None, takes_loss: bool, groups: int, losses: list[float]
) -> float:
    """Time one pass over `losses` on a fresh optimizer and scheduler, or on the optimizer alone."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(groups)]
    parameters[0].grad = torch.zeros(1)
    optimizer = Idle([{"params": [parameter]} for parameter in parameters], {"lr": BASE_LR})
    step = None if build is None else build(optimizer).step
    train = optimizer.step
    train()  # without it torch warns that the scheduler goes first
    with uncollected():
        start = time.perf_counter()
        if step is None:
            for _ in losses:
                train()
        elif takes_loss:
            for loss in losses:
                train()
                step(loss)
        else:
            for _ in losses:
                train()
                step()
        return (time.perf_counter() - start) / len(losses)


def measure(size: Size, data: str | None) -> dict[str, Any]:
    """Return microseconds a step, a repetition each, by groups and contender."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)  # losses that fall by a power law, under 10% of noise
    trend = 2.3 / np.sqrt(1.0 + np.arange(size.steps) / 50.0)
    losses = (trend * np.exp(0.1 * rng.standard_normal(size.steps))).tolist()
    found: dict[str, dict[str, list[float]]] = {}
    for groups in GROUPS:
        clocks = {
            name: partial(seconds_a_step, build, takes_loss, groups, losses)
            for name, (build, takes_loss) in contenders(size.steps).items()
        }
        taken = interleaved(clocks, size.repeats)
        alone = taken.pop(ALONE)
        found[str(groups)] = {
            name: [1e6 * (a - b) for a, b in zip(times, alone, strict=True)]
            for name, times in taken.items()
        }
    packages = ["torch", *(["transformers"] if TransformersGreedyLR is not None else [])]
    return {"added": found, "size": size, "on": measured_on(*packages)}


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    rows, claimed = [], []
    for groups, added in measured["added"].items():
        for name, times in added.items():
            ratios = [_ratio(times, added[OURS.format(window)]) for window in WINDOWS]
            rows.append([name, groups, *Spread.of(times).cells(2), *(f"{x:.2f}" for x in ratios)])
        for theirs in (COSINE, THEIRS.format(1)):
            if theirs in added:
                ratio = _ratio(added[OURS.format(1)], added[theirs])
                title = f"GreedyLR costs no more than {theirs}, parameter groups: {groups}"
                claimed.append(Claim(title, "<= 1", f"{ratio:.2f}", "", outcome(ratio <= 1.0)))
    return pages.render(
        "speed/scheduler_overhead.md.j2", claimed, rows=rows, windows=WINDOWS, **measured
    )


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median ratio of one repetition."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


run = kept.command(measure, text)
