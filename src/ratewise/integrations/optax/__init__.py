"""GreedyLR and UpdateRatioLR for optax, transformations at the end of a chain; and plans."""

from __future__ import annotations

from ratewise.errors import extra_named

with extra_named("ratewise.integrations.optax", "optax"):
    import jax  # noqa: F401
    import optax  # noqa: F401

from ratewise.integrations.optax.greedy import GreedyScaleState, current_scale, greedy, last_reason
from ratewise.integrations.optax.plan import planned
from ratewise.integrations.optax.update_ratio import current_factors, update_ratio

__all__ = [
    "GreedyScaleState",
    "current_factors",
    "current_scale",
    "greedy",
    "last_reason",
    "planned",
    "update_ratio",
]
