"""An environment of stable-baselines3 whose parts work in step, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv


class LockstepVecEnv(VecEnv):
    """What all parts share is asked and set once; they begin and end at the same time.

    Args:
        count: how many parts.
        spaces: what each observes, and what it does.
    """

    def __init__(self, count: int, spaces: tuple[Any, Any]) -> None:
        self.render_mode = None
        super().__init__(count, *spaces)
        self.round = 0  #: how often all have begun: what is drawn depends on it alone
        #: Of each setting that has ended: its name, and what its runs scored.
        self.ended: list[tuple[str, NDArray[np.float64]]] = []
        features = spaces[0].shape
        #: [features] the least and the greatest that was seen.
        self.low = np.full(features, np.inf, np.float32)
        self.high = -self.low

    def noted(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """Widen the range to what is seen, [parts, features], and return it."""
        self.low = np.minimum(self.low, seen.min(0))
        self.high = np.maximum(self.high, seen.max(0))
        return seen

    def begun_anew(self, seen: NDArray[np.float32], infos: list[dict[str, Any]]) -> Any:
        """Note the last observations, begin the next round, and return its first ones."""
        for info, last in zip(infos, seen, strict=True):
            info["terminal_observation"] = last
        self.round += 1
        return self.reset()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, the same for all."""
        return [getattr(self, attr_name)] * len(self._which(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of all."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Call a method, once, for all."""
        return [getattr(self, method_name)(*args, **kwargs)] * len(self._which(indices))

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Nothing is."""
        return [False] * len(self._which(indices))

    def _which(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else np.atleast_1d(indices).tolist()
