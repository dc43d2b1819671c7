"""Train a small network under GreedyLR: the whole change to a training loop is two lines."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import ratewise


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    generator = torch.Generator().manual_seed(0)

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = ratewise.GreedyLR(optimizer)  # 1. after the optimizer

    for step in range(1, 401):
        batch = torch.randint(len(x), (64,), generator=generator)
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)  # 2. with the training loss
        if step % 50 == 0:
            rate = scheduler.get_last_lr()[0]
            print(f"step {step:3d}  loss {loss.item():.4f}  lr {rate:.2e}  {scheduler.last_reason}")


if __name__ == "__main__":
    main()
