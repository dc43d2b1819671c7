"""Train on handwritten digits under Accelerate, stop in the middle, and go on from `save_state`.

Nothing of ratewise is particular to Accelerate: `prepare` takes the scheduler like any other. A
loss that is observed at each micro-batch and a bare `step()` make one decision an optimizer step,
on the mean, however many micro-batches a step has; `save_state` keeps the scheduler's memory
beside the model's. The second half starts from nothing but that folder, and its rate goes on where
the first one stopped. ``--quick`` trains less.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ratewise

TRAIN = 1440  # of 1797 images


def set_up(train: TensorDataset) -> tuple[Accelerator, Any, Any, Any, Any, Any]:
    """Return what a training script sets up, each time the same."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = ratewise.GreedyLR(optimizer)
    loader = DataLoader(train, batch_size=32, shuffle=True)
    return (accelerator, scheduler, *accelerator.prepare(model, optimizer, loader, scheduler))


def main() -> None:
    torch.set_num_threads(1)  # the model is too small for more
    epochs = 8 if "--quick" in sys.argv else 40
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    train = TensorDataset(x[:TRAIN], y[:TRAIN])

    with tempfile.TemporaryDirectory() as folder:
        for half in (1, 2):  # as two processes would, one after the other
            accelerator, scheduler, model, optimizer, loader, stepped = set_up(train)
            if half == 2:
                rate = scheduler.get_last_lr()[0]
                accelerator.load_state(folder)
                print(f"a new start: lr {rate:.2e}, loaded: {scheduler.get_last_lr()[0]:.2e}")
            for epoch in range((half - 1) * epochs // 2, half * epochs // 2):
                for batch, digits in loader:
                    with accelerator.accumulate(model):
                        loss = nn.functional.cross_entropy(model(batch), digits)
                        accelerator.backward(loss)
                        optimizer.step()
                        scheduler.observe(loss)  # each micro-batch's
                        stepped.step()  # decides where the optimizer has made a step
                        optimizer.zero_grad()
                if (epoch + 1) % (epochs // 8) == 0:
                    rate, steps = scheduler.get_last_lr()[0], scheduler.last_epoch
                    print(f"epoch {epoch + 1:2d}  step {steps:4d}  loss {loss:.4f}  lr {rate:.2e}")
            accelerator.save_state(folder)

    with torch.no_grad():
        right = model.eval()(x[TRAIN:]).argmax(1) == y[TRAIN:]
    print(f"right on {right.float().mean():.1%} of {len(right)} images it never saw\n")
    scheduler.explain(last=5)


if __name__ == "__main__":
    main()
