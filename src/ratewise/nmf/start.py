"""Factors to start from: what was passed, or scikit-learn's initialisations at any scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.decomposition._nmf import _initialize_nmf
from sklearn.utils import check_random_state

from ratewise.errors import InvalidArgument, invalid
from ratewise.nmf.arrays import Array, numpy_type, to_numpy
from ratewise.nmf.scale import Scale, times

#: Means of data that scikit-learn's NNDSVD bears: it cuts factors at 1e-6 and fills with the mean.
_USUAL = (1e-6, 1e6)


def asked(settings: Any, x: Any) -> int:
    """Return how many components an estimator is to find in data [n, m]."""
    k = settings.n_components
    return int(x.shape[1]) if k is None or isinstance(k, str) else int(k)


def factors(settings: Any, x: Any, w: Any, h: Any, scale: Scale) -> tuple[Any, Any]:
    """Return W and H to start from, as NumPy arrays; W may be None.

    Args:
        settings: the estimator.
        x: [n, m], checked and scaled.
        w, h: what was passed, for ``init="custom"``.
        scale: what the factors are to be scaled by, as x was.

    Raises:
        InvalidArgument: a start of another shape, with entries that are negative or not finite,
            or without ``init="custom"``; no H with it; or as `initial`.
    """
    x = to_numpy(x)
    if settings.init != "custom":
        if w is not None or h is not None:
            raise invalid("init", "'custom' where W or H is passed", settings.init, "pass it")
        seed, usual = settings.random_state, scale.data == 0
        return initial(x, asked(settings, x), settings.init, seed, usual=usual)
    if h is None:
        raise invalid("H", "a matrix [k, m]", None, "pass H with init='custom'")
    h = to_numpy(h)
    rows = np.shape(h)[:1]
    h = _checked("H", h, (*rows, x.shape[1]), x.dtype)
    if settings.n_components not in (None, "auto", len(h)):
        shape = f"[{settings.n_components}, m]"
        raise invalid("H", shape, h.shape, "pass n_components='auto', or another H")
    return codes(settings, x, w, len(h), scale), times(h, -scale.parts)


def codes(settings: Any, x: Any, w: Any, k: int, scale: Scale) -> Any:
    """Return a start of the codes that was passed, checked, [n, k]; None for None.

    Raises:
        InvalidArgument: as `factors`.
    """
    if w is None:
        return None
    if settings.init != "custom":
        raise invalid("init", "'custom' where W or H is passed", settings.init, "pass it")
    w = _checked("W", to_numpy(w), (x.shape[0], k), numpy_type(x))
    return times(w, -scale.codes)


def _checked(name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    try:
        value = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:  # a sparse matrix, text, rows of different lengths
        raise invalid(
            name, "a dense matrix of numbers", type(value).__name__, "pass one"
        ) from error
    if value.shape != shape or not value.size:
        raise invalid(name, f"of shape {shape}", value.shape, "see init='custom'")
    if not (np.isfinite(value).all() and value.min() >= 0.0):
        raise invalid(name, ">= 0 and finite", "other entries", "clip it")
    return value


def initial(
    x: Any, k: int, init: str | None, random_state: Any, *, usual: bool = True
) -> tuple[Array, Array]:
    """Return W, [n, k], and H, [k, m], of X's float type.

    Args:
        x: [n, m], >= 0, array or CSR matrix.
        k: components.
        init: of scikit-learn's NMF.
        random_state: a seed, as scikit-learn takes it.
        usual: whether its scale is the data's own, so that scikit-learn's factors may be wanted.

    Memory: of an NNDSVD about 4 n (k + 10) numbers.

    Raises:
        InvalidArgument: an NNDSVD of more components than min(n, m), or no seed.
    """
    if init is None:
        init = "nndsvda" if k <= min(x.shape) else "random"
    mean = float(x.mean())
    usual = init == "random" or mean <= 0.0 or (usual and _USUAL[0] <= mean <= _USUAL[1])
    try:
        if usual:
            factors = _initialize_nmf(x, k, init=init, random_state=random_state)
        else:
            factors = _rescaled(x, k, init, random_state, math.sqrt(mean))
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    w, h = (factor.astype(x.dtype, copy=False) for factor in factors)  # of sparse float32: float64
    return w, h


def _rescaled(x: Any, k: int, init: str, random_state: Any, root: float) -> tuple[Array, Array]:
    """Return sqrt(mean) times the NNDSVD of X / mean, without a copy of X.

    As it is, scikit-learn's would cut factors of small data to 0, from where no step leads away.
    """
    w, h = _initialize_nmf(x, k, init="nndsvd", eps=1e-6 * root, random_state=random_state)
    rng = check_random_state(random_state)
    for factor in (w, h):
        empty = factor == 0
        if init == "nndsvda":
            factor[empty] = root
        elif init == "nndsvdar":
            factor[empty] = abs(root * rng.standard_normal(size=int(empty.sum())) / 100)
    return w, h
