"""The rule of torch's ReduceLROnPlateau: lower the rate once the loss has stopped improving.

One definition for NumPy, torch and jax arrays, as in `ratewise.rules.greedy`: it is written
against `where` and `asarray`, which come in as `xp`; every array has the shape of the runs, `()`
for one. In float64 it gives torch's numbers to the last bit, for NaN and infinite losses too.

Source: torch.optim.lr_scheduler.ReduceLROnPlateau (torch 2.13).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ratewise.errors import invalid
from ratewise.rules.checks import check_amount, check_choices, check_count, is_number

_CHOICES = {"threshold_mode": ("rel", "abs"), "mode": ("min", "max")}


@dataclass(frozen=True)
class PlateauConfig:
    """Settings of the rule, with torch's defaults.

    torch bounds the rate itself, this rule its multiple of the base rate: for a base rate b,
    ``min_scale = min_lr / b`` and ``eps = torch's eps / b``. At b = 1 they are the same numbers;
    torch's default of 1e-8 at b = 1e-3 is ``eps=1e-5`` here.

    Args:
        factor: what the scale is multiplied by, in (0, 1).
        patience: worse losses in a row that are let pass, >= 0.
        threshold: how much better counts as better, finite and >= 0: a share of the best loss
            (``"rel"``) or in the loss's unit (``"abs"``).
        threshold_mode: "rel" or "abs".
        cooldown: updates after a decrease in which no worse loss is counted, >= 0.
        min_scale: lower bound of the scale, in [0, 1].
        eps: smallest change of the scale that is made, finite and >= 0.
        mode: "min" if a smaller loss is better, else "max".

    Raises:
        InvalidArgument: a number outside its range.
        UnknownName: a mode that does not exist.

    >>> PlateauConfig(factor=1.0)
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidArgument: factor must be a number in (0, 1), got 1.0: pass e.g. 0.1
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_scale: float = 0.0
    eps: float = 1e-8
    mode: str = "min"

    def __post_init__(self) -> None:
        if not (is_number(self.factor) and 0.0 < self.factor < 1.0):
            raise invalid("factor", "a number in (0, 1)", self.factor, "pass e.g. 0.1")
        if not (is_number(self.min_scale) and 0.0 <= self.min_scale <= 1.0):
            fix = "pass min_lr / base rate, or 0 for no bound"
            raise invalid("min_scale", "a number in [0, 1]", self.min_scale, fix)
        for name in ("patience", "cooldown"):
            check_count(name, getattr(self, name), 0)
        for name in ("threshold", "eps"):
            check_amount(name, getattr(self, name))
        check_choices(self, _CHOICES)


class PlateauState(NamedTuple):
    """What the rule remembers: four numbers a run."""

    scale: Any  #: multiplies the base rate
    best: Any  #: the best loss so far; infinitely bad before the first
    bad: Any  #: int, losses in a row that were not better
    cooldown: Any  #: int, updates left in which none is counted


def init(config: PlateauConfig, *, zero: Any = None, xp: Any = np) -> PlateauState:
    """Return the state before the first loss.

    Args:
        config: the rule's settings.
        zero: an array of zeros that gives the runs' shape, float type and device;
            one run in float64 by default.
        xp: the array namespace: `numpy`, `torch` or `jax.numpy`.
    """
    zero = xp.asarray(0.0, dtype=xp.float64) if zero is None else zero
    none = xp.where(zero != 0, 1, 0)
    worst = math.inf if config.mode == "min" else -math.inf
    return PlateauState(scale=zero + 1.0, best=zero + worst, bad=none, cooldown=none)


def update(state: PlateauState, *, loss: Any, config: PlateauConfig, xp: Any = np) -> PlateauState:
    """Return the state after one loss; ``state.scale`` is the decision.

    With b the best loss so far and t the threshold, a loss below b (1 - t), or b - t with
    ``threshold_mode="abs"``, is better and the new best; with ``mode="max"`` one above b (1 + t)
    or b + t. Every other one is bad, ties among them. More than `patience` bad ones in a row
    multiply the scale by `factor`, within its bound; `cooldown` updates follow that count none.

    As in torch, NaN is bad and never the best; an infinitely good loss is the best for ever; the
    relative margin points the wrong way where losses are negative; and a bound or an `eps` that
    prevents the change starts the cooldown all the same.

    Args:
        state: what `init` or the last `update` returned.
        loss: the metric, of the runs' shape; NaN and infinities are allowed.
        config: the rule's settings.
        xp: the array namespace of `state`.

    >>> config = PlateauConfig(factor=0.5, patience=1)
    >>> state = init(config)
    >>> for loss in (1.0, 1.0, 1.0, 0.5, 0.5):
    ...     state = update(state, loss=loss, config=config)
    ...     print(float(state.scale), int(state.bad))
    1.0 0
    1.0 1
    0.5 0
    0.5 0
    0.5 1
    """
    c, where = config, xp.where
    if getattr(loss, "dtype", None) != state.best.dtype:
        loss = xp.asarray(loss, dtype=state.best.dtype)

    # The products and their order are torch's: another rounding would decide ties otherwise.
    sign = -1.0 if c.mode == "min" else 1.0
    relative = c.threshold_mode == "rel"
    bar = state.best * (1.0 + sign * c.threshold) if relative else state.best + sign * c.threshold
    better = loss < bar if c.mode == "min" else loss > bar
    best = where(better, loss, state.best)

    resting = state.cooldown > 0
    cooldown = where(resting, state.cooldown - 1, state.cooldown)
    bad = where(better | resting, 0, state.bad + 1)

    due = bad > c.patience
    lowered = state.scale * c.factor
    lowered = where(lowered < c.min_scale, c.min_scale, lowered)
    scale = where(due & (state.scale - lowered > c.eps), lowered, state.scale)
    return PlateauState(scale, best, where(due, 0, bad), where(due, c.cooldown, cooldown))
