"""The sums of the laws over all earlier steps, in time linear in the steps.

A law forgets by a power: a step tau weighs (1 + x / c)^-beta at t, with x the sum of the rates in
between. Literally that is a sum over all pairs of steps. But a power is a mixture of exponentials,

    (1 + x/c)^-beta = 1 / Gamma(beta) * integral of (v c)^beta e^(-v c) e^(-v x) dv / v,

and an exponential is carried from one point to the next by one multiplication. On a grid of ln v
the trapezoid rule is exact to about 1e-8, for all c and beta at once: the sums of exponentials
(`traces`) do not depend on the law's parameters and are made once for a fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln  # type: ignore[import-untyped]

from ratewise.curves.curve import Floats, Steps

_STEP = 0.4  #: of the grid of ln v; the rule's error falls as exp(-pi^2 / step)
_GROUPS = 4096  #: of steps in a run that are taken together; fewer steps are taken singly


@dataclass(frozen=True)
class Grid:
    """Rates of forgetting v, for sums of rates between `least` and `most`."""

    least: float
    most: float

    @cached_property
    def v(self) -> Floats:
        """The grid; below it an exponential is 1, above it 0."""
        low, high = np.log(1e-7 / self.most), np.log(50.0 / self.least)
        return np.exp(np.arange(low, high + _STEP, _STEP))

    def weights(self, beta: float, c: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the weight of each exponential, and its derivatives by ln c and ln beta.

        Args:
            beta: the power, > 0.
            c: the scales, one a row of the result.

        >>> grid = Grid(1e-4, 10.0)
        >>> w, _, _ = grid.weights(0.7, np.array([0.02]))
        >>> x = np.array([0.0, 0.01, 1.0])
        >>> bool(abs(np.exp(-np.outer(x, grid.v)) @ w[0] - (1 + x / 0.02) ** -0.7).max() < 1e-6)
        True
        """
        vc = np.multiply.outer(c, self.v)
        ln = np.log(vc)
        w = _STEP * np.exp(np.clip(beta * ln - vc - gammaln(beta), -700, 100))
        # what lies below the grid is one geometric series of exponentials that are 1
        tail = _STEP * np.exp(beta * ln[..., 0] - gammaln(beta)) / np.expm1(beta * _STEP)
        by_c, by_beta = w * (beta - vc), w * beta * (ln - digamma(beta))
        by_c[..., 0] += beta * tail
        shrink = beta * _STEP * np.exp(beta * _STEP) / np.expm1(beta * _STEP)
        by_beta[..., 0] += tail * (beta * (ln[..., 0] - digamma(beta)) - shrink)
        w[..., 0] += tail
        return w, by_c, by_beta


def summed(rates: Floats) -> Floats:
    """Return the sum of the rates up to each step, from step 0 on."""
    return np.concatenate([[0.0], np.cumsum(rates)])


def traces(rates: Floats, points: Steps, grid: Grid) -> NDArray[np.float64]:
    """Return sum_{tau <= t} rate_tau^2 exp(-v (S_t - S_tau)) for each point t and each v.

    A row depends on the one before and on the steps in between, so that the cost is linear in the
    steps. Of a long run neighbouring steps are taken together at their mean S.

    Args:
        rates: of the steps from 1 on.
        points: steps that rise, from 1 to len(rates).
        grid: the rates of forgetting.
    """
    total, squares = summed(rates), summed(rates**2)
    totals, every = np.cumsum(total), -(-len(rates) // _GROUPS)
    found, carried, last = np.empty((len(points), len(grid.v))), np.zeros(len(grid.v)), 0
    for row, point in enumerate(points):
        edges = np.append(np.arange(last, point, every), point)
        weight = np.diff(squares[edges])
        at = np.diff(totals[edges]) / np.diff(edges)  # the mean S of a group
        carried = carried * np.exp(-grid.v * (total[point] - total[last]))
        carried = carried + weight @ np.exp(-np.multiply.outer(total[point] - at, grid.v))
        found[row], last = carried, int(point)
    return found
