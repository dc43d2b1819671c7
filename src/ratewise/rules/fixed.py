"""Open-loop schedules, and the ramp, as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from ratewise.errors import invalid, unknown

FixedRule = Callable[[float], float]


def _restarts(progress: float) -> float:
    """Cosine with warm restarts after 1/7 and 3/7 of the way: periods of 1, 2 and 4 parts."""
    part = min(progress, 1.0) * 7.0
    start, length = (0.0, 1.0) if part < 1 else (1.0, 2.0) if part < 3 else (3.0, 4.0)
    return 0.5 * (1.0 + math.cos(math.pi * min((part - start) / length, 1.0)))


#: name -> scale as a function of progress = step / total_steps in [0, 1]
FIXED: dict[str, FixedRule] = {
    "constant": lambda p: 1.0,
    "linear": lambda p: 1.0 - p,
    "polynomial": lambda p: (1.0 - p) ** 2,
    "cosine": lambda p: 0.5 * (1.0 + math.cos(math.pi * p)),
    "exponential": lambda p: 0.01**p,
    "step": lambda p: 1.0 if p < 1 / 3 else 0.1 if p < 2 / 3 else 0.01,
    "restarts": _restarts,
    # warm-up is left to the caller: an anchor's "warmup-stable-decay" is hold, then linear to 0
    "stable-decay": lambda p: 1.0 if p < 0.8 else (1.0 - p) / 0.2,
}


def fixed_scale(name: str, step: int, total_steps: int) -> float:
    """Return the scale of schedule `name` at optimizer step `step` of `total_steps`.

    The base rate is multiplied by it. Past `total_steps` the last value holds.

    Args:
        name: a key of `FIXED`.
        step: optimizer steps made so far, >= 0.
        total_steps: the horizon in optimizer steps, >= 1.

    Raises:
        UnknownName: no schedule is called so.
        InvalidArgument: `total_steps` is not a positive integer.

    >>> [round(fixed_scale("cosine", step, 4), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    if name not in FIXED:
        raise unknown("schedule", name, FIXED)
    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise invalid(
            "total_steps", "an integer >= 1", total_steps, "pass the run's number of steps"
        )
    return max(0.0, FIXED[name](min(step / total_steps, 1.0)))


def ramped(scale: float, step: int, ramp: int) -> float:
    """Return a schedule's height under a linear ramp at the start.

    >>> ramped(1.0, 0, 3), ramped(1.0, 3, 3)
    (0.25, 1.0)
    """
    return scale * ((step + 1) / (ramp + 1)) if step < ramp else scale
