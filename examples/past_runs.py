"""From a folder of TensorBoard logs to the next training: import, forecast, replay the plan.

Here the past runs are made first, three short ones; yours are there already. On the command line:

    ratewise runs import logs --out past --task digits
    ratewise forecast past --schedule linear --peak-lr 0.02 --total-steps 400 \
        --plan plan.json --report page.html
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import ratewise
from ratewise.curves import scheduled
from ratewise.curves.command import forecast
from ratewise.curves.importing import import_logs


class Training:
    """A small network on digits, in batches of 32."""

    def __init__(self, seed: int, lr: float) -> None:
        images, labels = load_digits(return_X_y=True)
        self.x, self.y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)

    def step(self) -> None:
        """Make a step on a random batch."""
        batch = torch.randint(1400, (32,))
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.x[batch]), self.y[batch]).backward()
        self.optimizer.step()

    def held_out(self) -> float:
        """Return the loss of the rows that are not trained on."""
        with torch.no_grad():
            output = self.model(self.x[1400:])
        return float(nn.functional.cross_entropy(output, self.y[1400:]))


def past_run(folder: Path, schedule: str, peak: float, steps: int) -> None:
    """Train as anybody would, with a writer of TensorBoard."""
    training = Training(0, peak)
    with SummaryWriter(str(folder)) as writer:
        for step, rate in enumerate(scheduled(schedule, peak, steps), 1):
            training.optimizer.param_groups[0]["lr"] = rate
            training.step()
            writer.add_scalar("lr", rate, step)
            if step % 20 == 0:
                writer.add_scalar("eval/loss", training.held_out(), step)


def main() -> None:
    logs = Path("logs")
    for schedule, peak, steps in (
        ("constant", 0.05, 300),
        ("linear", 0.1, 300),
        ("cosine", 0.1, 200),
    ):
        past_run(logs / f"{schedule}-{peak}", schedule, peak, steps)

    print(import_logs(logs, "past", facts={"task": "digits", "optimizer": "sgd"}).summary)

    rates = scheduled("linear", 0.1, 400)
    print(forecast("past", rates, plan=Path("plan.json"), report=Path("page.md")))

    training = Training(1, 0.1)
    scheduler = ratewise.PlannedLR(training.optimizer, "plan.json")
    for _ in range(400):
        training.step()
        scheduler.step()
    print(f"it ended at {training.held_out():.4f}")


if __name__ == "__main__":
    main()
