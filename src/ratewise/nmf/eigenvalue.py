"""The largest eigenvalue of a non-negative Gram matrix, bounded from above for certain."""

from __future__ import annotations

from typing import Any

import numpy as np

from ratewise.errors import invalid
from ratewise.nmf.arrays import Array, check_floating, namespace
from ratewise.rules.checks import check_count

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
    xp, gram = check_gram(gram)
    check_count("iterations", iterations, 1)
    tiny = float(xp.finfo(gram.dtype).tiny)  # makes 0/0 zero and leaves the rest as it is
    top = xp.amax(gram, (-2, -1)) + tiny
    unit = gram / top[..., None, None]
    cold = xp.sqrt(xp.diagonal(unit, 0, -2, -1))
    if x is None:
        x = cold
    else:
        check_vector(x, gram, rows=False)
        x = x / (xp.amax(x, -1)[..., None] + tiny) + _FRESH * cold
    x = x / (xp.amax(x, -1)[..., None] + tiny) + _FLOOR
    for _ in range(iterations):
        last = x
        product = (unit @ x[..., None])[..., 0]
        x = product / (xp.amax(product, -1)[..., None] + tiny) + _FLOOR
    frobenius = xp.sqrt((unit * unit).sum(-1).sum(-1))
    bound = xp.minimum(xp.amax(product / last, -1), frobenius)
    return bound * top * inflation(gram, xp), x


def inflation(gram: Array, xp: Any) -> float:
    """Return 1 + 4 k eps: sums of k terms >= 0, and a few products, are wrong by less."""
    return 1.0 + 4.0 * gram.shape[-1] * float(xp.finfo(gram.dtype).eps)


def check_gram(gram: Array) -> tuple[Any, Array]:
    """Return the namespace of a Gram matrix, and the matrix made symmetric.

    Products on several threads, and on devices, may differ from their transpose in the last
    digits. The larger of two entries is taken: f depends on the symmetric part alone, which is no
    larger, entry by entry, and so has no larger eigenvalue. A symmetric matrix stays as it is.

    Raises:
        InvalidArgument: it is not square; in NumPy also if it is negative, not finite, or not
            symmetric.
        WrongType: not a floating-point array.
    """
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
    return xp, xp.maximum(gram, xp.swapaxes(gram, -1, -2))


def check_vector(x: Array, gram: Array, *, rows: bool) -> None:
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
