"""The simulator as an environment of stable-baselines3: many trainings at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import extra_named
from ratewise.learning.group import Group
from ratewise.learning.lockstep_env import LockstepVecEnv
from ratewise.learning.tasks import RATES, Setting
from ratewise.rules.features import FEATURES, MOST
from ratewise.rules.learned import Policy

with extra_named("ratewise.learning", "learn"):
    import gymnasium

Draw = Callable[[np.random.Generator], Setting]


def spaces() -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Return the observation space and the action space: one number in [-1, 1]."""
    seen = gymnasium.spaces.Box(-MOST, MOST, (len(FEATURES),), np.float32)
    return seen, gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


def whole_windows(setting: Setting, policy: Policy) -> Setting:
    """Return the setting with its length rounded to a multiple of the policy's windows."""
    return replace(setting, steps=policy.windows * max(1, round(setting.steps / policy.windows)))


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
    """

    def __init__(
        self, draw: Draw, policy: Policy, *, groups: int, trainings: int, copies: int, seed: int
    ) -> None:
        super().__init__(groups * trainings * copies, spaces())
        self._draw, self._policy = draw, policy
        self._count, self._trainings, self._copies = groups, trainings, copies
        self._seed = seed
        self._groups: list[tuple[str, Group]] = []

    def reset(self) -> NDArray[np.float32]:
        """Start this round's trainings, and train up to the first decision."""
        rng = np.random.default_rng([self._seed, self.round])
        self._groups = [self._begin(self._draw(rng), rng) for _ in range(self._count)]
        return self._seen()

    def _begin(self, setting: Setting, rng: np.random.Generator) -> tuple[str, Group]:
        seeds = rng.integers(2**31, size=self._trainings).tolist()
        low, high = np.log(RATES)
        rates = np.exp(rng.uniform(low, high, self._trainings)).tolist()
        setting = whole_windows(setting, self._policy)
        return setting.name, Group(setting, self._policy, seeds, self._copies, rates)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions, [runs, 1]."""
        for (_, group), mine in zip(self._groups, actions.reshape(self._count, -1), strict=True):
            group.act(mine)

    def step_wait(self) -> Any:
        """Train to the next decision; after the last one to the end, and start the next round."""
        seen = self._seen()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = all(group.done for _, group in self._groups)
        rewards = np.zeros(self.num_envs, np.float32)
        if done:
            scores = [group.scores() for _, group in self._groups]
            names = [name for name, _ in self._groups]
            self.ended += zip(names, scores, strict=True)
            rewards = np.concatenate([_rewards(score) for score in scores])
            seen = self.next_round(seen, infos)
        return seen, rewards, np.full(self.num_envs, done), infos

    def _seen(self) -> NDArray[np.float32]:
        return self.recorded(np.concatenate([group.window() for _, group in self._groups]))

    def close(self) -> None:
        """Release the trainings."""
        self._groups = []


#: Differences between runs of one seed below this are treated as noise.
_NOISE = 0.02


def _rewards(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the rewards, [runs], from the scores, [seeds, copies]."""
    apart = scores - scores.mean(1, keepdims=True)
    return np.clip(apart / (scores.std(1, keepdims=True) + _NOISE), -3, 3).ravel().astype("f4")
