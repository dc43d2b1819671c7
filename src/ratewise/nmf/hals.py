r"""Sweeps of hierarchical alternating least squares (HALS) over one factor, given Gram matrices.

With the other factor fixed, the loss of X, [k, N], is
:math:`\tfrac12 \langle G, X X^T \rangle - \langle T, X \rangle` up to a constant, and its exact
minimum over row j alone, the others as they are, is

.. math:: x_j = \max\Bigl(0, \; \frac{t_j - \sum_{i \ne j} g_{ji} x_i}{g_{jj}}\Bigr),

so a sweep over the rows never raises it. G = H H^T and T = H X_b^T give the codes of a batch,
G = W^T W and T = W^T X the components.

Source: Cichocki, Zdunek & Amari (2007); Cichocki & Phan, IEICE E92-A (2009), Algorithm 2. It is
the coordinate descent of scikit-learn's NMF; there the kernel is Cython that goes row by row of
W, here each of the k updates is a matrix-vector product of BLAS, 2 to 7 times as fast for k >= 20.
"""

from __future__ import annotations

import numpy as np

from ratewise.nmf.arrays import Array, namespace


def sweep(x: Array, gram: Array, target: Array, times: int, *, in_place: bool = False) -> Array:
    """Return X after some sweeps.

    Args:
        x: [k, N], >= 0.
        gram: G, [k, k], with a penalty's curvature on its diagonal.
        target: T, [k, N], less a penalty's slope.
        times: sweeps, each over all k rows.
        in_place: whether `x` may become the result and `target` what it pleases; else both are
            left alone. Whenever it is interrupted, `x` is >= 0.

    Returns:
        [k, N]. Where g_jj is 0 the loss does not depend on row j, which stays.

    Cost: O(k^2 N) a sweep.

    >>> sweep(np.zeros((2, 1)), np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[3.0], [-1.0]]), 1)
    array([[3.],
           [0.]])
    """
    xp = namespace(gram)
    diagonal = xp.diagonal(gram, 0, -2, -1)
    alive = [j for j, value in enumerate(diagonal.tolist()) if value > 0.0]
    divisor = xp.where(diagonal > 0, diagonal, 1.0)[:, None]
    weights = gram / divisor
    if not in_place:
        x, target = xp.asarray(x, copy=True), target / divisor
    else:
        target /= divisor
    if xp is not np:
        return _sweep_tensor(x, weights, target, alive, times)
    np.fill_diagonal(weights, 0.0)
    x = np.ascontiguousarray(x)
    row = np.empty(x.shape[1], x.dtype)
    for _ in range(times):
        for j in alive:
            np.dot(weights[j], x, out=row)
            np.subtract(target[j], row, out=row)
            np.maximum(row, 0.0, out=x[j])
    return x


def _sweep_tensor(x: Array, weights: Array, target: Array, alive: list[int], times: int) -> Array:
    """Sweep in torch: the same updates, in the same order."""
    weights.fill_diagonal_(0.0)
    for _ in range(times):
        for j in alive:
            x[j] = (target[j] - weights[j] @ x).clamp_(min=0.0)
    return x


def first_codes(gram: Array, target: Array) -> Array:
    """Return a start for rows that were never seen: all components in equal parts.

    For each row the best multiple of the sum of the components, s = sum_j h_j: <x, s> / <s, s>.

    Args:
        gram: H H^T, [k, k].
        target: H X_b^T, [k, b].

    Returns:
        [k, b], >= 0.
    """
    total = float(gram.sum())
    xp = namespace(gram)
    level = target.sum(0) / total if total > 0.0 else 0.0 * target.sum(0)
    return xp.zeros_like(target) + xp.clip(level, 0.0, None)


def solve(gram: Array, target: Array, tol: float, max_sweeps: int) -> Array:
    """Return codes for fixed components, row by row of the data until each has settled.

    A row of the data is done when a sweep moved none of its k codes by more than `tol` times the
    largest of them; it is then left alone, so that its codes do not depend on the other rows.

    Args:
        gram: [k, k], with penalties.
        target: [k, b], with penalties.
        tol: relative, >= 0.
        max_sweeps: >= 1.

    Returns:
        [k, b], >= 0; 0 for a component of zeros.

    Cost: O(k^2) a row and sweep.

    >>> solve(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[3.0], [3.0]]), 1e-9, 200).round(6)
    array([[1.],
           [1.]])
    """
    xp = namespace(gram)
    codes = first_codes(gram, target)
    codes[xp.diagonal(gram, 0, -2, -1) <= 0] = 0.0
    result = xp.zeros_like(codes)
    left = xp.arange(codes.shape[1]) if xp is np else xp.arange(codes.shape[1], device=codes.device)
    for _ in range(max_sweeps):
        new = sweep(codes, gram, target, 1)
        moving = xp.amax(abs(new - codes), 0) > tol * xp.amax(new, 0)
        settled = ~moving
        result[:, left[settled]] = new[:, settled]
        codes, target, left = new[:, moving], target[:, moving], left[moving]
        if codes.shape[1] == 0:
            return result
    result[:, left] = codes
    return result
