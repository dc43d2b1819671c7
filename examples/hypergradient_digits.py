"""Three starting rates, each a tenth of the next: HypergradientAdam finds its way up from all.

Its rate follows the gradient of the loss with respect to it, from one step to the next. That is
short-sighted: it makes up for a rate that is too low, and it can lower a good one too soon. Run it
with ``--fixed`` to see what the rates do otherwise.
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

from ratewise.optimizers.hypergradient import HypergradientAdam

STEPS = 200


def train(rate: float, fixed: bool, x: torch.Tensor, y: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = HypergradientAdam(
        model.parameters(),
        lr=rate,
        form="multiplicative",  # no units: at most 10% up or down in a step, whatever the model
        hyper_lr=0.0 if fixed else 0.1,
    )
    print(f"from lr {rate:g}")
    for step in range(1, STEPS + 1):
        batch = torch.randint(1200, (64,))
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # moves the rate, then the weights
        if step % 50 == 0:
            print(f"  step {step}: loss {loss.item():.4f}, lr {optimizer.rates()[0].item():.2g}")
    with torch.no_grad():
        right = (model(x[1200:]).argmax(1) == y[1200:]).float().mean().item()
    print(f"  {right:.1%} of unseen digits right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="it is quick already")
    parser.add_argument("--fixed", action="store_true", help="keep the rates: plain Adam")
    arguments = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    for rate in (1e-5, 1e-4, 1e-3):
        train(rate, arguments.fixed, x, y)


if __name__ == "__main__":
    main()
