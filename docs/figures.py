"""The figures of the site that are no study's: `python docs/figures.py`, half a minute on one core.

A perceptron on scikit-learn's handwritten digits, AdamW, 300 steps, seed 0: one training each, to
show what a scheduler does. What is claimed stands on the pages of evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

import ratewise
from ratewise.plotting import PALETTE, Line, Panel, save_panels

FOLDER = Path(__file__).parent / "figures"
STEPS = 300

Make = Callable[[torch.optim.Optimizer], Any]

SCHEDULERS: dict[str, Make] = {
    "LearnedLR": lambda optimizer: ratewise.LearnedLR(optimizer, total_steps=STEPS),
    "UpdateRatioLR": lambda optimizer: ratewise.UpdateRatioLR(optimizer, total_steps=STEPS),
    "GreedyLR": ratewise.GreedyLR,
    "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
}


class Run:
    """A training under a scheduler: its losses, the first group's rate, and the tensors' ratios."""

    def __init__(self, make: Make, lr: float, steps: int = STEPS) -> None:
        images, labels = load_digits(return_X_y=True)
        x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.AdamW(model.named_parameters(), lr=lr)
        self.scheduler = make(optimizer)
        theirs = isinstance(self.scheduler, torch.optim.lr_scheduler.CosineAnnealingLR)
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.ratios: list[list[float]] = []
        self.wanted: list[float] = []
        for _ in range(steps):
            rows = torch.randint(len(x), (64,))
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.losses.append(loss.item())
            self.rates.append(self.scheduler.get_last_lr()[0])
            if hasattr(self.scheduler, "ratios"):
                self.wanted.append(self.scheduler.ratio * self.scheduler.share())
            self.scheduler.step() if theirs else self.scheduler.step(loss)
            if hasattr(self.scheduler, "ratios"):
                self.ratios.append(self.scheduler.ratios().tolist())

    @property
    def end(self) -> float:
        """The mean loss of the last 20 steps, at most that of chance."""
        last = sum(self.losses[-20:]) / 20
        return min(last, math.log(10)) if math.isfinite(last) else math.log(10)


def any_rate() -> Panel:
    """Return the final loss against the rate that the optimizer was given."""
    rates = [10.0**exponent for exponent in (-6, -5, -4, -3, -2, -1, 0, 1, 2)]
    lines = [
        Line(name, PALETTE[index], rates, [Run(make, lr).end for lr in rates], strong=index < 2)
        for index, (name, make) in enumerate(SCHEDULERS.items())
    ]
    labels = "learning rate that the optimizer was given", "loss after 300 steps"
    return Panel("Without a rate to choose", *labels, lines, log_x=True, log_y=True)


def drawn() -> Panel:
    """Return the rates that GreedyLR and cosine draw from the same beginning."""
    steps = list(range(1, STEPS + 1))
    lines = [
        Line(name, PALETTE[index], steps, _seen(Run(make, 1e-3).rates), strong=name == "GreedyLR")
        for index, (name, make) in enumerate(SCHEDULERS.items())
        if name in ("GreedyLR", "cosine")
    ]
    labels = "optimizer step", "learning rate"
    return Panel("A rate that follows the loss", *labels, lines, log_y=True)


def _seen(rates: list[float]) -> list[float]:
    """Return rates with those next to 0 as gaps: a logarithmic axis has no end."""
    return [rate if rate > 1e-5 else math.nan for rate in rates]


def ratios(lr: float) -> Panel:
    """Return the tensors' ratios under UpdateRatioLR, and the one that is wanted."""
    run = Run(SCHEDULERS["UpdateRatioLR"], lr)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    shown = list(range(0, STEPS, 4))
    wanted = [run.wanted[t] for t in shown]
    lines = [Line("wanted", "#000000", [t + 1 for t in shown], wanted, strong=True)]
    for index, name in enumerate(names):
        measured = [run.ratios[t][index] or math.nan for t in shown]
        lines.append(Line(name, PALETTE[index], [t + 1 for t in shown], measured))
    title = f"lr={lr:g}"
    return Panel(title, "optimizer step", "||change|| / ||weights||", lines, log_y=True)


def main() -> None:
    """Write all figures."""
    torch.set_num_threads(1)
    save_panels([any_rate(), drawn()], FOLDER / "overview.png")
    save_panels([ratios(1e-6), ratios(100.0)], FOLDER / "ratios.png")
    ratewise.plot(Run(SCHEDULERS["GreedyLR"], 1e-3).scheduler, FOLDER / "greedy.png")


if __name__ == "__main__":
    main()
