"""What one `step` of a scheduler costs: GreedyLR beside torch's and transformers' schedulers.

All contenders run in this one process, on the same losses (Python floats, drawn beforehand), in
turn: every repetition times each of them once on a fresh scheduler. A step of an idle optimizer
goes before each of the scheduler's, as in training: a scheduler may have hooked or wrapped it. What
the same loop takes without a scheduler, in the same repetition, is subtracted.

Where rate and loss are tensors, what matters is how many operations a step starts on their device,
and that none of them is one that the host waits for: those are counted.
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
from torch.utils._python_dispatch import TorchDispatchMode

import ratewise
from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.speed import kept
from evidence.timing import Spread, interleaved, measured_on, uncollected
from ratewise.schedulers.metric_lr import SYNC_EVERY

try:
    from transformers.optimization import GreedyLR as TransformersGreedyLR
except ImportError:
    TransformersGreedyLR = None

GROUPS, WINDOWS = (1, 8), (1, 50)
OURS, THEIRS = "ratewise.GreedyLR, window {}", "transformers.GreedyLR, window {}"
#: That wait for significance: name -> whether they know the run's length.
WAITS = {
    "ratewise.GreedyLR, significance": False,
    "ratewise.GreedyLR, significance, with an end": True,
}
#: What these may cost, over torch's cosine, by groups.
MOST = {"1": 1.5, "8": 1.0}
#: Steps over which operations are counted.
COUNTED = 300
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
        **{OURS.format(n): (partial(_counts, window=n), True) for n in WINDOWS},
        **{
            name: (partial(_waits, total_steps=steps + 1 if ends else None), True)
            for name, ends in WAITS.items()
        },
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
    operations = {
        name: operations_a_step(build, losses[:COUNTED])
        for name, (build, _) in contenders(COUNTED).items()
        if build is not None and name.startswith("ratewise")
    }
    packages = ["torch", *(["transformers"] if TransformersGreedyLR is not None else [])]
    about = {"size": size, "on": measured_on(*packages)}
    return {"added": found, "operations": operations, **about}


class Operations(TorchDispatchMode):
    """Counts torch's operations, and those that need a value on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.started = self.waiting = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Count one and let it go on."""
        reads = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        self.started += 1
        self.waiting += not reads.isdisjoint(func.tags)
        return func(*args, **(kwargs or {}))


def operations_a_step(build: Callable[[Optimizer], Any], losses: list[float]) -> dict[str, float]:
    """Count what a step starts where rate and loss are tensors, and what of it is waited for.

    The first step moves the scheduler to the device, and one in 100 may look who else sets the
    rate: these are left out.
    """
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    rate: Any = torch.tensor(BASE_LR, dtype=torch.float64)
    optimizer = Idle([{"params": [parameter]}], {"lr": rate})
    scheduler = build(optimizer)
    counts = []
    for number, loss in enumerate(losses):
        value = torch.tensor(loss, dtype=torch.float64)
        optimizer.step()
        with Operations() as operations:
            scheduler.step(value)
        if number % SYNC_EVERY:
            counts.append((operations.started, operations.waiting))
    started, waiting = zip(*counts, strict=True)
    return {"started": statistics.median(started), "waiting": max(waiting)}


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    rows, claimed = [], []
    for groups, added in measured["added"].items():
        for name, times in added.items():
            ratios = [_ratio(times, added[OURS.format(window)]) for window in WINDOWS]
            rows.append([name, groups, *Spread.of(times).cells(2), *(f"{x:.2f}" for x in ratios)])
        for name in WAITS:
            ratio, most = _ratio(added[name], added[COSINE]), MOST[groups]
            title = f"{name}: at most {most:g} times {COSINE}, parameter groups: {groups}"
            claimed.append(Claim(title, f"<= {most:g}", f"{ratio:.2f}", "", outcome(ratio <= most)))
        for theirs in (COSINE, THEIRS.format(1)):
            if theirs in added:
                ratio = _ratio(added[OURS.format(1)], added[theirs])
                title = f"GreedyLR costs no more than {theirs}, parameter groups: {groups}"
                claimed.append(Claim(title, "<= 1", f"{ratio:.2f}", "", outcome(ratio <= 1.0)))
    found = measured["operations"]
    counted = [[name, f"{x['started']:g}", f"{x['waiting']:g}"] for name, x in found.items()]
    waiting = max(x["waiting"] for x in found.values())
    title = "On a device the host waits for no operation of a step"
    claimed.append(Claim(title, "0", f"{waiting:g}", "", outcome(waiting == 0)))
    return pages.render(
        "speed/scheduler_overhead.md.j2",
        claimed,
        rows=rows,
        counted=counted,
        windows=WINDOWS,
        **measured,
    )


def _counts(optimizer: Optimizer, **options: Any) -> Any:
    return ratewise.GreedyLR(optimizer, criterion="count", **options)


def _waits(optimizer: Optimizer, **options: Any) -> Any:
    return ratewise.GreedyLR(optimizer, criterion="significance", **options)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median ratio of one repetition."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


run = kept.command(measure, text)
