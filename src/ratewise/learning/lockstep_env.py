"""A stable-baselines3 vectorised environment whose parts step together in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import extra_named

with extra_named("ratewise.learning", "learn"):
    from stable_baselines3.common.vec_env import VecEnv


class LockstepVecEnv(VecEnv):
    """A `VecEnv` whose parts share their attributes, and begin and end episodes together.

    Args:
        count: number of parts.
        spaces: observation space and action space of each part.
    """

    def __init__(self, count: int, spaces: tuple[Any, Any]) -> None:
        self.render_mode = None
        super().__init__(count, *spaces)
        self.round = 0  #: episodes so far; random draws depend on the seed and this number alone
        #: (name, scores of its runs) of each setting that has ended.
        self.ended: list[tuple[str, NDArray[np.float64]]] = []
        features = spaces[0].shape
        #: [features] the smallest and largest value observed so far.
        self.low = np.full(features, np.inf, np.float32)
        self.high = -self.low

    def recorded(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Widen the recorded range to observations, [parts, features], and return them."""
        self.low = np.minimum(self.low, seen.min(0))
        self.high = np.maximum(self.high, seen.max(0))
        return seen

    def next_round(self, seen: NDArray[np.float32], infos: list[dict[str, Any]]) -> Any:
        """Record the final observations, start the next round, and return its first ones."""
        for info, last in zip(infos, seen, strict=True):
            info["terminal_observation"] = last
        self.round += 1
        return self.reset()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, which is the same for all parts."""
        return [getattr(self, attr_name)] * len(self._which(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute for all parts."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Call a method once, for all parts."""
        return [getattr(self, method_name)(*args, **kwargs)] * len(self._which(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Return False for each part: no part is wrapped."""
        return [False] * len(self._which(indices))

    def _which(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else np.atleast_1d(indices).tolist()
