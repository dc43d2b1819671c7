"""Compare schedules on a task of your own: a model, data in three parts, a loss, a number of steps.

Here: predict the next value of a noisy sine from the last 16. Add ``--quick`` for a short run.
"""

from __future__ import annotations

import argparse
import tempfile

import torch
from torch import Tensor, nn

from ratewise import compare


def windows(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return `count` windows of 16 values, [count, 16], and the value after each, [count, 1]."""
    generator = torch.Generator().manual_seed(seed)
    phase = 6.28 * torch.rand(count, 1, generator=generator)
    signal = torch.sin(phase + 0.4 * torch.arange(17))
    signal = signal + 0.1 * torch.randn(count, 17, generator=generator)
    return signal[:, :16], signal[:, 16:]


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs), targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it works")
    parser.add_argument("--out", help="folder for runs and report; a temporary one if absent")
    arguments = parser.parse_args()

    task = compare.Task(
        name="noisy-sine",
        model=model,
        loss=loss,
        train=windows(2000, seed=1),
        validation=windows(500, seed=2),
        test=windows(500, seed=3),
        steps=40 if arguments.quick else 300,
        batch_size=32,
    )
    comparison = compare.run(
        task,
        optimizers=["adamw"],
        schedules=["greedy", "greedy-cosine", "cosine", "constant"],
        seeds=2 if arguments.quick else 5,
        rates=[1e-3, 1e-2] if arguments.quick else None,
        out=arguments.out or tempfile.mkdtemp(prefix="ratewise-"),
    )
    print(f"report: {comparison.report.html}")


if __name__ == "__main__":
    main()
