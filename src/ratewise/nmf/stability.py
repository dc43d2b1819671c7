"""How far a gradient step of a non-negative factorisation may go and still descend.

The loss is f(W, H) = |W H - V|^2 / 2 in Frobenius norm, with W [..., n, k] and H [..., k, m], both
>= 0; a step is X <- P(X - eta g) with P(x) = max(x, 0) and g a gradient, exact or noisy. Every
bound here is a **limit on eta**: a step strictly below it descends. A limit is 2 / L, with L a
curvature that f does not exceed; schedules count in c = eta L: `rate(limit, c)` is c limit / 2, for
c in (0, 2), and c = 1 is the step that minimises the bound on the next loss.

A block's limit belongs to the other block as it stands: compute it anew before each step. Frozen
at the start it protects nothing.

One definition for NumPy arrays and torch tensors; leading axes are problems, and nothing waits for
a device. Values of NumPy arguments are checked, of tensors shapes and types alone. The proofs, and
what is false, are in docs/theory/nmf-stability.md. `balance`, `norm_cap`, `clip_to_norm_caps` and
`clip_update` keep a factorisation where these bounds hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ratewise.errors import invalid
from ratewise.nmf.capping import (
    Array,
    balance,
    check_amounts,
    check_floating,
    clip_to_norm_caps,
    clip_update,
    namespace,
    norm_cap,
)
from ratewise.rules.checks import check_count

__all__ = [
    "Array",
    "balance",
    "block_bound",
    "clip_to_norm_caps",
    "clip_update",
    "component_bound",
    "joint_bound",
    "largest_eigenvalue",
    "noisy_bound",
    "norm_cap",
    "rate",
]

#: Added to the power iteration's vector, whose largest entry is 1: no ratio is 0/0, and an entry
#: that fades away beside the others keeps a ratio below the eigenvalue. It costs about 0.01%.
_FLOOR = 1e-4
#: How much of the cold start a warm one gets: a component that has just come to life is small in
#: the old vector, and its ratio would be large for many iterations. Measured over runs from large
#: starts: 0.05% over the eigenvalue, and not 0.15%.
_FRESH = 0.03


def largest_eigenvalue(
    gram: Array, x: Array | None = None, iterations: int = 5
) -> tuple[Array, Array]:
    """Return an upper bound on the largest eigenvalue of a non-negative Gram matrix, and a vector.

    lambda_max(G) <= max_i (G x)_i / x_i for every x > 0 (Collatz-Wielandt), here with x from power
    iterations, or |G| in Frobenius norm if that is smaller; times 1 + 4 k eps, so that rounding
    cannot break it. A Rayleigh quotient would be too small. The certificate is for G as given: a
    Gram matrix rounded to eps is another matrix, and from tensor cores (TF32) off by a thousandth.

    Args:
        gram: G = A A^T with A >= 0, [..., k, k].
        x: a start >= 0, [..., k], best the vector that the last call returned for a nearby G;
            None takes sqrt(diag(G)), which is exact where G has rank 1 or is diagonal.
        iterations: products with G, >= 1.

    Returns:
        The bound, [...], and x > 0, [..., k], with the largest entry about 1. Of a zero matrix: 0.

    Cost: O(k^2) an iteration.

    Raises:
        InvalidArgument: not square, not symmetric, negative or not finite entries (values are
            checked for NumPy alone), shapes that do not fit, no iteration.
        WrongType: not a floating-point array.

    >>> bound, x = largest_eigenvalue(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> round(float(bound), 12), x.round(3)
    (3.0, array([1., 1.]))

    Source: docs/theory/nmf-stability.md, Theorem 10; Collatz (1942), Wielandt (1950).
    """
    xp = _check_gram(gram)
    check_count("iterations", iterations, 1)
    tiny = float(xp.finfo(gram.dtype).tiny)  # makes 0/0 zero and leaves the rest as it is
    top = xp.amax(gram, (-2, -1)) + tiny
    unit = gram / top[..., None, None]
    cold = xp.sqrt(xp.diagonal(unit, 0, -2, -1))
    if x is None:
        x = cold
    else:
        _check_vector(x, gram, rows=False)
        x = x / (xp.amax(x, -1)[..., None] + tiny) + _FRESH * cold
    x = x / (xp.amax(x, -1)[..., None] + tiny) + _FLOOR
    for _ in range(iterations):
        last = x
        product = (unit @ x[..., None])[..., 0]
        x = product / (xp.amax(product, -1)[..., None] + tiny) + _FLOOR
    frobenius = xp.sqrt((unit * unit).sum(-1).sum(-1))
    bound = xp.minimum(xp.amax(product / last, -1), frobenius)
    return bound * top * _inflation(gram, xp), x


def block_bound(gram: Array, x: Array | None = None, iterations: int = 5) -> Array:
    """Return the limit on the rate of one block: 2 / lambda_max(G), rounded down.

    For 0 < eta < 2 / L: f_new <= f - (1/eta - L/2) |X_new - X|^2. It is exact: above it some
    problem with that G rises. Warm starts call `largest_eigenvalue` and divide 2 by it.

    Args:
        gram: G = H H^T for a step of W, W^T W for a step of H, [..., k, k].
        x: a start, as `largest_eigenvalue` takes it.
        iterations: products with G, >= 1.

    Returns:
        The limit, [...]; inf where G is zero, and the loss independent of the block: see `rate`.

    Cost: O(k^2) an iteration, beside the Gram matrix, which the gradient needs anyway.

    Raises:
        InvalidArgument, WrongType: as `largest_eigenvalue`.

    >>> h = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> round(float(block_bound(h @ h.T)), 12)
    0.5

    Source: docs/theory/nmf-stability.md, Theorem 1.
    """
    return _limit(largest_eigenvalue(gram, x, iterations)[0], namespace(gram))


def noisy_bound(
    gram: Array,
    gradient_norm_sq: Array,
    sigma_sq: Array,
    *,
    projected: bool = False,
    x: Array | None = None,
    iterations: int = 5,
) -> Array:
    """Return the limit on the rate of one block under which a noisy step descends in expectation.

    The gradient is D + xi with E xi = 0 and E |xi|^2 = sigma^2, over the block.

    - No constraint active (no entry is cut at 0): (2 / L) |D|^2 / (|D|^2 + sigma^2); half of it
      falls fastest. With the noisy gradients' E |g|^2 = |D|^2 + sigma^2 it is
      (2 / L) (1 - sigma^2 / E |g|^2). **False near active constraints**, where it may be that no
      step descends.
    - ``projected=True``: (2 / L) / (1 + sigma / |G_eta|) with the projected gradient
      G_eta = (X - P(X - eta D)) / eta, for sigma <= |G_eta|; beyond, nothing is promised and the
      limit is 0. It holds for any noise, even with a mean. |G_eta| shrinks as eta grows: take it
      at the largest eta that you would use.

    Args:
        gram: G of the other block, as in `block_bound`, [..., k, k].
        gradient_norm_sq: |D|^2, or |G_eta|^2 if projected, [...].
        sigma_sq: sigma^2, [...].
        projected: whether constraints may be active.
        x: a start, as `largest_eigenvalue` takes it.
        iterations: products with G, >= 1.

    Returns:
        The limit, [...]; `block_bound` where sigma is 0, inf where G is zero.

    Cost: O(k^2) an iteration.

    Raises:
        InvalidArgument: a negative variance or squared norm (checked for NumPy and numbers
            alone), or as `largest_eigenvalue`.
        WrongType: as `largest_eigenvalue`.

    >>> gram = np.eye(2)
    >>> [round(float(noisy_bound(gram, 4.0, s)), 9) for s in (0.0, 4.0, 12.0)]
    [2.0, 1.0, 0.5]
    >>> [round(float(noisy_bound(gram, 4.0, s, projected=True)), 9) for s in (0.0, 4.0, 12.0)]
    [2.0, 1.0, 0.0]

    Source: docs/theory/nmf-stability.md, Theorems 2 (free) and 4 (projected).
    """
    largest = largest_eigenvalue(gram, x, iterations)[0]
    check_amounts(gradient_norm_sq=gradient_norm_sq, sigma_sq=sigma_sq)
    xp = namespace(gram)
    signal, noise = 0.0 * largest + gradient_norm_sq, 0.0 * largest + sigma_sq
    if projected:
        root = xp.sqrt(signal)
        part, whole = xp.where(noise <= signal, root, 0.0 * root), root + xp.sqrt(noise)
    else:
        part, whole = signal, signal + noise
    share = xp.where(noise > 0, part / _where_positive(whole, xp), 1.0 + 0.0 * part)
    limit = _limit(largest, xp)
    return xp.where(largest > 0, share, 1.0 + 0.0 * share)[()] * limit


def joint_bound(
    w_norm: Array,
    h_norm: Array,
    residual_norm: Array,
    *,
    w_update: Array = 0.0,
    h_update: Array = 0.0,
    w_gradient: Array | None = None,
    h_gradient: Array | None = None,
) -> Array:
    """Return the limit on one rate for a simultaneous step of W and H: 2 / L over the step.

    L = (h^2 + w^2) / 2 + sqrt(((h^2 - w^2) / 2)^2 + x^2) with x = h w + r, at w + a, h + b and
    r + a h + b w + a b, for updates of norms a and b. Without a and b it is the curvature at the
    point, which a long step leaves. Two ways to know the updates beforehand:

    - `clip_update` gives a <= cap sqrt(n k) and b <= cap sqrt(k m);
    - with |D_W|, |D_H| the gradients' norms and s = joint_bound(w, h, r), the result of
      joint_bound(w, h, r, w_update=s |D_W|, h_update=s |D_H|) is below s and safe.

    The norms of both gradients, if given, make x smaller, down to max(h w, r) where they vanish:
    limits up to 1.5 times as large, for nothing. They are those **without noise**.

    Args:
        w_norm: w >= |W|_2, spectral or larger, [...].
        h_norm: h >= |H|_2, [...].
        residual_norm: r >= |W H - V|_2; sqrt(2 f) is free. Zero at an exact fit; never left out.
        w_update: a >= |W_new - W|_2, [...].
        h_update: b >= |H_new - H|_2, [...].
        w_gradient: >= |D_W|_2 with D_W = (W H - V) H^T, or None, which takes r h.
        h_gradient: >= |D_H|_2 with D_H = W^T (W H - V), or None, which takes r w.

    Returns:
        The limit, [...]; inf where L is zero.

    Cost: O(1).

    Raises:
        InvalidArgument: one is negative, NaN or infinite (checked for NumPy and numbers alone).

    >>> float(round(joint_bound(1.0, 1.0, 0.0), 12)), float(round(joint_bound(1.0, 1.0, 2.0), 12))
    (1.0, 0.5)
    >>> float(round(joint_bound(1.0, 1.0, 2.0, w_update=0.5, h_update=0.5), 4))
    0.2581
    >>> float(round(joint_bound(1.0, 1.0, 1.0, w_gradient=0.0, h_gradient=0.0), 12))
    1.0

    Source: docs/theory/nmf-stability.md, Theorem 6.
    """
    given = [gradient for gradient in (w_gradient, h_gradient) if gradient is not None]
    xp = namespace(w_norm, h_norm, residual_norm, w_update, h_update, *given)
    check_amounts(
        w_norm=w_norm,
        h_norm=h_norm,
        residual_norm=residual_norm,
        w_update=w_update,
        h_update=h_update,
        w_gradient=0.0 if w_gradient is None else w_gradient,
        h_gradient=0.0 if h_gradient is None else h_gradient,
    )
    change = w_update * h_norm + h_update * w_norm + w_update * h_update
    r = xp.asarray(residual_norm + change + 0.0 * sum(given))  # of all arguments' type
    w, h = w_norm + w_update + 0.0 * r, h_norm + h_update + 0.0 * r
    cross = h * w + r
    if given:
        if w_gradient is not None:
            w_gradient = w_gradient + change * h_norm + r * h_update
        if h_gradient is not None:
            h_gradient = h_gradient + change * w_norm + r * w_update
        cross = cross * _share_of_cross(w, h, r, w_gradient, h_gradient, xp)
    curvature = xp.asarray(h * h + w * w + xp.hypot((h - w) * (h + w), 2 * cross)) / 2
    return _limit(curvature * (1 + 32 * xp.finfo(curvature.dtype).eps), xp)


def component_bound(gram: Array, x: Array | None = None) -> Array:
    """Return a limit on the rate of each component, for one step of all of them together.

    eta_j = 2 x_j / (G x)_j for any x > 0. x = the leading eigenvector gives 2 / lambda_max to all;
    x = row i of W gives twice the multiplicative update of that row; the default
    x_j = G_jj^(-1/2) moves a component by its own scale, however differently they are scaled.

    Args:
        gram: G of the other block, as in `block_bound`, [..., k, k].
        x: >= 0, [..., k], or [..., n, k] with one a row of W; where x_j = 0, so is the limit.

    Returns:
        The limits, of the shape of x; for a step of W multiply columns with them, of H rows. A
        component with G_jj = 0 has the limit inf, which `rate` turns into 0.

    Cost: O(k^2) a vector x.

    Raises:
        InvalidArgument: as `largest_eigenvalue`, or shapes of x that do not fit.
        WrongType: not a floating-point array.

    >>> component_bound(np.diag([4.0, 1.0, 0.0])).round(9)
    array([0.5, 2. , inf])
    >>> component_bound(np.ones((2, 2)), np.array([3.0, 1.0])).round(9)
    array([1.5, 0.5])

    Source: docs/theory/nmf-stability.md, Theorem 5; multiplicative updates: Lee & Seung (2001);
    one component at a time (HALS) the limit is 2 / G_jj: Cichocki et al. (2007).
    """
    xp = _check_gram(gram)
    diagonal = xp.diagonal(gram, 0, -2, -1)
    if x is None:
        x = 1.0 / xp.sqrt(_where_positive(diagonal, xp))
    else:
        _check_vector(x, gram, rows=True)
    if x.ndim == gram.ndim:
        product, diagonal = x @ gram, diagonal[..., None, :]
    else:
        product = (gram @ x[..., None])[..., 0]
    product = product * _inflation(gram, xp)
    none = xp.where(diagonal > 0, 0.0 * product, xp.inf)
    divisor = _where_positive(xp.maximum(product, _least(product, xp) * x), xp)
    return xp.where(product > 0, 2.0 * (x / divisor), none)


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

    >>> rate(component_bound(np.diag([4.0, 0.0])), c=1.0).round(9)
    array([0.25, 0.  ])
    """
    xp = namespace(limit, c)
    check_amounts(c=c)
    limit = limit + 0.0 * c  # a tensor if one of them is
    finite = xp.isfinite(limit)
    return xp.where(finite, 0.5 * c * xp.where(finite, limit, 0.0), 0.0)[()]


def _share_of_cross(
    w: Array, h: Array, r: Array, w_gradient: Array | None, h_gradient: Array | None, xp: Any
) -> Array:
    """Return x / (h w + r), in [1/2, 1]; in these units p + r = 1 and q <= p r, so no overflow."""
    total = _where_positive(h * w + r, xp)
    p, r_part = h * w / total, r / total
    most = p * r_part
    of_w = of_h = most
    if w_gradient is not None:
        of_w = xp.minimum(w * (xp.minimum(w_gradient, r * h) / total) / total, most)
    if h_gradient is not None:
        of_h = xp.minimum(h * (xp.minimum(h_gradient, r * w) / total) / total, most)
    high, low = xp.maximum(of_w, of_h), xp.minimum(of_w, of_h)
    square = (p * p + r_part * r_part) / 2 + xp.hypot((p - r_part) / 2, high) + 2 * low
    return xp.sqrt(square)


def _limit(curvature: Array, xp: Any) -> Array:
    """Return 2 / L, which is inf where L is zero."""
    return xp.where(curvature > 0, 2.0 / xp.clip(curvature, _least(curvature, xp), None), xp.inf)[
        ()
    ]


def _least(value: Array, xp: Any) -> float:
    """Return a number above which a reciprocal is finite; a curvature raised to it is safe."""
    return 4.0 * float(xp.finfo(value.dtype).tiny)


def _where_positive(value: Array, xp: Any) -> Array:
    """Return a divisor: the value where it is positive, else 1."""
    return xp.where(value > 0, value, 1.0)


def _inflation(gram: Array, xp: Any) -> float:
    """Return 1 + 4 k eps: sums of k terms >= 0, and a few products, are wrong by less."""
    return 1.0 + 4.0 * gram.shape[-1] * float(xp.finfo(gram.dtype).eps)


def _check_gram(gram: Array) -> Any:
    """Return the namespace of a Gram matrix; raise unless it is square and, in NumPy, one."""
    check_floating("gram", gram)
    if gram.ndim < 2 or gram.shape[-1] != gram.shape[-2] or gram.shape[-1] == 0:
        raise invalid("gram", "[..., k, k], square", tuple(gram.shape), "pass H @ H.T or W.T @ W")
    xp = namespace(gram)
    if xp is np and gram.size:
        smallest, largest = gram.min(), gram.max()
        if not (smallest >= 0 and largest < np.inf):
            shown = float(largest if smallest >= 0 else smallest)
            raise invalid("gram", "non-negative and finite", shown, "pass factors >= 0")
        apart = float(abs(gram - np.swapaxes(gram, -1, -2)).max())
        if apart > float(largest) * float(np.finfo(gram.dtype).eps) ** 0.5:
            raise invalid("gram", "symmetric", apart, "pass H @ H.T or W.T @ W")
    return xp


def _check_vector(x: Array, gram: Array, *, rows: bool) -> None:
    """Raise unless x has the shape [..., k] of the matrix, or if allowed [..., n, k]."""
    check_floating("x", x)
    shape = tuple(x.shape)
    fits = shape == tuple(gram.shape[:-1]) or (
        rows and x.ndim == gram.ndim and (*shape[:-2], shape[-1]) == tuple(gram.shape[:-1])
    )
    if not fits:
        allowed = "of shape [..., k]" + (" or [..., n, k]" if rows else "")
        raise invalid("x", f"{allowed} for gram {tuple(gram.shape)}", shape, "pass x=None")
    if namespace(x) is np and x.size and not (x.min() >= 0 and x.max() < np.inf):
        shown = float(x.min() if not x.min() >= 0 else x.max())
        raise invalid("x", "non-negative and finite", shown, "pass x=None, or the last x returned")
