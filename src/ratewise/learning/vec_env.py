"""The simulator as an environment of stable-baselines3: many trainings at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import extra_named
from ratewise.learning import stacks
from ratewise.learning.group import drawn
from ratewise.learning.lockstep_env import LockstepVecEnv
from ratewise.learning.stacks import Shown, Stacks
from ratewise.learning.tasks import Setting
from ratewise.pool import Workers, here
from ratewise.rules.features import FEATURES, MOST
from ratewise.rules.learned import Policy

with extra_named("ratewise.learning", "learn"):
    import gymnasium

Draw = Callable[[np.random.Generator], Setting]


def spaces() -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Return the observation space and the action space: one number in [-1, 1]."""
    seen = gymnasium.spaces.Box(-MOST, MOST, (len(FEATURES),), np.float32)
    return seen, gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


class Trainings(LockstepVecEnv):
    """Groups of trainings with the same number of decisions each, so that they end together.

    A run is rewarded at its end, by how much better it did than the other runs of its seed, in
    standard deviations of those: runs of one seed differ in the actions taken alone.

    Args:
        draw: returns settings; called with a generator of random numbers.
        policy: the anchor, and how it may be corrected.
        groups: settings per round.
        trainings: seeds of each setting.
        copies: runs of each seed under the policy; one more runs under the anchor alone.
        seed: random seed of settings, seeds and rates.
        workers: prepared with `work(draw, policy, trainings, copies)`; None works in this process.
    """

    def __init__(
        self,
        draw: Draw,
        policy: Policy,
        *,
        groups: int,
        trainings: int,
        copies: int,
        seed: int,
        workers: Workers | None = None,
    ) -> None:
        super().__init__(groups * trainings * copies, spaces())
        self._seed = seed
        one = partial(drawn, draw, policy, trainings, copies)
        self._stacks = Stacks(one, groups, workers or here(stacks.work(one)))

    def reset(self) -> NDArray[np.float32]:
        """Start this round's trainings, and train up to the first decision."""
        rng = np.random.default_rng([self._seed, self.round])
        return self._seen(self._stacks.begin(self.round, rng))

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions, [runs, 1]."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Train to the next decision; after the last one to the end, and start the next round."""
        shown = self._stacks.go_on(self._actions)
        seen = self._seen(shown)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = all(one.done for one in shown)
        rewards = np.zeros(self.num_envs, np.float32)
        if done:
            scores = [np.asarray(one.result) for one in shown]
            self.ended += zip(self._stacks.names, scores, strict=True)
            rewards = np.concatenate([_rewards(score) for score in scores])
            seen = self.next_round(seen, infos)
        return seen, rewards, np.full(self.num_envs, done), infos

    def _seen(self, shown: list[Shown]) -> NDArray[np.float32]:
        return self.recorded(np.concatenate([one.seen for one in shown]))

    def close(self) -> None:
        """Release nothing: the trainings are the workers'."""


#: Differences between runs of one seed below this are treated as noise.
_NOISE = 0.02


def _rewards(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the rewards, [runs], from the scores, [seeds, copies]."""
    apart = scores - scores.mean(1, keepdims=True)
    return np.clip(apart / (scores.std(1, keepdims=True) + _NOISE), -3, 3).ravel().astype("f4")
