"""Learn a policy on a task of your own, and train with it.

The task is yours: a model, a loss and data, as functions. A policy is learned on many short
trainings of it (a minute; give it longer for a real one), written to a file, and used by
LearnedLR like the one that ships. Needs ``pip install 'ratewise[learn]'``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import ratewise
from ratewise.learning.ppo import learn
from ratewise.learning.tasks import OPTIMIZERS, Setting
from ratewise.learning.update_ratio_env import UpdateRatioRecipe, UpdateRatioSettings
from ratewise.simulate import Noise, Task


def spirals(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 512 points of two spirals, and which one each is on: new ones for every seed."""
    generator = torch.Generator().manual_seed(seed)
    along = torch.rand(512, generator=generator) * 3
    which = torch.randint(2, (512,), generator=generator)
    angle = 2 * along + which * torch.pi
    points = along[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return points + 0.1 * torch.randn(512, 2, generator=generator), which


def model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2)
    )


def draw(rng: np.random.Generator) -> Setting:
    """Return a training to learn from: what may vary in yours should vary here."""
    steps = int(rng.choice([100, 200, 400]))
    # A quarter of the points is never trained on: the policy is paid for them, too.
    task = Task("spirals", model, functional.cross_entropy, spirals, batch_size=32, held_out=128)
    return Setting(task, OPTIMIZERS["adamw"], steps, Noise(), f"spirals, {steps} steps")


def train(policy: str | Path) -> float:
    """Return the final loss of an ordinary training under a policy."""
    torch.manual_seed(0)
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    scheduler = ratewise.LearnedLR(optimizer, policy=policy, total_steps=300)
    points, which = spirals(123)
    for _ in range(300):
        batch = torch.randint(512, (32,))
        loss = functional.cross_entropy(net(points[batch]), which[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    with torch.no_grad():
        return float(functional.cross_entropy(net(points), which))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="too short to learn much")
    arguments = parser.parse_args()

    size = {"groups": 2, "trainings": 2, "copies": 8, "minibatch": 192}
    decisions = 24 * 32 * (2 if arguments.quick else 30)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "spirals.safetensors"
        recipe = UpdateRatioRecipe(draw, UpdateRatioSettings(decisions=decisions, **size))
        learn(recipe, file, about={"tasks": ["spirals"]})
        print(f"loss under the policy that ships: {train('default'):.4f}")
        print(f"loss under your own:              {train(file):.4f}")


if __name__ == "__main__":
    main()
