"""What a policy of StochasticNMF is learned on and how: stacks of noisy random factorisations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratewise.learning.lockstep_env import LockstepVecEnv
from ratewise.learning.noisy_descent import Descent, Problems, log_share
from ratewise.learning.random_factorisations import draw, shape
from ratewise.nmf import observation
from ratewise.nmf.learned import NMFPolicy, multiple
from ratewise.nmf.observation import FEATURES, MOST
from ratewise.rules.checks import check_count

#: Differences of ln f beyond that count by their logarithm, asinh.
FAR = 0.1


@dataclass(frozen=True)
class FactorisationSettings:
    """How a policy is learned.

    Args:
        decisions: how many in all, over all runs.
        seed: of weights, problems, noise and exploration.
        stacks: shapes that are worked on at once.
        problems: of each shape.
        wide: of the shapes, how many are wide: see `ratewise.learning.random_factorisations.draw`.
        copies: runs of each problem, with the same noise: a run is paid for how much better it
            does than they do on average, whatever the problem lets anyone reach.
        windows: parts of a run, with a decision after each but the last.
        width: units of the two hidden layers.
        lr: of Adam, falling linearly to 0.
        epochs, minibatch: passes over a rollout, and decisions a gradient.
        spread: standard deviation of the exploration at first.
    """

    decisions: int = 480_000
    seed: int = 0
    stacks: int = 8
    wide: int = 3
    problems: int = 4
    copies: int = 8
    windows: int = 20
    width: int = 32
    lr: float = 1e-3
    epochs: int = 8
    minibatch: int = 1216
    spread: float = 0.2

    def __post_init__(self) -> None:
        for name in ("decisions", "stacks", "problems", "windows", "width"):
            check_count(name, getattr(self, name), 1)
        check_count("copies", self.copies, 2)
        check_count("seed", self.seed, 0)
        check_count("wide", self.wide, 0)

    @property
    def a_round(self) -> int:
        """Decisions between two updates."""
        return self.stacks * self.problems * self.copies * (self.windows - 1)

    @property
    def rounds(self) -> int:
        """Updates in all: no decision more than was asked for."""
        return max(1, self.decisions // self.a_round)


class Run:
    """A stack of factorisations that waits for its rates at each window's end.

    Args:
        problems: the stack.
        steps: the length of a run, a multiple of `windows`.
        windows: parts of the run.
        seed: of the noise.
        wide: of the shapes, how many are wide: see `ratewise.learning.random_factorisations.draw`.
        copies: runs of each problem, in a row.
    """

    def __init__(
        self, problems: Problems, steps: int, windows: int, seed: int, copies: int = 1
    ) -> None:
        self.descent = Descent(problems.repeated(copies), seed, copies)
        self._first = self.descent.loss()
        self._zero = torch.zeros_like(self._first)
        self._state = observation.init(self._zero)
        self._interval, self._steps = max(1, steps // windows), steps
        self._done = 0

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._done >= self._steps

    def window(self) -> NDArray[np.float32]:
        """Step to the window's end, and return what is seen there, [runs, features]."""
        sums = observation.empty(self._zero)
        for _ in range(self._interval):
            c = multiple(self._state.action, self._done / self._steps, torch)
            step = self.descent.step(c)
            sums = sums.add(step.loss, step.inner, step.square)
            self._done += 1
        seen, self._state = observation.observe(
            self._state, sums, step=self._done, total_steps=self._steps, xp=torch
        )
        return seen.T.numpy().astype(np.float32)

    def act(self, actions: Tensor) -> None:
        """Set the correction of the next window; [runs], in [-1, 1]."""
        self._state = self._state._replace(action=actions.clamp(-1.0, 1.0))

    def log_loss(self) -> NDArray[np.float32]:
        """Return ln f over its first value, without noise, [runs]."""
        return log_share(self.descent.loss() / self._first).numpy()


def spaces() -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Return what is observed, and what is done: one number in [-1, 1]."""
    seen = gymnasium.spaces.Box(-MOST, MOST, (len(FEATURES),), np.float32)
    return seen, gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


class Factorisations(LockstepVecEnv):
    """Stacks of problems of several shapes, all with as many decisions: they end together.

    The reward of a decision is how much ln f fell in its window, less what it fell by on average
    over the copies of that problem: a hard problem is no punishment, and its noise no news. Runs
    far behind or ahead count by the logarithm of that: few would speak for all otherwise.

    Args:
        settings: how many, and the seed.
    """

    def __init__(self, settings: FactorisationSettings) -> None:
        super().__init__(settings.stacks * settings.problems * settings.copies, spaces())
        self._settings = settings
        self._runs: list[Run] = []
        self._names: list[str] = []
        self._last = np.zeros(self.num_envs, np.float32)

    def reset(self) -> NDArray[np.float32]:
        """Begin all problems of this round, and step up to the first decision."""
        rng = np.random.default_rng([self._settings.seed, self.round])
        self._runs, self._names = [], []
        for number in range(self._settings.stacks):
            wide = number < self._settings.wide
            found = shape(rng, wide)
            problems = draw(found, self._settings.problems, rng, wide)
            noise = int(rng.integers(2**31))
            run = Run(problems, found.steps, self._settings.windows, noise, self._settings.copies)
            self._runs.append(run)
            self._names.append(str(found))
        seen = self._seen()
        self._last = self._ahead(self._log_losses())
        return seen

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions, [runs, 1]."""
        each = torch.from_numpy(np.asarray(actions, np.float32)).reshape(len(self._runs), -1)
        for run, mine in zip(self._runs, each, strict=True):
            run.act(mine)

    def step_wait(self) -> Any:
        """Step up to the next decision; after the last one to the end, and begin anew."""
        seen, losses = self._seen(), self._log_losses()
        now = self._ahead(losses)
        rewards, self._last = self._last - now, now
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = all(run.done for run in self._runs)
        if done:
            scores = -losses.reshape(len(self._runs), -1).astype(np.float64)
            self.ended += zip(self._names, scores, strict=True)
            seen = self.begun_anew(seen, infos)
        return seen, rewards, np.full(self.num_envs, done), infos

    def _seen(self) -> NDArray[np.float32]:
        return self.noted(np.concatenate([run.window() for run in self._runs]))

    def _log_losses(self) -> NDArray[np.float32]:
        return np.concatenate([run.log_loss() for run in self._runs])

    def _ahead(self, losses: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return losses less their mean over the copies of a problem, the far ones drawn in."""
        each = losses.reshape(-1, self._settings.copies)
        off = each - each.mean(1, keepdims=True)
        return (FAR * np.arcsinh(off / FAR)).reshape(-1)

    def close(self) -> None:
        """Let the problems go."""
        self._runs = []


class FactorisationEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One factorisation whose rate is set once a window, for whoever learns by other means.

    Args:
        windows: parts of a run.
    """

    def __init__(self, windows: int = FactorisationSettings.windows) -> None:
        self.observation_space, self.action_space = spaces()
        self._windows = windows
        self._run: Run | None = None
        self._last = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin another problem, and step up to the first decision.

        Args:
            seed: of what is drawn from now on.
            options: none are known.
        """
        super().reset(seed=seed)
        rng = self.np_random
        found = shape(rng)
        self._run = Run(draw(found, 1, rng), found.steps, self._windows, int(rng.integers(2**31)))
        seen = self._run.window()[0]
        self._last = float(self._run.log_loss()[0])
        return seen, {"shape": str(found)}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Step up to the next decision, or to the end.

        Args:
            action: [1] in [-1, 1].
        """
        if self._run is None:
            raise gymnasium.error.ResetNeeded("call reset() first")
        run = self._run
        run.act(torch.as_tensor(np.asarray(action, np.float32)).reshape(1))
        seen, now = run.window()[0], float(run.log_loss()[0])
        reward, self._last = self._last - now, now
        if run.done:
            self._run = None
        return seen, reward, run.done, False, {}


class FactorisationCourse:
    """A course of `ratewise.learning.ppo`: corrections of a cosine, below the bound.

    Args:
        settings: how it is learned.
    """

    start = 0.0  #: the action that exploration begins around: the cosine as it is

    def __init__(self, settings: FactorisationSettings | None = None) -> None:
        self.settings = settings or FactorisationSettings()

    def environment(self) -> Factorisations:
        """Return what is learned on, at its first round."""
        return Factorisations(self.settings)

    def options(self) -> dict[str, Any]:
        """Return keyword arguments of PPO."""
        return {
            "n_steps": self.settings.windows - 1,  # whole runs
            "gamma": 1.0,
            "gae_lambda": 1.0,  # the copies are the baseline
            "policy_kwargs": {
                "net_arch": [self.settings.width] * 2,
                "log_std_init": math.log(self.settings.spread),
            },
        }

    def policy(self, arrays: Mapping[str, Any], provenance: Mapping[str, Any]) -> NMFPolicy:
        """Return the policy that these arrays make, named as `Weights` names them."""
        return NMFPolicy(
            **arrays,
            windows=self.settings.windows,
            provenance=provenance,
        )
