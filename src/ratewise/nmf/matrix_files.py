"""Matrices from files, as people have them: npy, npz, csv and Matrix Market.

A file from a stranger is safe to read: nothing in it is run, no array is larger than what the file
holds for it, what is compressed unpacks to at most `MOST` bytes, and a sparse matrix's indices were
seen to lie inside it.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]

from ratewise.errors import CorruptData, MissingData, RatewiseError, invalid
from ratewise.files import contents as content
from ratewise.files.arrays import array_names, map_array, read_arrays
from ratewise.nmf.checks import OutOfMemory
from ratewise.nmf.matrix_market import read_matrix_market
from ratewise.nmf.sparse_structure import damage

SUFFIXES = (".npy", ".npz", ".csv", ".mtx")
#: Bytes that compressed arrays may unpack to, and that the row pointers of a matrix may take.
MOST = 8 << 30
#: What is raised for files that are not what they end in.
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, OverflowError, RuntimeError)


def read_matrix(path: str | Path) -> Any:
    """Return the matrix of a file: an array, or a CSR matrix where the file holds a sparse one.

    - npy: memory-mapped, so that one of floats may be larger than memory.
    - npz: a sparse matrix of `scipy.sparse.save_npz`, the array X, or the only array.
    - csv: numbers with commas between; a first line that is none is a header.
    - mtx: Matrix Market, dense or sparse, real, integer or pattern, general or symmetric.

    Args:
        path: the file, with one of these endings.

    Raises:
        MissingData: there is no such file.
        InvalidArgument: another ending, or more than one array.
        CorruptData: it cannot be read as what it ends in, is encrypted, unpacks to more than
            `MOST` bytes, has indices outside, or holds no matrix of numbers.
        OutOfMemory: it does not fit.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise invalid("DATA", f"a file in {', '.join(SUFFIXES)}", path.name, "save it as one")
    if not path.is_file():
        raise MissingData(f"{path} is missing: pass a file that exists")
    try:
        matrix = _READERS[path.suffix.lower()](path)
    except MemoryError as error:
        raise OutOfMemory(f"{path} does not fit into memory: save it as .npy") from error
    except _UNREADABLE as error:
        if isinstance(error, RatewiseError):
            raise
        words = f"{path} cannot be read as {path.suffix}: {content.shown(error)}"
        raise CorruptData(words) from error
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.number) or 0 in matrix.shape:
        found = f"{matrix.dtype} of shape {tuple(matrix.shape)}"
        raise CorruptData(f"{path} holds {found}, not a matrix of numbers")
    return _as_csr(path, matrix) if sp.issparse(matrix) else matrix


def _as_csr(path: Path, matrix: Any) -> Any:
    """Return a sparse matrix as CSR once its arrays were seen to lie inside it."""
    if found := damage(matrix):
        fix = "save it again with scipy.sparse.save_npz"
        raise CorruptData(f"{path} is damaged: {found}: {fix}")
    if 8 * matrix.shape[0] > MOST:
        raise content.too_large(path, f"needs memory for {matrix.shape[0]:,} rows", MOST)
    try:
        return matrix.tocsr()
    except MemoryError as error:
        rows = f"{matrix.shape[0]:,} rows"
        raise OutOfMemory(f"{path}: no memory for {rows}: leave out those of zeros") from error


def _npz(path: Path) -> Any:
    names = array_names(path)
    if "format" in names:
        return _sparse(path)
    if "X" not in names and len(names) != 1:
        allowed = "an npz with the array X, or one array"
        raise invalid("DATA", allowed, [content.shown(name) for name in names[:10]], "save it as X")
    (matrix,) = read_arrays(path, ["X" if "X" in names else names[0]], MOST).values()
    return matrix


def _sparse(path: Path) -> Any:
    """Return what `scipy.sparse.save_npz` saved, in its format."""
    arrays = read_arrays(path, None, MOST)
    kind = str(arrays["format"].astype("U") if arrays["format"].ndim == 0 else "")
    shape = tuple(int(n) for n in arrays["shape"].tolist())
    if len(shape) != 2 or min(shape) < 1 or max(shape) >= 1 << 62:
        raise ValueError(f"a sparse matrix of shape {shape}")
    if kind in ("csr", "csc", "bsr"):
        indices, pointers = (_integers(arrays[name]) for name in ("indices", "indptr"))
        make = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "bsr": sp.bsr_matrix}[kind]
        return make((arrays["data"], indices, pointers), shape=shape)
    if kind == "coo":
        if "coords" in arrays:
            rows, columns = _integers(arrays["coords"])
        else:
            rows, columns = (_integers(arrays[name]) for name in ("row", "col"))
        return sp.coo_matrix((arrays["data"], (rows, columns)), shape=shape)
    if kind == "dia":
        return sp.dia_matrix((arrays["data"], _integers(arrays["offsets"])), shape=shape)
    raise ValueError(f"a sparse matrix of format {kind[:10]!r}: convert it with tocsr()")


def _integers(array: Any) -> Any:
    """Return an array of indices; SciPy would round those that are no integers."""
    if array.dtype.kind != "i":
        raise ValueError(f"indices of {array.dtype}")
    return array


def _csv(path: Path) -> Any:
    content.check_regular(path)
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
        names = _names(first.rstrip("\r\n").split(","))
        with warnings.catch_warnings():  # an empty file: its shape says so
            warnings.filterwarnings("ignore", "loadtxt: input contained no data", UserWarning)
            lines = file if names else itertools.chain([first], file)
            matrix = np.loadtxt(lines, delimiter=",", ndmin=2)
    if names and matrix.size and matrix.shape[1] != names:
        raise ValueError(f"a header of {names} names above rows of {matrix.shape[1]} numbers")
    return matrix


def _names(cells: list[str]) -> int:
    """Return how many names a first line has; 0 where it is one of numbers.

    Raises:
        ValueError: some cells are numbers and some are none: a header, or a damaged row?
    """
    names = [cell for cell in cells if not _is_number(cell)]
    if names and len(names) < len(cells):
        raise ValueError(
            f"line 1 has numbers and, e.g., {names[0].strip()[:20]!r}: a header has names alone, "
            "a row numbers alone"
        )
    return len(names)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


_READERS = {".npy": map_array, ".npz": _npz, ".csv": _csv, ".mtx": read_matrix_market}
