"""Open-loop schedules, and the ramp, as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

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
}
#: Full height, then a linear fall to 0 over the last part of the run; "stable-decay:0.3" names
#: another share of it than a fifth. A ramp at the start is left to the caller.
STABLE_DECAY, DECAY_SHARE = "stable-decay", 0.2


def stable_decay(share: float = DECAY_SHARE) -> FixedRule:
    """Return the schedule that falls to 0 over the last `share` of the run, in (0, 1]."""
    return lambda p: 1.0 if p < 1.0 - share else (1.0 - p) / share


FIXED[STABLE_DECAY] = stable_decay()


@cache
def fixed_rule(name: str) -> FixedRule:
    """Return the schedule of that name.

    Args:
        name: a key of `FIXED`, or ``"stable-decay:SHARE"`` with the share in (0, 1] of the run
            over which it falls.

    Raises:
        UnknownName: no schedule is called so.
        InvalidArgument: the share is not in (0, 1].

    >>> fixed_rule("stable-decay:0.5")(0.75)
    0.5
    """
    if name in FIXED:
        return FIXED[name]
    known, colon, share = str(name).partition(":")
    if known == STABLE_DECAY and colon:
        return _with_share(name, share)
    raise unknown("schedule", name, FIXED)


def _with_share(name: str, text: str) -> FixedRule:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0.0 < share <= 1.0:
        allowed = f"{STABLE_DECAY}:SHARE with a share in (0, 1]"
        raise invalid("schedule", allowed, name, f"pass e.g. '{STABLE_DECAY}:0.3'")
    return stable_decay(share)


def fixed_scale(name: str, step: int, total_steps: int) -> float:
    """Return the scale of schedule `name` at optimizer step `step` of `total_steps`.

    The base rate is multiplied by it. Past `total_steps` the last value holds.

    Args:
        name: a key of `FIXED`, or one with a share (`fixed_rule`).
        step: optimizer steps made so far, >= 0.
        total_steps: the horizon in optimizer steps, >= 1.

    Raises:
        UnknownName: no schedule is called so.
        InvalidArgument: `total_steps` is not a positive integer, or the share outside (0, 1].

    >>> [round(fixed_scale("cosine", step, 4), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """
    rule = fixed_rule(name)
    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise invalid(
            "total_steps", "an integer >= 1", total_steps, "pass the run's number of steps"
        )
    return max(0.0, rule(min(step / total_steps, 1.0)))


def ramped(scale: float, step: int, ramp: int) -> float:
    """Return a schedule's height under a linear ramp at the start.

    >>> ramped(1.0, 0, 3), ramped(1.0, 3, 3)
    (0.25, 1.0)
    """
    return scale * ((step + 1) / (ramp + 1)) if step < ramp else scale
