"""Matrices from files, as people have them: npy, npz, csv and Matrix Market."""

from __future__ import annotations

import itertools
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io  # type: ignore[import-untyped]
import scipy.sparse as sp  # type: ignore[import-untyped]

from ratewise.errors import CorruptData, MissingData, RatewiseError, invalid
from ratewise.nmf.checks import OutOfMemory

SUFFIXES = (".npy", ".npz", ".csv", ".mtx")
#: What the readers raise for files that are not what they end in.
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def read_matrix(path: str | Path) -> Any:
    """Return the matrix of a file: an array, or a CSR matrix where the file holds a sparse one.

    - npy: memory-mapped, so that one of floats may be larger than memory.
    - npz: a sparse matrix of `scipy.sparse.save_npz`, the array X, or the only array.
    - csv: numbers with commas between; a first line that is none is a header.
    - mtx: Matrix Market, dense or sparse.

    Args:
        path: the file, with one of these endings.

    Raises:
        MissingData: there is no such file.
        InvalidArgument: another ending, or more than one array.
        CorruptData: it cannot be read as what it ends in, or holds no matrix of numbers.
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
        raise CorruptData(f"{path} cannot be read as {path.suffix}: {error}") from error
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.number) or 0 in matrix.shape:
        found = f"{matrix.dtype} of shape {tuple(matrix.shape)}"
        raise CorruptData(f"{path} holds {found}, not a matrix of numbers")
    return matrix.tocsr() if sp.issparse(matrix) else matrix


def _npy(path: Path) -> Any:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive: name it .npz")
    return array


def _npz(path: Path) -> Any:
    with path.open("rb") as content:
        file = np.load(content, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it is one array: name it .npy")
        names = list(file.files)
        if "format" not in names:
            if "X" not in names and len(names) != 1:
                allowed = "an npz with the array X, or one array"
                raise invalid("DATA", allowed, names, "save it as X")
            return file["X" if "X" in names else names[0]]
    return sp.load_npz(path)


def _csv(path: Path) -> Any:
    with path.open(encoding="utf-8-sig") as file:
        first = file.readline()
        lines = itertools.chain([first] if _numbers(first.split(",")) else [], file)
        with warnings.catch_warnings():  # an empty file: its shape says so
            warnings.filterwarnings("ignore", "loadtxt: input contained no data", UserWarning)
            return np.loadtxt(lines, delimiter=",", ndmin=2)


def _numbers(cells: list[str]) -> bool:
    """Return whether all cells are numbers."""
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return False
    return True


def _mtx(path: Path) -> Any:
    return scipy.io.mmread(path)


_READERS = {".npy": _npy, ".npz": _npz, ".csv": _csv, ".mtx": _mtx}
