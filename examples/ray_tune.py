"""Ray Tune over base rates, under GreedyLR: bad trials stop early, and checkpoints resume exactly.

Needs ``pip install 'ratewise[compare]' 'ray[tune]'``. A trainable of Tune saves the scheduler
beside the model and the optimizer, and the generator of the data order; whoever goes on from such a
checkpoint (ASHA, population based training, a trial whose machine died) does what the trial would
have done. Add ``--quick`` for a short run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from sklearn.datasets import load_digits
from torch import nn

import ratewise

STEPS = 30  #: optimizer steps between two reports to Tune


class Digits(tune.Trainable):
    """A small perceptron on handwritten digits; `config` has the base rate."""

    def setup(self, config: dict[str, Any]) -> None:
        """Make everything anew from the trial's rate."""
        torch.set_num_threads(1)
        images, labels = load_digits(return_X_y=True)
        self.x, self.y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config["lr"])
        self.scheduler = ratewise.GreedyLR(self.optimizer, criterion="count", patience=3)
        self.order = torch.Generator().manual_seed(0)

    def step(self) -> dict[str, float]:
        """Train for a while, and report the loss on what is held out."""
        for _ in range(STEPS):
            rows = torch.randint(1400, (32,), generator=self.order)
            loss = nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step(loss.item())
        with torch.no_grad():
            held_out = nn.functional.cross_entropy(self.model(self.x[1400:]), self.y[1400:])
        return {"loss": held_out.item(), "lr": self.optimizer.param_groups[0]["lr"]}

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write all that the rest of the training depends on."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state["order"] = self.order.get_state()
        torch.save(state, Path(checkpoint_dir) / "training.pt")

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from there."""
        state = torch.load(Path(checkpoint_dir) / "training.pt", weights_only=True)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.order.set_state(state["order"])


def resumed_exactly(lr: float) -> bool:
    """Return whether a trainable that goes on from a checkpoint does what the first one does."""
    first, second = Digits({"lr": lr}), Digits({"lr": lr})
    first.step()
    with tempfile.TemporaryDirectory() as folder:
        first.save_checkpoint(folder)
        second.load_checkpoint(folder)
    return [first.step(), first.step()] == [second.step(), second.step()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two trials, to see that it works")
    quick = parser.parse_args().quick

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    rates = [3e-4, 1e-2] if quick else [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
    longest = 3 if quick else 20
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            Digits,
            param_space={"lr": tune.grid_search(rates)},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                scheduler=ASHAScheduler(max_t=longest, grace_period=2 if quick else 5),
                max_concurrent_trials=2,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                stop={"training_iteration": longest},
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
                verbose=0,
            ),
        )
        results = tuner.fit()
        best = results.get_best_result()
        for result in sorted(results, key=lambda one: one.config["lr"]):
            steps = STEPS * result.metrics["training_iteration"]
            print(f"lr {result.config['lr']:g}: {result.metrics['loss']:.3f} after {steps} steps")
        print(f"best: lr {best.config['lr']:g}, the rate at its end {best.metrics['lr']:.2g}")
    ray.shutdown()
    print("resumed exactly" if resumed_exactly(best.config["lr"]) else "NOT resumed exactly")


if __name__ == "__main__":
    main()
