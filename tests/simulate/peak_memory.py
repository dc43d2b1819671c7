"""How far a call's memory goes beyond what the process had, for the test of the budget.

    python -m tests.simulate.peak_memory TASK BUDGET RUNS

prints JSON: bytes by which the peak of the resident memory grew with the largest chunk that BUDGET
bytes allow, and then with all runs in one stack.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

import torch
from tests.simulate import trainings
from torch import nn

from ratewise.simulate import Task, memory, run

STEPS = 3
OPTIMIZER = "adam"


def wide() -> Task:
    """A perceptron whose parameters take most of its memory."""

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(48, 96), nn.Tanh(), nn.Linear(96, 48))

    x = torch.randn(64, 48)
    return Task("test-wide", model, trainings.squared, (x, x), 8)


def deep() -> Task:
    """A perceptron whose activations do: 12 layers, batches of 64."""

    def model() -> nn.Module:
        layers = [layer for _ in range(12) for layer in (nn.Linear(24, 24), nn.GELU())]
        return nn.Sequential(*layers)

    x = torch.randn(64, 24)
    return Task("test-deep", model, trainings.squared, (x, x), 64)


def own() -> Task:
    """A line through a great deal of data, each run's own."""

    def data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(seed))
        return x, x[:, :1]

    return Task("test-own", lambda: nn.Linear(16, 1), trainings.squared, data, 16)


def status(name: str) -> int:
    """Return a figure of the process's memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def grew(task: Task, runs: int, chunk: int, budget: int) -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = status("VmRSS")
    run(task, OPTIMIZER, "greedy", runs=runs, steps=STEPS, lr=1e-3, chunk=chunk, memory=budget)
    return status("VmHWM") - before


def main(name: str, budget: int, runs: int) -> None:
    torch.set_num_threads(1)
    task = {"wide": wide, "deep": deep, "own": own}[name]()
    for few in (1, 3):  # what is loaded and set up once is not the runs'
        grew(task, few, few, budget)
    a_run = memory.bytes_a_run(task, OPTIMIZER, steps=STEPS)
    most = memory.most_runs(budget, memory.bytes_kept(runs, STEPS), a_run)
    figures = {
        "most": most,
        "bounded": grew(task, runs, most, budget),
        "unbounded": grew(task, runs, runs, 1 << 40),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
