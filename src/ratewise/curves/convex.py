"""The convex bound on the last iterate: a second opinion on shapes, and a rate carried over.

For a convex loss whose gradients at step t have norm at most g_t, and a start at distance D from
a minimum, the last iterate after the rates eta_1 ... eta_T is within

    D^2 / (2 sum eta) + sum eta^2 g^2 / (2 sum eta)
      + 1/2 sum_{k<T} eta_k / (sum_{j>k} eta_j) * (sum_{j>=k} eta_j^2 g_j^2) / (sum_{j>=k} eta_j)

of it. Schaipp et al. 2025, arXiv 2501.18965. Trainings of networks are not convex; the bound's
shape over schedules agrees with theirs all the same, its scale does not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ratewise.curves.curve import Floats
from ratewise.errors import invalid


class Bound(NamedTuple):
    """The bound's three terms at a distance D."""

    start: float  #: D^2 / (2 sum eta)
    noise: float
    last: float  #: of the last iterate alone

    @property
    def total(self) -> float:
        """Their sum."""
        return self.start + self.noise + self.last

    @property
    def factor(self) -> float:
        """By what the rates are to be multiplied for the least bound: sqrt(t1 / (t2 + t3)).

        The first term falls with the factor and the other two rise with it.
        """
        return float(np.sqrt(self.start / (self.noise + self.last)))


def bound(rates: Floats, distance: float = 1.0, gradient: Floats | float = 1.0) -> Bound:
    """Return the bound after a schedule, in time linear in its steps.

    Args:
        rates: of the steps from 1 on, not negative; zeros at the end are left out.
        distance: D.
        gradient: bounds of the gradients' norms, one or one a step.

    Raises:
        InvalidArgument: no rate above 0, or a number that is not finite.

    >>> [round(x, 3) for x in bound(np.array([0.5, 0.5]))]
    [0.5, 0.25, 0.25]
    """
    eta = np.asarray(rates, np.float64)
    norms = np.broadcast_to(np.asarray(gradient, np.float64), eta.shape)
    if eta.ndim != 1 or not np.isfinite(eta).all() or np.any(eta < 0) or not np.any(eta > 0):
        raise invalid("rates", "finite, >= 0 and not all 0", eta, "pass the rate of each step")
    if not (np.isfinite(distance) and distance > 0):
        raise invalid("distance", "a finite number > 0", distance, "pass distance=1")
    if not (np.isfinite(norms).all() and np.all(norms > 0)):
        raise invalid("gradient", "finite numbers > 0", gradient, "pass gradient=1")
    end = int(np.flatnonzero(eta)[-1]) + 1
    eta, square = eta[:end], (eta[:end] * norms[:end]) ** 2
    total = float(eta.sum())
    rest, rest_square = np.cumsum(eta[::-1])[::-1], np.cumsum(square[::-1])[::-1]
    last = 0.5 * float((eta[:-1] / rest[1:] * rest_square[:-1] / rest[:-1]).sum())
    return Bound(distance**2 / (2 * total), float(square.sum()) / (2 * total), last)


def transfer_lr(
    lr: float,
    from_schedule: Floats,
    to_schedule: Floats,
    *,
    from_gradient: Floats | float = 1.0,
    to_gradient: Floats | float = 1.0,
) -> float:
    """Return the peak rate of one schedule that corresponds to a good one of another.

    The rate that was best under one schedule, times the ratio of the two schedules' best factors:
    D cancels out.

    Args:
        lr: the peak rate that was best under `from_schedule`.
        from_schedule: rates of its steps; only their shape and number count.
        to_schedule: rates of the steps of the schedule and length that the rate is wanted for.
        from_gradient, to_gradient: gradients' norms, where they are known.

    Raises:
        InvalidArgument: a schedule without a rate above 0, or a rate that is not positive.

    >>> from ratewise.curves import scheduled
    >>> short, long = scheduled("constant", 1.0, 100), scheduled("constant", 1.0, 400)
    >>> 0.45 < transfer_lr(1.0, short, long) < 0.5  # 0.5, but for the logarithm in the bound
    True
    """
    if not (np.isfinite(lr) and lr > 0):
        raise invalid("lr", "a finite number > 0", lr, "pass the best peak rate of the past runs")
    best = []
    for rates, norms in ((from_schedule, from_gradient), (to_schedule, to_gradient)):
        shape = np.asarray(rates, np.float64)
        peak = float(shape.max()) if shape.size else 0.0
        best.append(bound(shape / peak if peak > 0 else shape, 1.0, norms).factor)
    return lr * best[1] / best[0]
