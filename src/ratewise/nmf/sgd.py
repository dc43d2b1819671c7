r"""Gradient steps inside the bound: accelerated ones for codes, one scheduled one for components.

With G the other factor's Gram matrix, component j may step by eta_j < 2 / L_j, and eta_j = c / L_j
with 1 / L_j = x_j / (G x)_j, x_j = G_jj^(-1/2) (`ratewise.nmf.stability.component_bound`,
docs/theory/nmf-stability.md, Theorem 5). Codes take c = 1, with Nesterov's momentum in the same
metric; components the c that a schedule says.

What is promised for any c in (0, 2), up to rounding: a step of the components does not raise the
loss whose gradient it takes, that of the rows in the statistics with their codes and weights. Codes
end no higher than they began, though single accelerated steps may rise: Lemma 4.1 of the source
holds of any point in place of the optimum, and of the start x_0 it says that
2 t^2 (f(x_t) - f(x_0)) <= -|u - x_0|^2. So where sums replace, f(W, H) never rises once all batches
were seen; where they decay, the loss over all data may.

Nothing here depends on the components' scales: W D^-1 and D H with a diagonal D > 0 step to the
same W H. Scales that drift apart, which make a rate unsafe that is one number for all, change
nothing, and need no balancing, short of overflow.

Source: Beck & Teboulle, SIAM J. Imaging Sci. 2 (2009), for the acceleration.
"""

from __future__ import annotations

import math
from typing import Any

from ratewise.nmf.arrays import Array, namespace
from ratewise.nmf.stability import component_bound, rate

#: Accelerated steps on the codes of a batch.
CODE_STEPS = 4


def gains(gram: Array) -> Array:
    """Return 1 / L_j of each component, [k, 1]; 0 for one that the loss does not depend on.

    >>> import numpy as np
    >>> gains(np.diag([4.0, 0.0])).ravel().round(9)
    array([0.25, 0.  ])
    """
    return rate(component_bound(gram), 1.0)[:, None]


def code_steps(codes: Array, gram: Array, target: Array, times: int = CODE_STEPS) -> Array:
    """Return codes after some accelerated projected steps.

    Args:
        codes: W_b^T, [k, b], >= 0; left alone.
        gram: H H^T, [k, k], with penalties.
        target: H X_b^T, [k, b], with penalties.
        times: steps.

    Returns:
        [k, b], >= 0.

    Cost: O(k^2 b) a step.
    """
    xp = namespace(gram)
    gain = gains(gram)
    scaled, level = gram * gain, target * gain
    ahead, momentum = codes, 1.0
    for step in range(times):
        new = ahead - scaled @ ahead
        new += level
        xp.clip(new, 0.0, None, out=new)
        after = (1.0 + math.sqrt(1.0 + 4.0 * momentum * momentum)) / 2.0
        if step + 1 < times:
            ahead = new - codes
            ahead *= (momentum - 1.0) / after
            ahead += new
        codes, momentum = new, after
    return codes


def component_step(parts: Array, gradient: Array, gain: Array, c: float) -> Array:
    """Return H after one projected step: P(h_j - (c / L_j) g_j), a new array.

    Args:
        parts: H, [k, m].
        gradient: A H - B, [k, m].
        gain: 1 / L_j, [k, 1].
        c: multiple of 1 / L, in (0, 2).
    """
    xp: Any = namespace(parts)
    new = gradient * (-c * gain)
    new += parts
    return xp.clip(new, 0.0, None, out=new)


class Curvature:
    """The Gram matrix per row that components are used with, over the batches seen lately.

    The gradient of few rows hardly knows a component that they do not use, whose own curvature
    there is tiny and step huge. So the largest of two is taken, entry by entry: that of the sums
    whose gradient is stepped along, and a mean over batches with weights that fall by 10% a batch.
    It is no Gram matrix, but (M x)_j / x_j >= (G x)_j / x_j for each of the two, which is all that
    Theorem 5 needs.
    """

    def __init__(self) -> None:
        self._mean: Array = 0.0
        self._batches = 0

    def bound(self, batch: Array, total: Array) -> Array:
        """Take a batch in, and return a Gram matrix per row.

        Args:
            batch: W_b^T W_b / b, [k, k].
            total: of the sums, per row, [k, k].
        """
        self._batches += 1
        weight = max(0.1, 1.0 / self._batches)
        self._mean = (1.0 - weight) * self._mean + weight * batch
        return namespace(total).maximum(total, self._mean)

    def scale(self, scale: Array) -> None:
        """Take every code times a scale of its component, [k]."""
        self._mean = self._mean * scale[:, None] * scale
