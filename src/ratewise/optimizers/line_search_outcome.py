"""The result of a line-search step, and the warning where no rate was found."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from ratewise.errors import NoRateWarning

#: Why there was no step to speak of.
WORDS = {
    "floor": (
        "no trial of the line search met its condition (loss {0.loss:g}, slope {0.slope:g}): the "
        "step was made with rate {0.rate:g}; shown once. Where it is frequent, the loss is noisier "
        "than its decrease, or lr and max_trials do not reach down to the rates that it needs"
    ),
    "not a descent direction": (
        "the loss does not fall along the direction (slope {0.slope:g}): the step was made with "
        "rate {0.rate:g}; shown once. With direction='adam', betas=(0.0, 0.999) always descends"
    ),
    "non-finite": (
        "the loss {0.loss:g} or its gradient is not finite: the step was left out; shown once"
    ),
}


class LineSearchStep(NamedTuple):
    """What the last step did."""

    loss: float  #: of the batch, before the step
    new_loss: float  #: of the same batch, after it
    rate: float  #: 0 where the parameters stayed as they were
    slope: float  #: <g, d>, what the loss falls by per unit of rate, to first order
    forward_passes: int  #: the one with gradients, too
    accepted: bool  #: the condition is met at `rate`
    #: "armijo" or "goldstein" (met), "floor" (by no trial), "not a descent direction",
    #: "stationary" (the gradient is zero) or "non-finite" (the loss or the gradient).
    reason: str


def warn_of(last: LineSearchStep, stacklevel: int) -> bool:
    """Warn if a step found no acceptable rate, and return whether it warned.

    Args:
        last: the step.
        stacklevel: of the user's call, counted from the caller.
    """
    if last.reason not in WORDS:
        return False
    words = WORDS[last.reason].format(last)
    warnings.warn(words, NoRateWarning, stacklevel=stacklevel + 1)
    return True
