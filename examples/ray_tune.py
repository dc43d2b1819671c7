"""Ray Tune over base rates, under GreedyLR: checkpoints that resume exactly, and the Advisor.

Needs ``pip install 'ratewise[compare]' 'ray[tune]'``. A trainable of Tune saves the scheduler
beside the model and the optimizer, and the generator of the data order; whoever goes on from such a
checkpoint (ASHA, population based training, a trial whose machine died) does what the trial would
have done. First ASHA goes through a grid and stops bad trials early; then the rates are those that
ratewise's Advisor proposes, run after run. Add ``--quick`` for a short run.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from sklearn.datasets import load_digits
from torch import nn

import ratewise
from ratewise.curves import Key

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


class Advised(Searcher):
    """The Advisor as Tune asks for it: a trial's rate is asked for, and its last loss is told.

    A trial that something else stops early would tell the loss of a shorter run: use no ASHA here.
    """

    def __init__(self, advisor: ratewise.Advisor) -> None:
        super().__init__(metric="loss", mode="min")
        self._advisor, self._asked = advisor, {}

    def suggest(self, trial_id: str) -> Any:
        """Return a trial's configuration, None to wait for others, or that there are no more."""
        advice = self._advisor.ask()
        if advice is None:
            return Searcher.FINISHED if self._advisor.done else None
        self._asked[trial_id] = advice
        return {"lr": advice.value}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take what a trial came to; one that failed counts as diverged."""
        loss = math.inf if error or result is None else result["loss"]
        self._advisor.tell(self._asked.pop(trial_id), loss)


def resumed_exactly(lr: float, kind: type[Digits] = Digits) -> bool:
    """Return whether a trainable that goes on from a checkpoint does what the first one does."""
    first, second = kind({"lr": lr}), kind({"lr": lr})
    first.step()
    with tempfile.TemporaryDirectory() as folder:
        first.save_checkpoint(folder)
        second.load_checkpoint(folder)
    return [first.step(), first.step()] == [second.step(), second.step()]


def tuned(folder: str, longest: int, space: dict[str, Any], **options: Any) -> tune.ResultGrid:
    """Run trials, two at a time, and show what came of them.

    Args:
        folder: for Tune's files.
        longest: reports until a trial ends.
        space: the rates, where Tune chooses them.
        options: of `tune.TuneConfig`: what else chooses rates, and what stops a trial before.
    """
    tuner = tune.Tuner(
        Digits,
        param_space=space,
        tune_config=tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=2, **options),
        run_config=tune.RunConfig(
            storage_path=folder,
            stop={"training_iteration": longest},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            verbose=0,
        ),
    )
    results = tuner.fit()
    for result in sorted(results, key=lambda one: one.config["lr"]):
        steps = STEPS * result.metrics["training_iteration"]
        print(f"lr {result.config['lr']:g}: {result.metrics['loss']:.3f} after {steps} steps")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two trials, to see that it works")
    quick = parser.parse_args().quick

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    rates = [3e-4, 1e-2] if quick else [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
    longest = 3 if quick else 20
    with tempfile.TemporaryDirectory() as folder:
        early = ASHAScheduler(max_t=longest, grace_period=2 if quick else 5)
        found = tuned(folder, longest, {"lr": tune.grid_search(rates)}, scheduler=early)
        best = found.get_best_result()
        print(f"best: lr {best.config['lr']:g}, the rate at its end {best.metrics['lr']:.2g}")

        key = Key("digits", optimizer="adamw", total_steps=STEPS * longest)
        advisor = ratewise.Advisor(f"{folder}/advisor.json", key=key, budget=2 if quick else 6)
        tuned(folder, longest, {}, search_alg=Advised(advisor), num_samples=-1)
        print(f"Advisor: lr {advisor.best():.2g}, {advisor.reason}")
    ray.shutdown()
    if not resumed_exactly(best.config["lr"]):
        raise SystemExit("a checkpoint did not resume exactly")
    print("resumed exactly")


if __name__ == "__main__":
    main()
