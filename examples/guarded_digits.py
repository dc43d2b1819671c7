"""A run that would diverge, saved: a rate 30 times too high, bad batches, and a guard.

`SpikeGuard` looks at the loss before it reaches the weights. A spike is passed over; if the next
loss is one, too, the run goes back to its last good weights, at half the rate. The scheduler tells
afterwards what happened. Run it with ``--unguarded`` to see what happens otherwise.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import ratewise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 steps instead of 1000")
    parser.add_argument("--unguarded", action="store_true", help="train without the guard")
    arguments = parser.parse_args()
    steps = 200 if arguments.quick else 1000

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    generator = torch.Generator().manual_seed(0)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0, momentum=0.9)  # 0.1 would do
    scheduler = ratewise.GreedyLR(optimizer)
    guard = ratewise.SpikeGuard(model, optimizer, scheduler)

    for step in range(steps):
        batch = torch.randint(1500, (64,), generator=generator)
        inputs = x[batch] * (1e6 if step % 150 == 149 else 1.0)  # a broken record now and then
        loss = nn.functional.cross_entropy(model(inputs), y[batch])
        if not arguments.unguarded and guard.spiked(loss):
            continue
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)

    with torch.no_grad():
        right = (model(x[1500:]).argmax(1) == y[1500:]).float().mean()
    print(f"{guard.skipped} batches passed over, {guard.rollbacks} returns to good weights")
    print(f"{right:.1%} of unseen digits right")
    scheduler.explain(last=8)


if __name__ == "__main__":
    main()
