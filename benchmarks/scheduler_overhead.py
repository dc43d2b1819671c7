"""What one `step` of a scheduler costs: GreedyLR beside torch's and transformers' schedulers.

All contenders run in this one process, on the same losses (Python floats, drawn beforehand), in
turn: every repetition times each of them once on a fresh scheduler, so that a busy moment of the
machine hits all alike. A step of an idle optimizer goes before each of the scheduler's, as in
training: a scheduler may have hooked or wrapped it. What the same loop takes without a scheduler,
in the same repetition, is subtracted. Printed are the median over the repetitions, the middle half
of them, and the median of the ratio to GreedyLR of the same repetition.

    python benchmarks/scheduler_overhead.py [--steps 5000] [--repeats 21] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.optim import Optimizer, lr_scheduler

import ratewise

try:
    from transformers.optimization import GreedyLR as TransformersGreedyLR
except ImportError:
    TransformersGreedyLR = None

GROUPS = (1, 8)
WINDOWS = (1, 50)
OURS = "ratewise.GreedyLR, window {}"
THEIRS = "transformers.GreedyLR, window {}"
BASE_LR = 0.01


class Row(NamedTuple):
    """One line of the table; times in microseconds a step, ratios to GreedyLR by window."""

    name: str
    groups: int
    median: float
    low: float
    high: float
    ratios: tuple[float, ...]


def noisy_losses(steps: int) -> list[float]:
    """Return losses that fall by a power law, from 2.3, under 10% of multiplicative noise."""
    rng = np.random.default_rng(0)
    trend = 2.3 / np.sqrt(1.0 + np.arange(steps) / 50.0)
    return (trend * np.exp(0.1 * rng.standard_normal(steps))).tolist()


class Idle(Optimizer):
    """An optimizer whose step does nothing by itself: what is timed is what hangs on to it."""

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Do nothing."""


def new_optimizer(groups: int) -> Optimizer:
    """Return an idle optimizer over `groups` groups of one number each; one has a gradient."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(groups)]
    parameters[0].grad = torch.zeros(1)
    return Idle([{"params": [parameter]} for parameter in parameters], {"lr": BASE_LR})


def contenders(steps: int) -> dict[str, tuple[Callable[[Optimizer], Any], bool]]:
    """Return name -> (scheduler from optimizer, whether its step takes the loss)."""
    chosen: dict[str, tuple[Callable[[Optimizer], Any], bool]] = {}
    for window in WINDOWS:
        chosen[OURS.format(window)] = (partial(ratewise.GreedyLR, window=window), True)
    chosen["torch CosineAnnealingLR"] = (
        partial(lr_scheduler.CosineAnnealingLR, T_max=steps),
        False,
    )
    chosen["torch ReduceLROnPlateau"] = (lr_scheduler.ReduceLROnPlateau, True)
    if TransformersGreedyLR is not None:
        for window in WINDOWS:
            build = partial(
                TransformersGreedyLR,
                smooth=window > 1,
                window_size=window,
                min_lr=0.1 * BASE_LR,
                max_lr=10 * BASE_LR,
            )
            chosen[THEIRS.format(window)] = (build, True)
    return chosen


def seconds_a_step(
    build: Callable[[Optimizer], Any] | None, takes_loss: bool, groups: int, losses: list[float]
) -> float:
    """Time one pass over `losses` on a fresh optimizer and scheduler, or on the optimizer alone."""
    optimizer = new_optimizer(groups)
    step = None if build is None else build(optimizer).step
    train = optimizer.step
    train()  # without it torch warns that the scheduler goes first
    gc.disable()
    try:
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
    finally:
        gc.enable()


def measure(groups: int, steps: int, repeats: int) -> list[Row]:
    """Return a row for each contender at this number of groups."""
    losses = noisy_losses(steps)
    chosen = contenders(steps)
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for repetition in range(repeats + 1):
        gc.collect()
        alone = seconds_a_step(None, False, groups, losses)
        for name, (build, takes_loss) in chosen.items():
            taken = seconds_a_step(build, takes_loss, groups, losses) - alone
            if repetition:  # the first one warms the interpreter up
                times[name].append(1e6 * taken)
    rows = []
    for name, theirs in times.items():
        low, median, high = statistics.quantiles(theirs, n=4)
        ratios = tuple(
            statistics.median(
                their / our for their, our in zip(theirs, times[OURS.format(window)], strict=True)
            )
            for window in WINDOWS
        )
        rows.append(Row(name, groups, median, low, high, ratios))
    return rows


def markdown(rows: list[Row], steps: int, repeats: int) -> str:
    """Return the table, with what it was measured on."""
    versions = ", ".join(
        f"{name} {metadata.version(name)}"
        for name in ("torch", "transformers")
        if name == "torch" or TransformersGreedyLR is not None
    )
    against = " | ".join(f"ratio to ours, window {window}" for window in WINDOWS)
    lines = [
        f"What one `step` adds to training, in microseconds; {repeats} interleaved repetitions of "
        f"{steps} steps; Python {platform.python_version()}, {versions}, {platform.system()} "
        f"{platform.machine()}.",
        "",
        f"| scheduler | groups | median | middle half | {against} |",
        "| --- | ---: | ---: | ---: |" + " ---: |" * len(WINDOWS),
    ]
    for row in rows:
        ratios = " | ".join(f"{ratio:.2f}" for ratio in row.ratios)
        lines.append(
            f"| {row.name} | {row.groups} | {row.median:.2f} | "
            f"{row.low:.2f} to {row.high:.2f} | {ratios} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5000, help="scheduler steps a repetition")
    parser.add_argument("--repeats", type=int, default=21, help="repetitions, 2 or more")
    parser.add_argument("--out", type=Path, help="write the table to this Markdown file, too")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.repeats < 2:
        parser.error("--steps must be 1 or more and --repeats 2 or more")

    torch.set_num_threads(1)
    rows = [row for groups in GROUPS for row in measure(groups, arguments.steps, arguments.repeats)]
    table = markdown(rows, arguments.steps, arguments.repeats)
    print(table)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        command = (
            f"python benchmarks/scheduler_overhead.py --steps {arguments.steps} "
            f"--repeats {arguments.repeats} --out {arguments.out}"
        )
        arguments.out.write_text(
            f"# What a scheduler's step costs\n\nMade by `{command}`.\n\n{table}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
