"""Rates that a log does not have: of a schedule that the user names, or of a warmup."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ratewise.curves.curve import MOST_STEPS, Curve, Floats, Series, no_rates
from ratewise.errors import InvalidArgument, invalid
from ratewise.rules.fixed import FIXED, fixed_scale


def scheduled(
    schedule: str,
    peak_lr: float,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    final_share: float = 0.0,
    cooldown: float | None = None,
) -> Floats:
    """Return the rates of a named schedule, one a step.

    Args:
        schedule: one of `ratewise.rules.fixed.FIXED`, or "wsd": hold, then fall linearly.
        peak_lr: the highest rate.
        total_steps: length of the training in optimizer steps.
        warmup_steps: of a linear rise from 0, at the beginning.
        final_share: of the peak, to which the schedule falls instead of 0.
        cooldown: the share of the steps in which "wsd" falls.

    Raises:
        InvalidArgument: a number outside its range.
        UnknownName: no schedule is called so.

    >>> scheduled("wsd", 1.0, 8, warmup_steps=2, cooldown=0.5)
    array([0.5 , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    if not (np.isfinite(peak_lr) and peak_lr > 0):
        raise invalid("peak_lr", "a finite number > 0", peak_lr, "pass e.g. peak_lr=3e-4")
    if not 1 <= total_steps <= MOST_STEPS:
        raise invalid("total_steps", f"in [1, {MOST_STEPS}]", total_steps, "pass its length")
    if not 0 <= warmup_steps < total_steps:
        raise invalid("warmup_steps", f"in [0, {total_steps})", warmup_steps, "pass a shorter one")
    if not 0 <= final_share < 1:
        raise invalid("final_share", "in [0, 1)", final_share, "pass 0.1 for a tenth")
    step = np.arange(1, total_steps + 1)
    if schedule == "wsd":
        if cooldown is None or not 0 < cooldown <= 1:
            raise invalid("cooldown", "in (0, 1] for wsd", cooldown, "pass cooldown=0.2")
        height = np.minimum(1.0, (total_steps - step) / (cooldown * total_steps))
    else:
        if cooldown is not None:
            raise invalid("cooldown", "None but for wsd", cooldown, "leave it out")
        span = max(1, total_steps - warmup_steps)
        if schedule not in FIXED:
            fixed_scale(schedule, 0, 1)  # raises, with the nearest name
        rule = FIXED[schedule]
        progress = np.clip((step - warmup_steps) / span, 0, 1)
        height = np.array([rule(float(p)) for p in progress])
    height = final_share + (1 - final_share) * height
    if warmup_steps:
        height = np.where(step <= warmup_steps, step / warmup_steps, height)
    return peak_lr * height


def with_schedule(curve: Curve, schedule: str, peak_lr: float, **options: float) -> Curve:
    """Return a curve that had no rates with those of a schedule that the user names.

    Args:
        curve: without rates.
        schedule, peak_lr: as in `scheduled`.
        **options: those of `scheduled`; `total_steps` is the curve's where it is not given.

    Raises:
        InvalidArgument: the curve has rates of its own, or goes on after the schedule's end.
    """
    if len(curve.lr):
        raise InvalidArgument(f"run {curve.name!r} has rates of its own: leave schedule out")
    total = int(options.pop("total_steps", 0)) or curve.facts.total_steps or curve.steps
    if total < curve.steps:
        fix = f"pass total_steps={curve.steps} or more"
        raise invalid("total_steps", f"at least the run's {curve.steps} steps", total, fix)
    rates = scheduled(schedule, peak_lr, total, **options)  # type: ignore[arg-type]
    return replace(
        curve.with_facts(schedule=schedule, total_steps=total),
        lr=Series.of(np.arange(1, curve.steps + 1), rates[: curve.steps]),
    )


def with_warmup(curve: Curve, warmup_steps: int) -> Curve:
    """Return a curve whose log begins after a linear warmup with the rates of that warmup.

    Args:
        curve: whose first rate is logged at its end, or later at the same height.
        warmup_steps: of the rise from 0 to the first rate that was logged.

    Raises:
        InvalidArgument: the curve has no rates, or has some before the warmup's end.
    """
    if not len(curve.lr):
        raise no_rates(curve.name)
    first = int(curve.lr.step[0])
    if not 1 <= warmup_steps <= first:
        fix = "leave it out where the log has the warmup"
        raise invalid("warmup_steps", f"in [1, {first}], the first step logged", warmup_steps, fix)
    rate = curve.lr.value[0]
    step, value = curve.lr
    before = [0, warmup_steps] if warmup_steps < first else [0]
    lr = Series.of(np.r_[before, step], np.r_[[0.0, rate][: len(before)], value])
    return replace(curve, lr=lr)
