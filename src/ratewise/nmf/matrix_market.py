"""Matrix Market files: a header, then numbers, one entry a line.

Read with NumPy's parser of tables. SciPy's reader is faster and believes the file: one that is cut
in the middle of a line, or symmetric and not square, can end the process.

Source: Boisvert, Pozo and Remington, The Matrix Market Exchange Formats, NISTIR 5935 (1996).
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]
from numpy.typing import NDArray

#: Kinds of entries; those of complex matrices, and skew-symmetric ones, are not >= 0.
_FIELDS = {"real": "f8", "double": "f8", "integer": "i8", "unsigned-integer": "u8", "pattern": ""}
_SYMMETRIES = ("general", "symmetric")


class MatrixMarketHeader(NamedTuple):
    """The header of a Matrix Market file."""

    dense: bool
    field: str  #: of `_FIELDS`
    symmetric: bool  #: one of (i, j) and (j, i) is left out
    shape: tuple[int, int]
    entries: int  #: lines that follow


def read_matrix_market(path: Path) -> Any:
    """Return the matrix of a file, an array or a COO matrix.

    Args:
        path: of Matrix Market's format, real, integer or pattern, general or symmetric.

    Raises:
        ValueError: of another kind, damaged, or with other entries than its header says.
    """
    with path.open(encoding="latin-1") as file:  # numbers are ASCII, comments may be anything
        header = _header(file)
        least = (2 if header.dense else 4) * header.entries - 1  # "1", "1 1", and the line's end
        if least > path.stat().st_size:
            sizes = f"{header.shape[0]:,} x {header.shape[1]:,} with {header.entries:,} entries"
            raise ValueError(f"its header says {sizes}, more than the file holds: it is cut short")
        kind = _FIELDS[header.field]
        if header.dense:
            return _dense(header, _numbers(file, header, kind))
        columns = [("row", "i8"), ("column", "i8")] + ([("value", kind)] if kind else [])
        return _sparse(header, _numbers(file, header, columns))


def _header(file: IO[str]) -> MatrixMarketHeader:
    """Return what the first lines say."""
    words = file.readline(1000).lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        raise ValueError("it does not begin with '%%MatrixMarket matrix' and three words")
    layout, field, symmetry = words[2:]
    if layout not in ("array", "coordinate") or (layout == "array" and field == "pattern"):
        raise ValueError(f"a matrix of {layout[:20]!r} and {field[:20]!r}")
    if field not in _FIELDS or symmetry not in _SYMMETRIES:
        raise ValueError(f"{field[:20]!r} and {symmetry[:20]!r}, not a real matrix >= 0")
    for line in file:
        if not line.startswith("%") and line.strip():
            break
    else:
        raise ValueError("it is cut short within its header")
    dense, symmetric = layout == "array", symmetry == "symmetric"
    if not re.fullmatch(r"\s*\d{1,18}" + r"\s+\d{1,18}" * (1 if dense else 2) + r"\s*", line):
        raise ValueError(f"sizes of {line.strip()[:40]!r}")
    n, m, *stored = (int(size) for size in line.split())
    if symmetric and n != m:
        raise ValueError(f"its header says symmetric, and {n:,} x {m:,}")
    entries = stored[0] if stored else n * (n + 1) // 2 if symmetric else n * m
    return MatrixMarketHeader(dense, field, symmetric, (n, m), entries)


def _numbers(file: IO[str], header: MatrixMarketHeader, dtype: Any) -> NDArray[Any]:
    """Return the lines that follow, as many as the header says."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "loadtxt: input contained no data", UserWarning)
        warnings.simplefilter("error", DeprecationWarning)  # 1.5 as an integer
        try:
            found: NDArray[Any] = np.loadtxt(file, dtype, comments="%", ndmin=1)
        except DeprecationWarning as error:
            raise ValueError(str(error)) from error
    if found.shape != (header.entries,):
        raise ValueError(f"it holds {found.shape} entries, its header says {header.entries:,}")
    return found


def _dense(header: MatrixMarketHeader, values: NDArray[Any]) -> NDArray[Any]:
    """Return the matrix of values that go down its columns."""
    if not header.symmetric:
        return values.reshape(header.shape, order="F")
    matrix = np.zeros(header.shape, values.dtype)
    columns, rows = np.triu_indices(header.shape[0])
    matrix[rows, columns] = matrix[columns, rows] = values
    return matrix


def _sparse(header: MatrixMarketHeader, found: NDArray[Any]) -> Any:
    """Return the matrix of entries, whose indices begin with 1."""
    rows, columns = found["row"] - 1, found["column"] - 1
    values = np.ones(len(found)) if header.field == "pattern" else found["value"]
    if header.symmetric:
        mirrored = rows != columns
        rows, columns, values = (
            np.concatenate([rows, columns[mirrored]]),
            np.concatenate([columns, rows[mirrored]]),
            np.concatenate([values, values[mirrored]]),
        )
    return sp.coo_matrix((values, (rows, columns)), shape=header.shape)
