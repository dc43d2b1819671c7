"""One training as a gymnasium environment, for learning algorithms other than our PPO."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import extra_named
from ratewise.learning.group import Group, whole_windows
from ratewise.learning.tasks import RATES
from ratewise.learning.vec_env import Draw, spaces
from ratewise.rules.learned import Policy

with extra_named("ratewise.learning", "learn"):
    import gymnasium


class TrainingEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A training whose update ratio is corrected once per window; an episode is one run.

    The reward comes at the end: ln(anchor's loss / own loss), in [-1, 1], from a run under the
    anchor alone with the same weights and batches, which is trained beside it.

    Args:
        draw: returns a setting; called with a generator of random numbers.
        policy: the anchor, and how it may be corrected.
    """

    def __init__(self, draw: Draw, policy: Policy) -> None:
        self.observation_space, self.action_space = spaces()
        self._draw, self._policy = draw, policy
        self._group: Group | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin another training, and train up to the first decision.

        Args:
            seed: random seed of this and the following episodes.
            options: ignored.
        """
        super().reset(seed=seed)
        rng = self.np_random
        setting = whole_windows(self._draw(rng), self._policy)
        low, high = np.log(RATES)
        rate = float(np.exp(rng.uniform(low, high)))
        self._group = Group(setting, self._policy, [int(rng.integers(2**31))], 1, [rate])
        return self._group.window()[0], {"setting": setting.name}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Train up to the next decision, or to the end.

        Args:
            action: [1] in [-1, 1].
        """
        if self._group is None:
            raise gymnasium.error.ResetNeeded("call reset() first")
        group = self._group
        group.act(np.asarray(action))
        seen = group.window()[0]
        if not group.done:
            return seen, 0.0, False, False, {}
        self._group = None
        return seen, float(group.scores()[0, 0]), True, False, {}
