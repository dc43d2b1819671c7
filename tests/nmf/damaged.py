"""Sparse matrices whose index arrays go outside, as attributes and as files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from tests.nmf.test_estimator import data


def _at(array: Any, place: int, value: int) -> Any:
    changed = array.copy()
    changed[place] = value
    return changed


Arrays = dict[str, Any]
#: What is changed of the arrays of a CSR or CSC matrix.
CHANGES: dict[str, Callable[[Arrays], Arrays]] = {
    "a large index": lambda a: {"indices": _at(a["indices"], 5, 2**30)},
    "an index just outside": lambda a: {"indices": _at(a["indices"], 5, 1 + max(a["indices"]))},
    "a negative index": lambda a: {"indices": _at(a["indices"], 5, -1)},
    "a very negative index": lambda a: {"indices": _at(a["indices"], 5, -(2**30))},
    "a negative pointer": lambda a: {"indptr": _at(a["indptr"], 5, -(2**20))},
    "a large pointer": lambda a: {"indptr": _at(a["indptr"], 5, 2**30)},
    "pointers that decrease": lambda a: {"indptr": _at(a["indptr"], 6, 0)},
    "a first pointer": lambda a: {"indptr": _at(a["indptr"], 0, 3)},
    "a last pointer": lambda a: {"indptr": _at(a["indptr"], -1, 2**28)},
    "a last pointer below 0": lambda a: {"indptr": _at(a["indptr"], -1, -5)},
    "all stored where nothing is": lambda a: {"indptr": _at(a["indptr"] * 0, 5, 10**6)},
    "pointers cut short": lambda a: {"indptr": a["indptr"][:-3]},
    "no pointers": lambda a: {"indptr": a["indptr"][:0]},
    "indices cut short": lambda a: {"indices": a["indices"][:-3]},
    "data cut short": lambda a: {"data": a["data"][:-3]},
    "indices of floats": lambda a: {"indices": a["indices"] + 0.5},
    "pointers of floats": lambda a: {"indptr": a["indptr"].astype(float)},
    "indices of two dimensions": lambda a: {"indices": a["indices"][:, None]},
    "data that are text": lambda a: {"data": a["data"].astype("U3")},
    "data of two dimensions": lambda a: {"data": a["data"][:, None]},
}


def arrays(kind: str, what: str) -> Arrays:
    """Return the arrays of a damaged matrix, [90, 12], of CSR or CSC."""
    x = getattr(sp, f"{kind}_matrix")(data())
    whole = {"data": x.data, "indices": x.indices, "indptr": x.indptr}
    return {**whole, **CHANGES[what](whole)}


def matrix(kind: str, what: str, change: bool = True) -> Any:
    """Return a matrix that was damaged after it was made."""
    x = getattr(sp, f"{kind}_matrix")(data())
    for name, array in arrays(kind, what).items() if change else ():
        setattr(x, name, array)
    return x


def save(path: Any, kind: str, what: str) -> None:
    """Write a damaged matrix as `scipy.sparse.save_npz` would."""
    np.savez(path, format=kind.encode(), shape=np.array([90, 12]), **arrays(kind, what))
