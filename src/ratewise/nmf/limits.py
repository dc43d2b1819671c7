"""From a curvature to a limit on the rate, and from a limit to a rate, also where L is 0."""

from __future__ import annotations

from typing import Any

from ratewise.nmf.arrays import Array, check_amounts, namespace


def limit_of(curvature: Array, xp: Any) -> Array:
    """Return 2 / L, which is inf where L is zero."""
    return xp.where(curvature > 0, 2.0 / xp.clip(curvature, least(curvature, xp), None), xp.inf)[()]


def rate(limit: Array, c: Array) -> Array:
    """Return the rate at `c` curvatures: eta = c / L = c limit / 2, and 0 where nothing is limited.

    A limit is inf where the loss does not depend on the block or component; its gradient is 0
    there, and inf * 0 would be NaN. It happens: one long step can cut all of a block to 0.

    Args:
        limit: what a bound returned, of any shape.
        c: in (0, 2) to descend, a number or an array that broadcasts with the limit.

    Returns:
        eta, of the limit's type.

    Cost: O(1) a limit.

    Raises:
        InvalidArgument: c is negative, NaN or infinite (checked for NumPy and numbers alone).

    >>> import numpy as np
    >>> rate(np.array([0.5, np.inf]), c=1.0)
    array([0.25, 0.  ])
    """
    xp = namespace(limit, c)
    check_amounts(c=c)
    limit = limit + 0.0 * c  # a tensor if one of them is
    finite = xp.isfinite(limit)
    return xp.where(finite, 0.5 * c * xp.where(finite, limit, 0.0), 0.0)[()]


def least(value: Array, xp: Any) -> float:
    """Return a number above which a reciprocal is finite; a curvature raised to it is safe."""
    return 4.0 * float(xp.finfo(value.dtype).tiny)


def where_positive(value: Array, xp: Any) -> Array:
    """Return a divisor: the value where it is positive, else 1."""
    return xp.where(value > 0, value, 1.0)
