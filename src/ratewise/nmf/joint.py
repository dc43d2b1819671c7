"""The limit on one rate for a step of both blocks at once."""

from __future__ import annotations

from typing import Any

from ratewise.nmf.arrays import Array, check_amounts, namespace
from ratewise.nmf.limits import limit_of, where_positive


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
    return limit_of(curvature * (1 + 32 * xp.finfo(curvature.dtype).eps), xp)


def _share_of_cross(
    w: Array, h: Array, r: Array, w_gradient: Array | None, h_gradient: Array | None, xp: Any
) -> Array:
    """Return x / (h w + r), in [1/2, 1]; in these units p + r = 1 and q <= p r, so no overflow."""
    total = where_positive(h * w + r, xp)
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
