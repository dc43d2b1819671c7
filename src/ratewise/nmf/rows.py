"""Mini-batches of rows, dense, sparse or on a device: the two products that a solver needs.

A batch X_b is [b, m]. Solvers keep its codes transposed, W_b^T as [k, b], and the components H as
[k, m]: a component is then one contiguous row on either side. Nothing here densifies.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]

from ratewise.nmf.arrays import Array, namespace

#: Numbers in the largest temporary block that a pass over the rows may make.
_BLOCK = 1 << 22
#: Rows of a sparse matrix that are multiplied at a time.
_PIECE = 4096


class Rows(Protocol):
    """Some rows of the data."""

    shape: tuple[int, int]  #: (b, m)
    square: float  #: |X_b|^2

    def project(self, parts: Array) -> Array:
        """Return H X_b^T, [k, b]."""

    def cross(self, codes: Array) -> Array:
        """Return W_b^T X_b, [k, m]."""

    def dense(self, start: int, stop: int) -> Array:
        """Return the rows from `start` to `stop` of the batch as a dense array."""


class DenseRows:
    """Rows of a NumPy array or a torch tensor; a view, so a memory-mapped file stays on disk."""

    def __init__(self, x: Array) -> None:
        self._x = x
        self.shape = (int(x.shape[0]), int(x.shape[1]))
        self.square = inner(x, x)

    def project(self, parts: Array) -> Array:
        """Return H X_b^T, [k, b]."""
        return parts @ self._x.T

    def cross(self, codes: Array) -> Array:
        """Return W_b^T X_b, [k, m]."""
        return codes @ self._x

    def dense(self, start: int, stop: int) -> Array:
        """Return rows of the batch."""
        return self._x[start:stop]


class SparseRows:
    """Rows of a CSR matrix; the arrays are shared with it.

    Products go a few thousand rows at a time, because SciPy's come out transposed and are copied.
    """

    def __init__(self, x: sp.csr_matrix) -> None:
        self._x = x
        self._pieces = [(a, b, _slice(x, a, b)) for a, b in spans(x.shape[0], _PIECE)]
        self.shape = (int(x.shape[0]), int(x.shape[1]))
        self.square = inner(x.data, x.data)

    def project(self, parts: Array) -> Array:
        """Return H X_b^T, [k, b], in O(k nnz)."""
        upright = np.ascontiguousarray(parts.T)
        product = np.empty((len(parts), self.shape[0]), parts.dtype)
        for start, stop, piece in self._pieces:
            product[:, start:stop] = (piece @ upright).T
        return product

    def cross(self, codes: Array) -> Array:
        """Return W_b^T X_b, [k, m], in O(k nnz)."""
        start, stop, piece = self._pieces[0]
        product = _turned(piece) @ codes[:, start:stop].T
        for start, stop, piece in self._pieces[1:]:
            product += _turned(piece) @ codes[:, start:stop].T
        return np.ascontiguousarray(product.T)

    def dense(self, start: int, stop: int) -> Array:
        """Return rows of the batch as a dense array."""
        return self._x[start:stop].toarray()


class DeviceSparseRows:
    """Rows of a CSR matrix as torch tensors, with a transposed copy: a device wants both ways."""

    def __init__(self, x: sp.csr_matrix, device: Any) -> None:
        self._x, self._xt = _to_torch(x, device), _to_torch(x.T.tocsr(), device)
        self._device = device
        self._host = x
        self.shape = (int(x.shape[0]), int(x.shape[1]))
        self.square = inner(x.data, x.data)

    def project(self, parts: Array) -> Array:
        """Return H X_b^T, [k, b]."""
        return (self._x @ parts.T.contiguous()).T.contiguous()

    def cross(self, codes: Array) -> Array:
        """Return W_b^T X_b, [k, m]."""
        return (self._xt @ codes.T.contiguous()).T.contiguous()

    def dense(self, start: int, stop: int) -> Array:
        """Return rows of the batch as a dense tensor."""
        import torch

        return torch.from_numpy(self._host[start:stop].toarray()).to(self._device)


def _to_torch(x: sp.csr_matrix, device: Any) -> Any:
    import torch

    pointers, indices = (torch.from_numpy(a.astype(np.int64)) for a in (x.indptr, x.indices))
    with warnings.catch_warnings():  # of torch: its CSR is in beta; a read-only array comes in
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        values = torch.from_numpy(x.data)
        return torch.sparse_csr_tensor(
            pointers, indices, values, size=x.shape, device=device, check_invariants=False
        )


def rows_of(x: Any, device: Any = None) -> Rows:
    """Return a batch: NumPy array, CSR matrix or tensor; on `device` where one is named."""
    if sp.issparse(x):
        return SparseRows(x) if device is None else DeviceSparseRows(x, device)
    if device is None:
        return DenseRows(x)
    import torch

    with warnings.catch_warnings():  # nothing writes into the data
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return DenseRows(torch.as_tensor(x, device=device))


def cut(x: Any, size: int, device: Any = None) -> Iterator[Rows]:
    """Yield X in batches of `size` consecutive rows; the last one has what is left.

    >>> [rows.shape for rows in cut(np.ones((10, 3)), 4)]
    [(4, 3), (4, 3), (2, 3)]
    """
    for start, stop in spans(x.shape[0], size):
        yield rows_of(_slice(x, start, stop), device)


def spans(n: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each batch of n rows."""
    for start in range(0, n, size):
        yield start, min(n, start + size)


def _slice(x: Any, start: int, stop: int) -> Any:
    """Return rows of X without a copy of what is stored."""
    if not sp.issparse(x):
        return x[start:stop]
    low, high = x.indptr[start], x.indptr[stop]
    arrays = (x.data[low:high], x.indices[low:high], x.indptr[start : stop + 1] - low)
    return shared(sp.csr_matrix, arrays, (stop - start, x.shape[1]))


def _turned(x: sp.csr_matrix) -> sp.csc_matrix:
    """Return X^T without a copy of what is stored."""
    return shared(sp.csc_matrix, (x.data, x.indices, x.indptr), x.shape[::-1])


def shared(kind: Any, arrays: tuple[Any, Any, Any], shape: tuple[int, int]) -> Any:
    """Return a sparse matrix of arrays as they are: its constructor copies parts of larger ones."""
    matrix = kind(shape, dtype=arrays[0].dtype)
    matrix.data, matrix.indices, matrix.indptr = arrays
    return matrix


def automatic_size(x: Any, k: int, solver: str) -> int:
    """Return rows a batch, from what a step costs on either side, in equal batches.

    A batch of b rows with d stored numbers each costs about b (d + k) k for its products and
    codes, and m k^2 for the components whatever b is. HALS takes b = 4 m k / (d + k), at least
    1024 rows, so that the components take a fifth of the time; SGD, whose step for them is one
    product, takes a quarter of that.

    >>> automatic_size(np.ones((20000, 500)), 20, "hals")
    1000
    """
    n, m = x.shape
    stored = x.nnz / n if sp.issparse(x) else m
    balanced = m * k / (stored + k)
    size = max(1024.0, 4.0 * balanced) if solver == "hals" else max(256.0, balanced)
    return math.ceil(n / math.ceil(n / size))


def blocks(rows: Rows) -> Iterator[tuple[int, int]]:
    """Yield spans of a batch that are small enough to be made dense."""
    yield from spans(rows.shape[0], max(1, _BLOCK // max(1, rows.shape[1])))


def inner(a: Array, b: Array) -> float:
    """Return the sum of products of two arrays of one shape, added up in float64.

    >>> inner(np.float32([1e4, 1]), np.float32([1e4, 1]))
    100000001.0
    """
    if namespace(a) is np:
        axes = "ij"[: a.ndim]
        return float(np.einsum(f"{axes},{axes}->", a, b, dtype=np.float64))
    import torch

    return float((a * b).sum(dtype=torch.float64))
