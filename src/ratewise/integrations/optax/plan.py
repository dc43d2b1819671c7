"""Plans as schedules of optax."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from ratewise.errors import unknown
from ratewise.rules.checks import check_count
from ratewise.rules.plan import OTHER_LENGTH, Height, Plan, opened


def planned(
    plan: str | Path | Plan, *, total_steps: int | None = None, other_length: str = "refuse"
) -> Callable[[Any], Any]:
    """Return the rates of a plan as a schedule of optax: count of updates so far -> rate.

    Args:
        plan, total_steps, other_length: as for `ratewise.PlannedLR`.

    Raises:
        CorruptPlan: the file is no plan, or is damaged.
        InvalidArgument: the plan is for another length.
        UnknownName, WrongType: an argument outside its range.

    >>> import optax
    >>> schedule = planned(Plan(((1, 0.0), (3, 0.5), (5, 0.0))))
    >>> tx = optax.sgd(schedule)
    >>> [float(schedule(count)) for count in range(6)]
    [0.0, 0.25, 0.5, 0.25, 0.0, 0.0]
    """
    if other_length not in OTHER_LENGTH:
        raise unknown("other_length", other_length, OTHER_LENGTH)
    if total_steps is not None:
        check_count("total_steps", total_steps, 1)
    followed = opened(plan)
    length = followed.total_steps if total_steps is None else total_steps
    Height(followed, length, other_length)  # raises where the lengths do not fit
    stretched = other_length == "stretch" and length > 1
    pace = (followed.total_steps - 1) / (length - 1) if stretched else 1.0
    steps, rates = zip(*followed.knots, strict=True)
    at, values = jnp.array(steps, jnp.float32) - 1.0, jnp.array(rates, jnp.result_type(float))
    return lambda count: jnp.interp(jnp.asarray(count, at.dtype) * pace, at, values)
