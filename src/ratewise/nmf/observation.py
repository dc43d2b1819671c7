r"""What a learned schedule of a factorisation sees: eight numbers without a scale, at few moments.

A run is cut into windows. With f the loss, g_t the gradients of the blocks that step, L_t their
curvatures, all as the steps have them (noisy), and sums over the steps of a window,

.. math:: s = \frac{\sum g_t \cdot g_{t-1} / L_t}{\sum \|g_t\|^2 / L_t}, \qquad
          p = \frac{\text{mean} \|g_t\|^2 / L_t}{f}.

Noise that is new at each step has no part in the numerator, so that s is near the share
1 - sigma^2 / E|g|^2 of the signal, without sigma being known. p is what a full step promises,
relative to the loss.

The only place that builds an observation: training and use see the same numbers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

FEATURES = ("progress", "horizon", "level", "change", "signal", "promise", "gradient", "action")
#: Features are clipped to this magnitude.
MOST = 5.0
#: Lengths of the runs in training, in steps; what is shorter or longer counts as these.
LENGTHS = (40, 300)
#: Losses and squares below that share of the first ones are zero.
_FLOOR = 1e-12


class ObservationState(NamedTuple):
    """What is remembered of the run; arrays of the runs' shape."""

    first_loss: Any
    last_loss: Any
    first_square: Any
    action: Any  #: the last one, in [-1, 1]
    windows: int  #: that have ended


class WindowSums(NamedTuple):
    """Sums over the steps of a window; arrays of the runs' shape."""

    loss: Any
    inner: Any  #: of g_t . g_(t-1) / L_t
    square: Any  #: of |g_t|^2 / L_t
    steps: int

    def add(self, loss: Any, inner: Any, square: Any) -> WindowSums:
        """Return the sums with one more step."""
        return WindowSums(
            self.loss + loss, self.inner + inner, self.square + square, self.steps + 1
        )


def init(zero: Any) -> ObservationState:
    """Return the state before the first window, which runs under the action 0.

    Args:
        zero: zeros of the runs' shape.
    """
    return ObservationState(zero, zero, zero, zero, 0)


def empty(zero: Any) -> WindowSums:
    """Return the sums over no step."""
    return WindowSums(zero, zero, zero, 0)


def observe(
    state: ObservationState, sums: WindowSums, *, step: int, total_steps: int, xp: Any
) -> tuple[Any, ObservationState]:
    """Return the features of the window that ends here, [features, ...], and the state after it.

    Args:
        state: the last.
        sums: over the window's steps, at least one.
        step: steps made.
        total_steps: of the run.
        xp: `numpy` or `torch`.

    >>> import numpy as np
    >>> sums = empty(np.zeros(1)).add(np.ones(1), 0.5 * np.ones(1), np.ones(1))
    >>> seen, _ = observe(init(np.zeros(1)), sums, step=50, total_steps=100, xp=np)
    >>> round(dict(zip(FEATURES, seen[:, 0].tolist()))["signal"], 6)
    0.5
    """
    loss, square = sums.loss / sums.steps, sums.square / sums.steps
    first = state.windows == 0
    first_loss = loss if first else state.first_loss
    first_square = square if first else state.first_square
    last = loss if first else state.last_loss

    def log_ratio(a: Any, b: Any, base: Any) -> Any:
        least = _FLOOR * base + 1e-30
        return xp.log((abs(a) + least) / (abs(b) + least))

    flat = 0.0 * loss
    length = min(max(total_steps, LENGTHS[0]), LENGTHS[1])
    seen = xp.stack(
        [
            flat + (2.0 * step / total_steps - 1.0),
            flat + math.log10(length / 100.0),
            log_ratio(loss, first_loss, first_loss) / 3.0,
            log_ratio(loss, last, first_loss),
            sums.inner / (sums.square + _FLOOR * first_square + 1e-30),
            log_ratio(square, loss, first_loss) / 3.0,
            log_ratio(square, first_square, first_square) / 3.0,
            state.action,
        ]
    )
    seen = xp.clip(xp.where(xp.isfinite(seen), seen, MOST), -MOST, MOST)
    after = state._replace(
        first_loss=first_loss, last_loss=loss, first_square=first_square, windows=state.windows + 1
    )
    return seen, after
