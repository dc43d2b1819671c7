"""What a schedule may ride on: nothing, an open-loop schedule by name, a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ratewise.errors import invalid, wrong_type
from ratewise.rules.fixed import FIXED, fixed_scale

Anchor = str | Callable[[int], float] | None


def check_anchor(anchor: Any, total_steps: Any, warmup_steps: int) -> None:
    """Raise unless `anchor` is None, a function, or a name with a horizon beyond the ramp."""
    if isinstance(anchor, str):
        if total_steps is None:
            fix = f"anchor={anchor!r} needs to know the run's length in steps"
            raise invalid("total_steps", "an integer >= 1", total_steps, fix)
        fixed_scale(anchor, 0, total_steps)
        if total_steps <= warmup_steps:
            fix = "pass a shorter ramp"
            raise invalid("warmup_steps", f"below total_steps={total_steps}", warmup_steps, fix)
    elif total_steps is not None and (type(total_steps) is not int or total_steps < 1):
        raise invalid(
            "total_steps", "an integer >= 1", total_steps, "pass the run's length or None"
        )
    elif not (anchor is None or callable(anchor)):
        fix = f"pass None, a function of the step, or one of {', '.join(FIXED)}"
        raise wrong_type("anchor", "a name or a function", anchor, fix)


def anchor_scale(anchor: Anchor, step: int, total_steps: int | None, warmup_steps: int) -> float:
    """Return what the anchor multiplies the rate by at a step; a named one begins after the ramp.

    Raises:
        InvalidArgument: a function returned something else than a finite number >= 0.

    >>> anchor_scale("linear", 7, 12, 2)
    0.5
    """
    if anchor is None:
        return 1.0
    if isinstance(anchor, str):
        past = max(0, step - warmup_steps)
        return fixed_scale(anchor, past, max(1, (total_steps or 1) - warmup_steps))
    scale = float(anchor(step))
    if not 0.0 <= scale < math.inf:
        fix = f"anchor({step}) returned it"
        raise invalid("anchor", "a function whose values are finite and >= 0", scale, fix)
    return scale
