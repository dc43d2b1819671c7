"""Check that the index arrays of a sparse matrix stay inside it.

SciPy's compiled loops trust them: an index or a pointer out of range makes them read and write
outside of the arrays, which crashes the process or silently corrupts memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def damage(x: Any) -> str | None:
    """Return what is wrong with the arrays of a sparse matrix, or None.

    CSR, CSC, BSR, COO and DIA are looked at; the others are made of Python's own containers, and
    are to be looked at once they were converted. Nothing is changed. Cost: O(nnz + rows).

    >>> from scipy.sparse import csr_matrix
    >>> x = csr_matrix(np.eye(3))
    >>> x.indices[1] = 7
    >>> damage(x)
    'an index of 7, where 0 to 2 are inside'
    """
    if x.ndim != 2:
        return f"{x.ndim} dimensions, not 2"
    if x.format in ("coo", "csr", "csc", "bsr", "dia") and x.data.dtype.kind not in "biufc":
        return f"values of type {x.data.dtype}"
    if x.format == "coo":
        return _coordinates(x)
    if x.format in ("csr", "csc"):
        return _compressed(x, x.shape if x.format == "csr" else x.shape[::-1], data_ndim=1)
    if x.format == "bsr":
        return _blocks(x)
    return _diagonals(x) if x.format == "dia" else None


def _coordinates(x: Any) -> str | None:
    for indices, size in zip(x.coords, x.shape, strict=True):
        if found := _integers("indices", indices) or _inside(indices, size):
            return found
        if x.data.ndim != 1 or len(indices) != len(x.data):
            return f"{len(indices)} indices for data of shape {x.data.shape}"
    return None


def _blocks(x: Any) -> str | None:
    if x.data.ndim != 3 or 0 in x.data.shape[1:]:
        return f"blocks of shape {x.data.shape[1:]}"
    (n, m), (rows, columns) = x.shape, x.data.shape[1:]
    if n % rows or m % columns:
        return f"blocks of {rows} x {columns}, which do not divide {n} x {m}"
    return _compressed(x, (n // rows, m // columns), data_ndim=3)


def _diagonals(x: Any) -> str | None:
    n, m = x.shape
    if found := _integers("offsets", x.offsets):
        return found
    if x.data.ndim != 2 or len(x.data) != len(x.offsets):
        return f"{len(x.offsets)} offsets for data of shape {x.data.shape}"
    for offset in x.offsets.tolist():
        if not -n < offset < m:
            return f"an offset of {offset}, where {1 - n} to {m - 1} are inside"
    return None


def _compressed(x: Any, shape: tuple[int, int], data_ndim: int) -> str | None:
    """Return what is wrong with pointers and indices, for so many rows and columns."""
    pointers, indices, data = x.indptr, x.indices, x.data
    if found := _integers("pointers", pointers) or _integers("indices", indices):
        return found
    if len(pointers) != shape[0] + 1:
        return f"{len(pointers)} pointers, where {shape[0] + 1} are needed"
    if data.ndim != data_ndim or len(data) != len(indices):
        return f"{len(indices)} indices for data of shape {data.shape}"
    if pointers[0] != 0 or pointers[-1] > len(indices):
        return f"pointers from {pointers[0]} to {pointers[-1]} into {len(indices)} indices"
    if (pointers[1:] < pointers[:-1]).any():
        return "pointers that decrease"
    return _inside(indices[: pointers[-1]], shape[1])


def _integers(name: str, array: Any) -> str | None:
    """Return whether an array is no vector of integers."""
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind != "i":
        return f"{name} that are no vector of signed integers"
    return None


def _inside(indices: Any, size: int) -> str | None:
    """Return whether an index is out of range."""
    if not len(indices):
        return None
    for index in (indices.min(), indices.max()):
        if not 0 <= index < size:
            return f"an index of {index}, where 0 to {size - 1} are inside"
    return None
