"""The training environment of StochasticNMF's policy: stacks of noisy random factorisations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ratewise.errors import extra_named
from ratewise.learning import stacks
from ratewise.learning.lockstep_env import LockstepVecEnv
from ratewise.learning.noisy_descent import Descent, Problems, log_share
from ratewise.learning.random_factorisations import draw, shape
from ratewise.learning.stacks import Shown, Stacks
from ratewise.nmf import observation
from ratewise.nmf.learned import NMFPolicy, multiple
from ratewise.nmf.observation import FEATURES, MOST
from ratewise.pool import Work, Workers, here
from ratewise.rules.checks import check_count

with extra_named("ratewise.learning", "learn"):
    import gymnasium

#: Differences of ln f beyond this are compressed logarithmically (asinh).
FAR = 0.1


@dataclass(frozen=True)
class FactorisationSettings:
    """How a policy is learned.

    Args:
        decisions: total number of decisions, over all runs.
        seed: random seed of weights, problems, noise and exploration.
        stacks: problem shapes per round.
        problems: problems of each shape.
        wide: how many of the shapes are wide: see `ratewise.learning.random_factorisations.draw`.
        copies: runs of each problem, with the same noise; the reward is relative to their mean.
        windows: equal parts of a run; there is a decision after each but the last.
        width: units of the two hidden layers.
        lr: Adam's learning rate, which falls linearly to 0.
        epochs, minibatch: passes over a rollout, and decisions per gradient step.
        spread: initial standard deviation of the exploration.
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
        """Decisions per update of the policy."""
        return self.stacks * self.problems * self.copies * (self.windows - 1)

    @property
    def rounds(self) -> int:
        """Total number of updates; together they make at most `decisions` decisions."""
        return max(1, self.decisions // self.a_round)


class Run:
    """A stack of factorisations that waits for new rates at the end of each window.

    Args:
        problems: the stack.
        steps: length of a run in steps, a multiple of `windows`.
        windows: parts of the run.
        seed: random seed of the noise.
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
        """Step to the end of the window, and return the observations, [runs, features]."""
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

    def act(self, actions: NDArray[Any]) -> None:
        """Set the corrections for the next window, [runs] in [-1, 1]."""
        mine = torch.from_numpy(np.asarray(actions, np.float32)).reshape(-1)
        self._state = self._state._replace(action=mine.clamp(-1.0, 1.0))

    def result(self) -> NDArray[np.float32]:
        """Return `log_loss`, which each window changes."""
        return self.log_loss()

    def log_loss(self) -> NDArray[np.float32]:
        """Return ln(f / its first value), without noise, [runs]."""
        return log_share(self.descent.loss() / self._first).numpy()


def spaces() -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Return the observation space and the action space: one number in [-1, 1]."""
    seen = gymnasium.spaces.Box(-MOST, MOST, (len(FEATURES),), np.float32)
    return seen, gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


class Factorisations(LockstepVecEnv):
    """Stacks of problems of several shapes; all have as many decisions, so they end together.

    The reward of a decision is the fall of ln f in its window minus the mean fall over the copies
    of the same problem: how hard a problem is, and how noisy, cancels out. Large differences are
    compressed logarithmically, so that a few extreme runs do not dominate.

    Args:
        settings: sizes and seed.
        workers: prepared with `work(settings)`; None works in this process.
    """

    def __init__(self, settings: FactorisationSettings, workers: Workers | None = None) -> None:
        super().__init__(settings.stacks * settings.problems * settings.copies, spaces())
        self._settings = settings
        one = partial(drawn, settings)
        self._stacks = Stacks(one, settings.stacks, workers or here(stacks.work(one)))
        self._last = np.zeros(self.num_envs, np.float32)

    def reset(self) -> NDArray[np.float32]:
        """Start this round's problems, and step up to the first decision."""
        rng = np.random.default_rng([self._settings.seed, self.round])
        shown = self._stacks.begin(self.round, rng)
        self._last = self._ahead(_losses(shown))
        return self._seen(shown)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions, [runs, 1]."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step to the next decision; after the last one to the end, and start the next round."""
        shown = self._stacks.go_on(self._actions)
        seen, losses = self._seen(shown), _losses(shown)
        now = self._ahead(losses)
        rewards, self._last = self._last - now, now
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = all(one.done for one in shown)
        if done:
            scores = -losses.reshape(len(shown), -1).astype(np.float64)
            self.ended += zip(self._stacks.names, scores, strict=True)
            seen = self.next_round(seen, infos)
        return seen, rewards, np.full(self.num_envs, done), infos

    def _seen(self, shown: list[Shown]) -> NDArray[np.float32]:
        return self.recorded(np.concatenate([one.seen for one in shown]))

    def _ahead(self, losses: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return losses minus their mean over the copies of a problem, large ones compressed."""
        each = losses.reshape(-1, self._settings.copies)
        off = each - each.mean(1, keepdims=True)
        return (FAR * np.arcsinh(off / FAR)).reshape(-1)

    def close(self) -> None:
        """Release nothing: the problems are the workers'."""


def _losses(shown: list[Shown]) -> NDArray[np.float32]:
    return np.concatenate([np.asarray(one.result) for one in shown])


def drawn(
    settings: FactorisationSettings, number: int, rng: np.random.Generator
) -> tuple[str, Callable[[], Run]]:
    """Return the name of a stack of problems that is drawn, and a function that begins it.

    Args:
        settings: sizes.
        number: of the stack in its round; the first ones are wide.
        rng: what is drawn comes from it, and beginning takes nothing more.
    """
    wide = number < settings.wide
    found = shape(rng, wide)
    problems = draw(found, settings.problems, rng, wide)
    noise = int(rng.integers(2**31))
    begin = partial(Run, problems, found.steps, settings.windows, noise, settings.copies)
    return str(found), begin


class FactorisationEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One factorisation whose rate is set once per window, for other learning algorithms than PPO.

    Args:
        windows: equal parts of a run.
    """

    def __init__(self, windows: int = FactorisationSettings.windows) -> None:
        self.observation_space, self.action_space = spaces()
        self._windows = windows
        self._run: Run | None = None
        self._last = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start another problem, and step up to the first decision.

        Args:
            seed: random seed of this and the following episodes.
            options: ignored.
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
        run.act(action)
        seen, now = run.window()[0], float(run.log_loss()[0])
        reward, self._last = self._last - now, now
        if run.done:
            self._run = None
        return seen, reward, run.done, False, {}


class FactorisationRecipe:
    """What `ratewise.learning.ppo` learns for StochasticNMF: corrections of a cosine schedule.

    Args:
        settings: how the policy is learned.
    """

    start = 0.0  #: initial mean of the action: the cosine unchanged

    def __init__(self, settings: FactorisationSettings | None = None) -> None:
        self.settings = settings or FactorisationSettings()

    @property
    def stacks(self) -> int:
        """How many stacks a round has: no more workers are of use."""
        return self.settings.stacks

    def work(self) -> Work[Any]:
        """Return what workers do for the environment."""
        return stacks.work(partial(drawn, self.settings))

    def environment(self, workers: Workers | None = None) -> Factorisations:
        """Return the training environment at its first round."""
        return Factorisations(self.settings, workers)

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
        """Return the policy with these arrays, named as in `ratewise.rules.network.Weights`."""
        return NMFPolicy(
            **arrays,
            windows=self.settings.windows,
            provenance=provenance,
        )
