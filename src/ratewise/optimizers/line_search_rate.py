"""The search for a rate along one direction: Armijo's condition, Goldstein's, the floor.

Pure Python on numbers: what a trial costs and how it is made is `line_search_trials`' affair.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ratewise.errors import invalid
from ratewise.rules.checks import check_choices, check_count, is_number

#: What a setting of the search may be.
CHOICES = {
    "direction": ("sgd", "adam"),
    "condition": ("armijo", "goldstein"),
    "reset": ("previous", "max", "grow"),
}


@dataclass(frozen=True)
class LineSearchConfig:
    """Settings of the search; every one is explained at `ratewise.optimizers.StochasticLineSearch`.

    >>> LineSearchConfig(backtrack=1.0)
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidArgument: backtrack must be a number in (0, 1), got 1.0: pass e.g. 0.9
    """

    lr: float = 1.0
    direction: str = "sgd"
    condition: str = "armijo"
    c: float = 0.1
    backtrack: float = 0.9
    growth: float = 2.0
    reset: str = "previous"
    steps_per_epoch: int | None = None
    min_lr: float = 1e-10
    max_trials: int = 50

    def __post_init__(self) -> None:
        check_choices(self, CHOICES)
        if not (is_number(self.lr) and 0.0 < self.lr < math.inf):
            raise invalid("lr", "a finite number > 0", self.lr, "pass e.g. 1.0")
        if not (is_number(self.min_lr) and 0.0 < self.min_lr <= self.lr):
            fix = "pass e.g. 1e-10"
            raise invalid("min_lr", f"a number in (0, lr={self.lr:g}]", self.min_lr, fix)
        # Goldstein's two lines leave no rate between them from c = 1/2 on.
        most = 0.5 if self.condition == "goldstein" else 1.0
        if not (is_number(self.c) and 0.0 < self.c < most):
            words = f"a number in (0, {most:g}) for condition={self.condition!r}"
            raise invalid("c", words, self.c, "pass e.g. 0.1")
        if not (is_number(self.backtrack) and 0.0 < self.backtrack < 1.0):
            raise invalid("backtrack", "a number in (0, 1)", self.backtrack, "pass e.g. 0.9")
        if not (is_number(self.growth) and 1.0 <= self.growth < math.inf):
            raise invalid("growth", "a finite number >= 1", self.growth, "pass e.g. 2.0")
        if self.condition == "goldstein" and self.growth == 1.0:
            fix = "pass e.g. growth=2.0"
            raise invalid("growth", "above 1 for condition='goldstein'", self.growth, fix)
        if self.steps_per_epoch is not None:
            check_count("steps_per_epoch", self.steps_per_epoch, 1)
        elif self.reset == "grow":
            fix = "pass steps_per_epoch=len(loader)"
            raise invalid("steps_per_epoch", "an integer >= 1 for reset='grow'", None, fix)
        check_count("max_trials", self.max_trials, 1)


class Found(NamedTuple):
    """How a search ended."""

    rate: float  #: 0 where no trial can be kept
    loss: float  #: at that rate
    accepted: bool
    reason: str  #: "armijo", "goldstein" or "floor"
    trials: int


def first_trial(config: LineSearchConfig, rate: float | None) -> float:
    r"""Return the rate that a step tries first: options 0, 1 and 2 of Algorithm 2.

    Args:
        config: the settings.
        rate: the last rate that was accepted, or None where there is none.

    >>> config = LineSearchConfig(lr=1.0, reset="grow", growth=4.0, steps_per_epoch=2)
    >>> [first_trial(config, rate) for rate in (None, 0.25, 0.75)]
    [1.0, 0.5, 1.0]
    """
    if rate is None or config.reset == "max":
        return config.lr
    if config.reset == "previous":
        return rate
    # The batch's share of the data is one step's share of an epoch. Capped: lr is the largest.
    return min(config.lr, rate * config.growth ** (1.0 / (config.steps_per_epoch or 1)))


def search(
    loss_at: Callable[[float], float],
    *,
    loss: float,
    slope: float,
    start: float,
    config: LineSearchConfig,
    resolution: float = 0.0,
) -> Found:
    r"""Return the first rate that meets the condition, in at most `max_trials` trials.

    With :math:`\phi(\eta) = f(w - \eta d)` and the slope :math:`s = \langle g, d \rangle > 0`:

    .. math:: \phi(\eta) \le \phi(0) - c \, \eta s \quad \text{(Armijo)}, \qquad
              \phi(\eta) \ge \phi(0) - (1 - c) \, \eta s \quad \text{(Goldstein, besides)}.

    The first half of the trials back off by `backtrack`; the second by what takes the last one to
    the floor, if that is more: however far off, a search neither breaks its bound nor ends
    half-way. Under Goldstein a rate that is too small grows; between one too small and one too
    large the search halves the gap in logarithms, in which, f being continuous, the rate lies. A
    rate of `lr` may not grow and counts as Armijo's.

    Args:
        loss_at: phi, one trial.
        loss: phi(0), finite.
        slope: s, finite, > 0.
        start: the first rate, in [min_lr, lr].
        config: the settings.
        resolution: relative distance of two losses that rounding makes alike. Where the first
            order promises a smaller change, no trial could tell: the search goes to the floor.

    >>> parabola = lambda rate: (1.0 - 2.0 * rate) ** 2  # x^2 from 1 along its gradient, 2
    >>> search(parabola, loss=1.0, slope=4.0, start=1.0, config=LineSearchConfig(backtrack=0.5))
    Found(rate=0.5, loss=0.0, accepted=True, reason='armijo', trials=2)
    """
    small: tuple[float, float] | None = None  # the largest rate that is too small, and its loss
    large: float | None = None  # the smallest that is too large
    rate, seen = start, math.nan
    trials, last = 0, False
    while trials < config.max_trials and not last:
        trials, seen = trials + 1, loss_at(rate)
        last = rate <= config.min_lr
        # A comparison with NaN is false; -inf is no loss either; and where rounding swallows what
        # is asked for, a loss that stays the same must not pass.
        if math.isfinite(seen) and seen < loss and seen <= loss - config.c * rate * slope:
            bound = loss - (1.0 - config.c) * rate * slope
            if config.condition == "armijo" or seen >= bound or rate >= config.lr:
                met = config.condition if seen >= bound else "armijo"
                return Found(rate, seen, True, met, trials)
            small, last = (rate, seen), False
        else:
            large = rate
        if small is not None and large is not None:
            rate = math.sqrt(small[0] * large)
        elif small is not None:
            rate = min(rate * config.growth, config.lr)
        elif rate * slope < resolution * abs(loss):
            rate = config.min_lr
        else:
            rate = _lower(rate, config.max_trials - trials, config)
    if small is not None:  # the trials ran out inside the bracket
        return Found(*small, True, "armijo", trials)
    kept = last and math.isfinite(seen)
    return Found(config.min_lr if kept else 0.0, seen if kept else loss, False, "floor", trials)


def _lower(rate: float, left: int, config: LineSearchConfig) -> float:
    """Return the rate after one that is too large, with so many trials left."""
    if left <= 1:
        return config.min_lr
    factor = config.backtrack
    if left <= config.max_trials // 2:
        factor = min(factor, (config.min_lr / rate) ** (1.0 / left))
    return max(rate * factor, config.min_lr)
