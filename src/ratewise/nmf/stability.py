"""How far a gradient step of a non-negative factorisation may go and still descend.

The loss is f(W, H) = |W H - V|^2 / 2 in Frobenius norm, with W [..., n, k] and H [..., k, m], both
>= 0; a step is X <- P(X - eta g) with P(x) = max(x, 0) and g a gradient, exact or noisy. Every
bound here is a **limit on eta**: a step strictly below it descends. A limit is 2 / L, with L a
curvature that f does not exceed; schedules count in c = eta L: `rate(limit, c)` is c limit / 2, for
c in (0, 2), and c = 1 is the step that minimises the bound on the next loss.

A block's limit depends on the current other block: recompute it before each step. One that is
computed once at the start guarantees nothing later.

One definition for NumPy arrays and torch tensors; leading axes are problems, and nothing waits for
a device. Values of NumPy arguments are checked, of tensors shapes and types alone. The proofs, and
what is false, are in docs/theory/nmf-stability.md. `balance`, `norm_cap`, `clip_to_norm_caps` and
`clip_update` keep a factorisation where these bounds hold.
"""

from __future__ import annotations

from ratewise.nmf.capping import (
    Array,
    balance,
    check_amounts,
    clip_to_norm_caps,
    clip_update,
    namespace,
    norm_cap,
)
from ratewise.nmf.eigenvalue import check_gram, check_vector, inflation, largest_eigenvalue
from ratewise.nmf.joint import joint_bound
from ratewise.nmf.limits import least, limit_of, rate, where_positive

__all__ = [
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

    >>> import numpy as np
    >>> h = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> round(float(block_bound(h @ h.T)), 12)
    0.5

    Source: docs/theory/nmf-stability.md, Theorem 1.
    """
    return limit_of(largest_eigenvalue(gram, x, iterations)[0], namespace(gram))


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

    >>> import numpy as np
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
    share = xp.where(noise > 0, part / where_positive(whole, xp), 1.0 + 0.0 * part)
    limit = limit_of(largest, xp)
    return xp.where(largest > 0, share, 1.0 + 0.0 * share)[()] * limit


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

    >>> import numpy as np
    >>> component_bound(np.diag([4.0, 1.0, 0.0])).round(9)
    array([0.5, 2. , inf])
    >>> component_bound(np.ones((2, 2)), np.array([3.0, 1.0])).round(9)
    array([1.5, 0.5])

    Source: docs/theory/nmf-stability.md, Theorem 5; multiplicative updates: Lee & Seung (2001);
    one component at a time (HALS) the limit is 2 / G_jj: Cichocki et al. (2007).
    """
    xp, gram = check_gram(gram)
    diagonal = xp.diagonal(gram, 0, -2, -1)
    if x is None:
        x = 1.0 / xp.sqrt(where_positive(diagonal, xp))
    else:
        check_vector(x, gram, rows=True)
    if x.ndim == gram.ndim:
        product, diagonal = x @ gram, diagonal[..., None, :]
    else:
        product = (gram @ x[..., None])[..., 0]
    product = product * inflation(gram, xp)
    none = xp.where(diagonal > 0, 0.0 * product, xp.inf)
    divisor = where_positive(xp.maximum(product, least(product, xp) * x), xp)
    return xp.where(product > 0, 2.0 * (x / divisor), none)
