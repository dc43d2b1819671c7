"""Factors to start from: scikit-learn's initialisations, at any scale of the data."""

from __future__ import annotations

import math
from typing import Any

from sklearn.decomposition._nmf import _initialize_nmf

from ratewise.errors import InvalidArgument
from ratewise.nmf.capping import Array

#: Means of data that scikit-learn's NNDSVD bears: it cuts factors at 1e-6 and fills with the mean.
_USUAL = (1e-6, 1e6)


def initial(x: Any, k: int, init: str | None, random_state: Any) -> tuple[Array, Array]:
    """Return W, [n, k], and H, [k, m], of X's float type.

    Data of an unusual scale are brought to the mean 1 for it, in a copy: as they are, NNDSVD would
    cut factors of small ones to 0, from where no step leads away.

    Args:
        x: [n, m], >= 0, array or CSR matrix.
        k: components.
        init: of scikit-learn's NMF.
        random_state: a seed, as scikit-learn takes it.

    Raises:
        InvalidArgument: an NNDSVD of more components than min(n, m), or no seed.
    """
    mean = float(x.mean())
    scale = x.dtype.type(1.0 if mean <= 0.0 or _USUAL[0] <= mean <= _USUAL[1] else mean)
    try:
        data = x if scale == 1.0 else x / scale
        w, h = _initialize_nmf(data, k, init=init, random_state=random_state)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    root = math.sqrt(scale)
    w, h = (factor.astype(x.dtype, copy=False) for factor in (w, h))  # of sparse float32: float64
    return (w, h) if root == 1.0 else (w * x.dtype.type(root), h * x.dtype.type(root))
