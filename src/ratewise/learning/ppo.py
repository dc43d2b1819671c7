"""Proximal policy optimisation with stable-baselines3, and the weight file that results.

Source: Schulman et al. 2017 (arXiv 1707.06347). Checkpoints are safetensors and JSON, no pickles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ratewise import __version__
from ratewise.errors import InvalidState, extra_named
from ratewise.files import writing
from ratewise.pool import Where, Work, Workers, workers
from ratewise.progress import tracked
from ratewise.rules import schema
from ratewise.rules.network import LARGEST
from ratewise.rules.policy_files import plain

with extra_named("ratewise.learning", "learn"):
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.utils import set_random_seed


class Recipe(Protocol):
    """What a policy is learned on, and with which settings."""

    settings: Any  #: a dataclass: seed, lr, epochs, minibatch, and numbers a_round and rounds
    start: float  #: initial mean of the action

    @property
    def stacks(self) -> int:
        """How many stacks of runs a round has: no more workers are of use."""

    def work(self) -> Work[Any]:
        """Return what workers do for the environment."""

    def environment(self, workers: Workers | None = None) -> Any:
        """Return a VecEnv with `round`, `ended`, and the range of its features, `low`, `high`.

        Args:
            workers: prepared with `work()`; None works in this process.
        """

    def options(self) -> dict[str, Any]:
        """Return keyword arguments of PPO beside those that all recipes share."""

    def policy(self, arrays: Mapping[str, Any], provenance: Mapping[str, Any]) -> Any:
        """Return the policy that these arrays make; it has a method `save`.

        Args:
            arrays: as `ratewise.rules.network.Weights` names them.
            provenance: how it was made.
        """


#: Fields of a checkpoint beside its tensors.
_FIELDS = {
    "settings": plain,
    "rounds": schema.count(),
    "curve": schema.several(plain),
    "low": schema.several(schema.number(-LARGEST, LARGEST)),
    "high": schema.several(schema.number(-LARGEST, LARGEST)),
}


class Learner:
    """A policy while it is learned; `rounds` learns until it is done, and keeps a checkpoint.

    All random numbers depend on the seed and the number of the round: a run that was stopped and
    resumed gives the same policy as one that was not.

    Args:
        recipe: what the policy is learned on, and how.
        checkpoint: file that is written after every round.
        workers: prepared with the recipe's work; None works in this process.
    """

    def __init__(self, recipe: Recipe, checkpoint: Path, workers: Workers | None = None) -> None:
        self._recipe, self._checkpoint = recipe, _Checkpoint(checkpoint)
        self.settings = settings = recipe.settings
        self.curve: list[dict[str, Any]] = []  #: one entry a setting that has ended
        saved, tensors = self._checkpoint.read() or (None, {})
        if saved is not None and saved["settings"] != asdict(settings):
            odd = {k for k, v in asdict(settings).items() if saved["settings"].get(k) != v}
            odd |= saved["settings"].keys() - asdict(settings).keys()
            raise InvalidState(
                f"{checkpoint}: learned with other settings ({', '.join(sorted(odd))}): "
                "pass the same, or another --out"
            )
        self.done = saved["rounds"] if saved else 0
        self.env = recipe.environment(workers)
        self.env.round = self.done
        self._ppo = PPO(
            "MlpPolicy",
            self.env,
            learning_rate=settings.lr,
            batch_size=settings.minibatch,
            n_epochs=settings.epochs,
            ent_coef=0.0,
            seed=settings.seed,
            device="cpu",
            **recipe.options(),
        )
        self._ppo.set_logger(Logger(None, []))  # its own makes a folder, and leaves it empty
        if recipe.start:
            torch.nn.init.constant_(self._ppo.policy.action_net.bias, recipe.start)
        if saved is not None:
            self._restore(saved, tensors)

    def rounds(self) -> Iterator[int]:
        """Learn, and yield after every update, once its checkpoint is written."""
        while self.done < self.settings.rounds:
            lr = self.settings.lr * (1.0 - self.done / self.settings.rounds)
            self._ppo.lr_schedule = partial(_constant, lr)
            # What a round draws depends on its number alone, so that a resumed run draws the same.
            set_random_seed(1_000_003 * self.settings.seed + self.done)
            first = self._ppo.num_timesteps == 0
            self._ppo.learn(self.settings.a_round, reset_num_timesteps=first, callback=_Quiet())
            self.done += 1
            for name, scores in self.env.ended:
                spread = [float(f(scores)) for f in (np.mean, np.min, np.max)]
                entry = dict(zip(("mean", "least", "most"), spread, strict=True))
                self.curve.append({"round": self.done, "setting": name, **entry})
            self.env.ended.clear()
            self._save()
            yield self.done

    def policy(self, **provenance: Any) -> Any:
        """Return what has been learned so far.

        Args:
            provenance: further entries about how the policy was made.
        """
        actor = self._ppo.policy
        layers = [*actor.mlp_extractor.policy_net, actor.action_net]
        linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        arrays = [(x.weight.detach().numpy(), x.bias.detach().numpy()) for x in linear]
        learned = {
            "weights": tuple(weight.copy() for weight, _ in arrays),
            "biases": tuple(bias.copy() for _, bias in arrays),
            "low": self.env.low.copy(),
            "high": self.env.high.copy(),
        }
        made = {
            "made_by": "ratewise learn",
            "version": __version__,
            "torch": torch.__version__.split("+")[0],
            "settings": asdict(self.settings),
            "rounds": self.done,
        }
        return self._recipe.policy(learned, {**made, **provenance})

    def _save(self) -> None:
        actor = self._ppo.policy
        tensors = {f"weight.{k}": v.contiguous() for k, v in actor.state_dict().items()}
        for index, state in actor.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v.contiguous() for k, v in state.items()}
        ranges = {"low": self.env.low.tolist(), "high": self.env.high.tolist()}
        about = {"settings": asdict(self.settings), "rounds": self.done, "curve": self.curve}
        self._checkpoint.write({**about, **ranges}, tensors)

    def _restore(self, saved: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        actor = self._ppo.policy
        weights = {k[7:]: v for k, v in tensors.items() if k.startswith("weight.")}
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        try:
            actor.load_state_dict(weights)
            adam = actor.optimizer.state_dict()
            actor.optimizer.load_state_dict({**adam, "state": state})
            low, high = (np.array(saved[name], np.float32) for name in ("low", "high"))
            if not low.shape == high.shape == self.env.low.shape:
                raise ValueError(f"ranges of {low.shape} and {high.shape} features")
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise InvalidState(f"{self._checkpoint.path}: does not fit ({error})") from error
        self.curve = saved["curve"]
        self.env.low, self.env.high = low, high


def _constant(lr: float, _: float) -> float:
    return lr


class _Quiet(BaseCallback):
    """Print nothing: the progress bar is enough."""

    def _on_step(self) -> bool:
        return True


class _Checkpoint:
    """One file with weights and metadata, written completely or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Return metadata and weights, or None if there is no checkpoint."""
        if not self.path.exists():
            return None
        fix = "delete it to start again"
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                about = json.loads(file.metadata()["ratewise"])
            schema.record(_FIELDS)("metadata", about)
        except InvalidState as error:  # whose last words are the fix for a state dict
            reason = str(error).rpartition(": ")[0]
            raise InvalidState(f"{self.path}: damaged ({reason}): {fix}") from error
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidState(f"{self.path}: damaged ({error}): {fix}") from error
        return about, tensors

    def write(self, about: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Write the file, replacing an earlier one."""
        with writing.whole(self.path) as temporary:
            save_file(tensors, temporary, {"ratewise": json.dumps(about)})


def learn(
    recipe: Recipe,
    out: Path,
    *,
    about: dict[str, Any] | None = None,
    jobs: int | None = None,
    backend: str | Where | None = None,
    address: str | None = None,
    progress: bool = True,
) -> Any:
    """Learn a policy, write its weight file and return it; if killed, at most one round is lost.

    The stacks of a round are trained side by side. The policy depends on the recipe alone: it is
    the same to the bit on every backend, with any number of workers, on processors of one kind.

    Args:
        recipe: what it is learned on, and how: `UpdateRatioRecipe` of
            `ratewise.learning.update_ratio_env`, for one.
        out: the file to write; the checkpoint and the scores of each setting (NAME.curve.json) are
            written beside it.
        about: entries for the file about what the policy was trained on.
        jobs: how many work at once; None is one, and on Ray as many as the cluster holds.
        backend: "here", "processes" or "ray", or a `ratewise.pool.Where`.
        address: of a cluster that Ray runs on; see `ratewise.pool.Where`.
        progress: whether to show a progress bar.
    """
    where = Where.of(backend, jobs, address)
    drawn = torch.default_generator.get_state()
    threads, numbers = torch.get_num_threads(), np.random.get_state()  # noqa: NPY002
    torch.set_num_threads(1)  # small networks: more threads only wait for each other
    try:
        checkpoint = out.with_name(f"{out.stem}.checkpoint.safetensors")
        with workers(recipe.work(), where, recipe.stacks) as found:
            learner = Learner(recipe, checkpoint, found)
            left = recipe.settings.rounds - learner.done
            rounds = learner.rounds()
            for _ in tracked(rounds, left, lambda: "rounds of PPO" + found.places(), show=progress):
                learner.policy(**(about or {})).save(out)
        policy = learner.policy(**(about or {}))
        policy.save(out)
        curve = out.with_name(f"{out.stem}.curve.json")
        writing.write(curve, json.dumps({"curve": learner.curve}, indent=0))
        return policy
    finally:  # stable-baselines3 seeds the global generators, which are the caller's
        torch.set_num_threads(threads)
        np.random.set_state(numbers)  # noqa: NPY002
        torch.default_generator.set_state(drawn)
