"""The open-loop shape of a schedule: none, one with a name, or a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ratewise.errors import RatewiseError, invalid, wrong_type
from ratewise.rules import schema
from ratewise.rules.fixed import FIXED, fixed_rule, fixed_scale

Schedule = str | Callable[[int], float] | None


def check_schedule(
    schedule: Any, total_steps: Any, warmup_steps: int, *, open_ended: bool = False
) -> None:
    """Raise unless `schedule` is None, a function, or a name with a length beyond the ramp.

    Args:
        schedule: what is checked.
        total_steps: length of the run, or None.
        warmup_steps: length of the ramp.
        open_ended: a schedule with a name needs no length: it holds its full height then.
    """
    if total_steps is not None and (type(total_steps) is not int or total_steps < 1):
        raise invalid(
            "total_steps", "an integer >= 1", total_steps, "pass the run's length or None"
        )
    if isinstance(schedule, str):
        if total_steps is None and not open_ended:
            fix = f"schedule={schedule!r} needs to know the run's length in steps"
            raise invalid("total_steps", "an integer >= 1", total_steps, fix)
        fixed_scale(schedule, 0, total_steps or 1)
        if total_steps is not None and total_steps <= warmup_steps:
            fix = "pass a shorter ramp"
            raise invalid("warmup_steps", f"below total_steps={total_steps}", warmup_steps, fix)
    elif not (schedule is None or callable(schedule)):
        fix = f"pass None, a function of the step, or one of {', '.join(FIXED)}"
        raise wrong_type("schedule", "a name or a function", schedule, fix)


def check_saved(name: str, value: Any) -> None:
    """Check a schedule in a state: None, a name, or True for a function, which is not saved."""
    known = value is None or value is True
    if isinstance(value, str):
        try:
            known = bool(fixed_rule(value))
        except RatewiseError:
            known = False
    schema.require(known, name, f"one of {[None, True, *FIXED]}", value)


def schedule_scale(schedule: Schedule, step: int, total_steps: int | None, begin: int) -> float:
    """Return what the schedule multiplies the rate by at a step.

    Args:
        schedule: None, a name that `ratewise.rules.fixed.fixed_rule` takes, or a function of the
            step.
        step: counted from 0.
        total_steps: where a schedule with a name ends; None holds its full height.
        begin: the step at which it begins, the end of the ramp.

    Raises:
        InvalidArgument: a function returned something else than a finite number >= 0.

    >>> schedule_scale("linear", 7, 12, 2), schedule_scale("linear", 7, None, 2)
    (0.5, 1.0)
    """
    if schedule is None:
        return 1.0
    if isinstance(schedule, str):
        if total_steps is None:
            return 1.0
        past, length = step - begin, total_steps - begin
        progress = 0.0 if past <= 0 else 1.0 if past >= length else past / length
        height = fixed_rule(schedule)(progress)
        return height if height > 0.0 else 0.0
    scale = float(schedule(step))
    if not 0.0 <= scale < math.inf:
        fix = f"schedule({step}) returned it"
        raise invalid("schedule", "a function whose values are finite and >= 0", scale, fix)
    return scale
