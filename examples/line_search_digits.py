"""No rate to choose: a step of StochasticLineSearch goes as far as its batch's loss falls enough.

The closure returns the loss and does not call ``backward()``; what the search costs is counted in
forward passes. Run it with ``--adam`` for Adam's directions.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

from ratewise.optimizers import StochasticLineSearch

EPOCHS, BATCH = 12, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="it is quick already")
    parser.add_argument("--adam", action="store_true", help="search along Adam's directions")
    arguments = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = StochasticLineSearch(
        model.parameters(),
        lr=10.0,  # the largest rate, far too large on purpose
        model=model,  # 1. BatchNorm's running statistics: one update a step, not one a trial
        direction="adam" if arguments.adam else "sgd",
        reset="grow",  # 2. the rate may double in an epoch
        steps_per_epoch=1200 // BATCH,
    )
    for epoch in range(EPOCHS):
        losses, passes = [], optimizer.forward_passes
        for batch in torch.randperm(1200).split(BATCH):  # 3. drawn outside of the closure
            loss = optimizer.step(
                lambda batch=batch: nn.functional.cross_entropy(model(x[batch]), y[batch])
            )
            losses.append(loss)
        print(
            f"epoch {epoch + 1:2}: loss {torch.stack(losses).mean():.4f}, "
            f"rate {optimizer.last.rate:.3g}, "
            f"{(optimizer.forward_passes - passes) / len(losses):.2f} forward passes a step"
        )
    model.eval()
    with torch.no_grad():
        right = (model(x[1200:]).argmax(1) == y[1200:]).float().mean()
    print(f"{right:.1%} of unseen digits right")


if __name__ == "__main__":
    main()
