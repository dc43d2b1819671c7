"""What keeps a factorisation where a bound holds: balance, caps on norms, caps on updates.

One definition for NumPy arrays and torch tensors, of one problem or a stack of them: leading axes
are problems. Nothing here waits for a device. W is [..., n, k], H is [..., k, m], both >= 0.
The proofs are in docs/theory/nmf-stability.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ratewise.errors import invalid, wrong_type
from ratewise.nmf.arrays import Array, check_amounts, check_floating, namespace


def balance(w: Array, h: Array) -> tuple[Array, Array]:
    """Give column j of W and row j of H the same norm, without changing W H.

    w_j <- s_j w_j and h_j <- h_j / s_j with s_j = sqrt(|h_j| / |w_j|). Gradient steps under noise
    let the scales drift apart, and the limit of one block with them. A component of which one side
    is all zero adds nothing to W H and is left alone: to shrink its other side would kill it.

    Args:
        w: [..., n, k], >= 0.
        h: [..., k, m], >= 0.

    Returns:
        The two factors, new arrays.

    Cost: O((n + m) k).

    Raises:
        InvalidArgument: shapes do not fit.
        WrongType: not two arrays of one library, with a floating-point type.

    >>> w, h = balance(np.array([[8.0], [6.0]]), np.array([[0.1, 0.0]]))
    >>> w.ravel(), h.ravel(), w @ h
    (array([0.8, 0.6]), array([1., 0.]), array([[0.8, 0. ],
           [0.6, 0. ]]))

    Source: docs/theory/nmf-stability.md, Theorem 9.
    """
    xp = _check_factors(w, h)
    of_w, of_h = xp.sqrt(_norms(w, -2, xp)), xp.sqrt(_norms(h, -1, xp))
    alive = (of_w > 0) & (of_h > 0)
    scale = xp.where(alive, of_h / xp.where(alive, of_w, 1.0), 1.0)
    return w * scale[..., None, :], h / scale[..., :, None]


def norm_cap(v_norm: Array, loss: Array) -> Array:
    """Return a cap on the columns of W and rows of H that no balanced pair at that loss exceeds.

    cap = sqrt(|V| + sqrt(2 f)), in Frobenius norm, with f = |W H - V|^2 / 2.

    Args:
        v_norm: |V|, [...].
        loss: f, usually the first one, [...].

    Returns:
        The cap, [...].

    Cost: O(1).

    Raises:
        InvalidArgument: one is negative, NaN or infinite (checked for NumPy and numbers alone).

    >>> float(norm_cap(3.0, 0.5))
    2.0

    Source: docs/theory/nmf-stability.md, Theorem 9.
    """
    xp = namespace(v_norm, loss)
    check_amounts(v_norm=v_norm, loss=loss)
    return xp.sqrt(v_norm + (2 * loss) ** 0.5)


def clip_to_norm_caps(w: Array, h: Array, cap: Array) -> tuple[Array, Array]:
    """Return the nearest factors with no negative entry and no column or row longer than `cap`.

    w_j <- P(w_j) min(1, cap / |P(w_j)|) with P(x) = max(x, 0), and the same for the rows of H:
    the exact projection on a convex set, so all that is promised of steps projected on w >= 0
    holds of steps projected on this set. Call it after the step of **each** block: clipped only
    after both, the second step has started outside of the set. It bounds every limit for good:
    the eigenvalues of both Gram matrices stay below k cap^2. It may raise the loss of a pair
    outside of the set; a balanced pair below the loss that `norm_cap` was given lies inside.

    Args:
        w: [..., n, k].
        h: [..., k, m].
        cap: a number > 0, or [...] with one a problem.

    Returns:
        The two factors, new arrays; norms keep to the cap but for the last digit.

    Cost: O((n + m) k).

    Raises:
        InvalidArgument: shapes do not fit, or the cap is not positive.
        WrongType: not two arrays of one library, with a floating-point type.

    >>> w, h = clip_to_norm_caps(np.array([[3.0], [-1.0]]), np.array([[0.5, -2.0]]), cap=2.0)
    >>> w.ravel(), h.ravel()
    (array([2., 0.]), array([0.5, 0. ]))

    Source: docs/theory/nmf-stability.md, Theorem 8.
    """
    xp = _check_factors(w, h)
    _check_cap(cap)
    column = cap if isinstance(cap, int | float) else cap[..., None]

    def clipped(x: Array, axis: int) -> Array:
        x = xp.clip(x, 0.0, None)
        norm = _norms(x, axis, xp)
        longer = norm > column
        scale = xp.where(longer, column / xp.where(longer, norm, 1.0), 1.0)
        return x * (scale[..., None, :] if axis == -2 else scale[..., :, None])

    return clipped(w, -2), clipped(h, -1)


def clip_update(update: Array, cap: Array) -> Array:
    """Limit how far any one entry may move: the update's entries, cut to [-cap, cap].

    The update of a block X of N entries is then no longer than cap sqrt(N), whatever the gradient
    was and however noisy: with that length `joint_bound` holds for a step that is not known yet.
    Cut before or after the projection on X >= 0, the step is the same.

    Args:
        update: X_new - X, of any shape.
        cap: a number > 0, or an array of them that broadcasts with the update.

    Returns:
        The update, a new array.

    Cost: O(N).

    Raises:
        InvalidArgument: the cap is not positive (checked for NumPy and numbers alone).
        WrongType: not a floating-point array.

    >>> clip_update(np.array([0.01, -3.0]), cap=0.1)
    array([ 0.01, -0.1 ])

    Source: docs/theory/nmf-stability.md, Theorem 7; "capping the extent to which any one model
    parameter can be modified" in the words of Subramanian et al. (2023).
    """
    xp = namespace(update)
    check_floating("update", update)
    _check_cap(cap)
    return xp.clip(update, -cap, cap)


def _check_cap(cap: Any) -> None:
    check_amounts(cap=cap)
    if namespace(cap) is np and not np.min(cap) > 0:
        raise invalid("cap", "a number > 0", float(np.min(cap)), "pass cap=1.0, or do not clip")


def _check_factors(w: Array, h: Array) -> Any:
    """Return the namespace of W and H, whose shapes have to fit."""
    check_floating("w", w)
    check_floating("h", h)
    xp = namespace(w, h)
    if (namespace(w) is np) is not (namespace(h) is np):
        raise wrong_type("h", "of the same library as w", h, "pass two arrays or two tensors")
    if w.ndim < 2 or h.ndim < 2 or w.shape[-1] != h.shape[-2]:
        shapes = (tuple(w.shape), tuple(h.shape))
        raise invalid("w, h", "[..., n, k] and [..., k, m]", shapes, "pass factors of one rank k")
    return xp


def _norms(x: Array, axis: int, xp: Any) -> Array:
    """Return Euclidean norms along an axis, safe from overflow and underflow of squares."""
    top = xp.amax(xp.abs(x), axis)
    top = xp.where(top > 0, top, 1.0)
    unit = x / (top[..., None, :] if axis == -2 else top[..., :, None])
    return top * xp.sqrt((unit * unit).sum(axis))
