"""Policies with random weights, which act at once: for tests of whatever uses one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ratewise.rules.features import FEATURES, MOST
from ratewise.rules.learned import Policy
from ratewise.rules.update_ratio import DEFAULT

WIDE = len(FEATURES)


def random_policy(seed: int = 0, **changes: Any) -> Policy:
    """Return a policy of 8 hidden units with weights of about 1/2."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (0.5 * rng.standard_normal(shape)).astype(np.float32)

    span = np.full(WIDE, MOST, np.float32)
    settings: dict[str, Any] = {
        "weights": (draw(8, WIDE), draw(1, 8)),
        "biases": (draw(8), draw(1)),
        "low": -span,
        "high": span,
        "bound": 1.5,
        "windows": 12,
        "horizon": DEFAULT,
        "name": "random",
    }
    return Policy(**{**settings, **changes})
