"""Three starting rates, each a factor of 30 from the next: with LearnedLR they end alike.

A policy that was learned from other trainings watches the loss and corrects how far each tensor
moves; the rate that the optimizer was given does not matter. Run it with ``--cosine`` to see what
the rates do otherwise.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

import ratewise

STEPS = 300


def train(rate: float, cosine: bool, x: torch.Tensor, y: torch.Tensor) -> tuple[float, Any]:
    """Return the share of unseen digits that are right, and the scheduler."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    scheduler: Any = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        if cosine
        else ratewise.LearnedLR(optimizer, total_steps=STEPS)  # 1. after the optimizer
    )
    for _ in range(STEPS):
        batch = torch.randint(1200, (64,))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if cosine:
            scheduler.step()
        else:
            scheduler.step(loss)  # 2. after each of its steps, with the loss
    with torch.no_grad():
        return (model(x[1200:]).argmax(1) == y[1200:]).float().mean().item(), scheduler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="it is quick already")
    parser.add_argument("--cosine", action="store_true", help="train under cosine instead")
    arguments = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    for rate in (1e-4, 3e-3, 0.1):
        right, scheduler = train(rate, arguments.cosine, x, y)
        print(f"lr {rate:g}: {right:.1%} of unseen digits right")
    if not arguments.cosine:
        scheduler.explain(last=4)


if __name__ == "__main__":
    main()
