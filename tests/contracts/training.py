"""A small real training that can be saved at any step, for the resume battery and its processes.

    python -m tests.contracts.training ROW CHECKPOINT STEPS RESULT [--held]

goes on from CHECKPOINT if there is one, saves there after every step, and writes RESULT at the
end: rates after each step and the final weights, as numbers that compare to the bit.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from tests.contracts.rules import ROWS, Row
from torch import nn

STEPS = 40


class Training:
    """A network with dropout on noisy data in batches of four; its sampler is a generator."""

    def __init__(self, row: Row, *, tensor: bool = False, base: float = 0.05) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(64, 6)
        self.y = self.x[:, :1] * 2 + 0.5 * torch.randn(64, 1)
        body, head = nn.Linear(6, 8), nn.Linear(8, 1)
        self.model = nn.Sequential(body, nn.Tanh(), nn.Dropout(0.1), head)
        rates: list[Any] = [base, base / 2]
        if tensor:
            rates = [torch.tensor(rate, dtype=torch.float64) for rate in rates]
        self.optimizer = torch.optim.SGD(
            [
                {"params": body.parameters(), "lr": rates[0]},
                {"params": head.parameters(), "lr": rates[1]},
            ],
            momentum=0.9,
        )
        self.scheduler = row.make(self.optimizer)
        self.sampler = torch.Generator().manual_seed(1)
        self.rates: list[list[float]] = []

    def step(self) -> None:
        index = torch.randint(64, (4,), generator=self.sampler)
        loss = nn.functional.mse_loss(self.model(self.x[index]), self.y[index])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(loss)
        self.rates.append([float(rate) for rate in self.scheduler.get_last_lr()])

    def run(self, steps: int) -> Training:
        while len(self.rates) < steps:
            self.step()
        return self

    def weights(self) -> list[float]:
        return [float(x) for p in self.model.parameters() for x in p.detach().flatten()]

    def save(self, file: Any) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "sampler": self.sampler.get_state(),
            "random": torch.get_rng_state(),
            "rates": self.rates,
        }
        torch.save(state, file)

    def load(self, file: Any, order: str = "optimizer first") -> Training:
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        parts = [
            lambda: self.optimizer.load_state_dict(state["optimizer"]),
            lambda: self.scheduler.load_state_dict(state["scheduler"]),
        ]
        for part in parts if order == "optimizer first" else reversed(parts):
            part()
        self.sampler.set_state(state["sampler"])
        torch.set_rng_state(state["random"])
        self.rates = state["rates"]
        return self


def main(name: str, checkpoint: Path, steps: int, result: Path, held: bool) -> None:
    """Train and save each step; `held`, save half-way again and again until killed."""
    torch.set_num_threads(1)
    training = Training(next(row for row in ROWS if row.name == name))
    if checkpoint.exists():
        training.load(checkpoint)
    while len(training.rates) < steps:
        if not (held and len(training.rates) == steps // 2):
            training.step()
        partial = checkpoint.with_suffix(".partial")
        training.save(partial)
        os.replace(partial, checkpoint)
    result.write_text(json.dumps({"rates": training.rates, "weights": training.weights()}))


if __name__ == "__main__":
    row, checkpoint, steps, result, *flags = sys.argv[1:]
    main(row, Path(checkpoint), int(steps), Path(result), "--held" in flags)
