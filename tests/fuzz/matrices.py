"""Matrices that do harm, as files and as objects: a named error, or factors that hold."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse as sp
import torch
from tests.fuzz.damage import damaged
from tests.fuzz.harness import Fault
from tests.nmf import damaged as structures

from ratewise.errors import RatewiseError
from ratewise.nmf import StochasticNMF, fit_file
from ratewise.nmf.matrix_files import read_matrix

#: What the entries are multiplied by: most of what float64 has.
_SCALES = (1.0, 1.0, 1.0, 1e-3, 1e3, 1e-30, 1e30, 1e-150, 1e150, 1e-200, 1e200, 1e-300, 1e300)
_SPECIAL = (np.nan, np.inf, -np.inf, -1.0, -0.0, 5e-324, 1e308, 1e-308)


def case(rng: np.random.Generator, folder: Path) -> str:
    """Try a damaged file, a damaged sparse matrix, or hostile values."""
    way = rng.random()
    try:
        if way < 0.4:
            return _from_file(rng, folder)
        if way < 0.6:
            return _outside(rng)
        return _values(rng, folder)
    except RatewiseError as error:
        if "\n" in str(error):
            raise Fault(f"an error of several lines: {error}") from error
        return f"refused {type(error).__name__}"
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"no named error: {type(error).__name__}: {error}") from error


def _matrix(rng: np.random.Generator) -> np.ndarray:
    """A small non-negative matrix, with rows and columns of zeros now and then."""
    n, m, k = (int(size) for size in rng.integers(1, (40, 15, 4)))
    x = rng.random((n, k)) @ rng.random((k, m)) + 0.1 * rng.random((n, m))
    x *= rng.random((n, m)) < rng.choice([0.3, 0.8, 1.0])
    if rng.random() < 0.3:
        x[int(rng.integers(n))] = 0.0
    if rng.random() < 0.3:
        x[:, int(rng.integers(m))] = 0.0
    return x


def _model(rng: np.random.Generator, k: int | None = None) -> StochasticNMF:
    return StochasticNMF(
        int(rng.integers(1, 4)) if k is None else k,
        solver=str(rng.choice(["hals", "sgd"])),
        init=[None, "random", "nndsvd", "nndsvdar"][int(rng.integers(4))],
        batch_size=["auto", 3, 10][int(rng.integers(3))],
        max_iter=int(rng.integers(1, 6)),
        tol=0.0,
        random_state=int(rng.integers(100)),
    )


def _from_file(rng: np.random.Generator, folder: Path) -> str:
    """Damage a file, read it, and factorise what was read."""
    names = list(_WRITERS)
    name = names[int(rng.integers(len(names)))]
    path = folder / name
    _WRITERS[name](rng, path)
    if rng.random() < 0.95:
        path.write_bytes(damaged(rng, path.read_bytes()))
    if rng.random() < 0.1:
        fit_file(path, folder / "out", 2, max_iter=2)
        return "fitted"
    try:
        x = read_matrix(path)
    except RatewiseError as error:
        if name not in str(error) and "DATA must be" not in str(error):
            raise Fault(f"an error that does not name the file: {error}") from error
        raise
    if x.shape[0] * x.shape[1] > 10**6:  # damaged into a large one: reading it was the case
        return "read"
    return _fit(rng, x)


def _sparse_file(rng: np.random.Generator, path: Path) -> None:
    kind = str(rng.choice(["csr", "csc", "coo", "bsr", "dia"]))
    whole = io.BytesIO()
    x = getattr(sp, f"{kind}_matrix")(_matrix(rng))
    sp.save_npz(whole, x, compressed=bool(rng.random() < 0.5))
    whole.seek(0)
    arrays = dict(np.load(whole))
    names = [key for key in arrays if key not in ("format", "_is_array")]
    if rng.random() < 0.7:
        name = names[int(rng.integers(len(names)))]
        arrays[name] = _wrong(rng, arrays[name])
    np.savez(path, **arrays)


def _wrong(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """An array of indices, sizes or values with some of them, their number or their type wrong."""
    way, changed = int(rng.integers(6)), array.copy()
    if way < 3 and array.size:
        values = [-1, -(2**31), 2**30, 2**31 - 1, 10**6, 7, 0]
        place = int(rng.integers(array.size))
        changed.reshape(-1)[place] = values[int(rng.integers(len(values)))]
    elif way == 3:
        changed = changed[: int(rng.integers(len(changed) + 1))] if changed.ndim else changed
    elif way == 4:
        changed = changed.astype(rng.choice(["f8", "i8", "u1", "c16", "U3"]))
    else:
        changed = np.concatenate([changed, changed]) if changed.ndim else changed[None]
    return changed


_WRITERS: dict[str, Callable[[np.random.Generator, Path], object]] = {
    "dense.npy": lambda rng, path: np.save(path, _matrix(rng)),
    "fortran.npy": lambda rng, path: np.save(path, np.asfortranarray(_matrix(rng))),
    "dense.npz": lambda rng, path: np.savez_compressed(path, X=_matrix(rng)),
    "sparse.npz": _sparse_file,
    "table.csv": lambda rng, path: np.savetxt(path, _matrix(rng), delimiter=","),
    "dense.mtx": lambda rng, path: scipy.io.mmwrite(path, _matrix(rng)),
    "sparse.mtx": lambda rng, path: scipy.io.mmwrite(path, sp.coo_matrix(_matrix(rng))),
}


def _outside(rng: np.random.Generator) -> str:
    """Pass a sparse matrix whose arrays were damaged after it was made."""
    if rng.random() < 0.5:
        whats = list(structures.CHANGES)
        kind = str(rng.choice(["csr", "csc"]))
        x = structures.matrix(kind, whats[int(rng.integers(len(whats)))])
    else:
        kind = str(rng.choice(["csr", "csc", "coo", "bsr", "dia"]))
        x = getattr(sp, f"{kind}_matrix")(_matrix(rng))
        names = {"coo": ["row", "col", "data"], "dia": ["offsets", "data"]}
        names = names.get(kind, ["indices", "indptr", "data"])
        name = names[int(rng.integers(len(names)))]
        try:
            setattr(x, name, _wrong(rng, getattr(x, name)))
        except (ValueError, TypeError, OverflowError):
            return "refused by SciPy"
    return _fit(rng, x)


def _values(rng: np.random.Generator, folder: Path) -> str:
    """Pass values at the ends of what floats hold, in every container."""
    x = _matrix(rng) * float(rng.choice(_SCALES))
    if rng.random() < 0.4:
        x[int(rng.integers(x.shape[0])), int(rng.integers(x.shape[1]))] = rng.choice(_SPECIAL)
    with np.errstate(all="ignore"):
        x = x.astype(rng.choice(["f8", "f8", "f4", "f2", "i8", "?", "c16", "U5", ">f8"]))
    way = int(rng.integers(5))
    if way == 1 and x.dtype.kind in "fib" and x.dtype != np.float16:
        return _fit(rng, sp.csr_matrix(x.astype(x.dtype.newbyteorder("="))))
    if way == 2:
        np.save(folder / "x.npy", x)
        return _fit(rng, read_matrix(folder / "x.npy"))
    if way == 3 and x.dtype.kind in "fib" and x.dtype.isnative:
        return _fit(rng, torch.from_numpy(x))
    return _fit(rng, x)


def _fit(rng: np.random.Generator, x: Any) -> str:
    """Factorise a matrix in one of three ways, and hold the result against the matrix."""
    model, way = _model(rng), int(rng.integers(3))
    if way == 0:
        w = model.fit_transform(x)
    elif way == 1:
        model.partial_fit(x)
        w = model.partial_fit(x).transform(x)
    else:
        model.fit(np.random.default_rng(0).random((20, x.shape[1])))
        w = model.transform(x)
    _check(x, w, model, exact=way == 0)
    return "held"


def _check(x: Any, w: Any, model: StochasticNMF, exact: bool) -> None:
    """Raise unless W and H are finite, >= 0, no worse than nothing, and as far off as is said."""
    w, h = np.asarray(w, np.float64), model.components_.astype(np.float64)
    dense = np.asarray(x.tocsr().toarray() if sp.issparse(x) else x, np.float64)
    scale = dense.max() or 1.0
    if not (np.isfinite(w).all() and np.isfinite(h).all()):
        raise Fault(f"W or H is not finite for entries up to {scale}")
    if w.min() < 0 or h.min() < 0:
        raise Fault("W or H is negative")
    top = h.max() or 1.0
    left = dense / scale - (w / scale * top) @ (h / top)
    distance, norm = float(np.linalg.norm(left)), float(np.linalg.norm(dense / scale))
    if not distance <= 1.01 * norm + 1e-6:
        raise Fault(f"|X - W H| is {distance / norm} |X|, worse than W = 0")
    if exact:
        said = model.reconstruction_err_ / scale
        grid = model.n_components_ * math.sqrt(left.size) * (5e-324 / scale)  # of what is tiny
        if not abs(said - distance) <= 1e-2 * norm + grid:
            raise Fault(f"|X - W H| / |X| is {distance / norm}, {said / norm} is said: {scale}")


def _structure(kind: str, what: str, act: str) -> Callable[[Path], None]:
    def regression(folder: Path) -> None:
        model = StochasticNMF(2, max_iter=3, random_state=0)
        try:
            if act == "fit_file":
                structures.save(folder / "x.npz", kind, what)
                fit_file(folder / "x.npz", folder / "out", 2, max_iter=3)
            else:
                getattr(model, act)(structures.matrix(kind, what))
        except RatewiseError:
            return
        raise Fault(f"{what} was taken")

    return regression


def _mirrored(folder: Path) -> None:
    text = "%%MatrixMarket matrix array real symmetric\n2 4000\n" + "1\n" * 9000
    (folder / "x.mtx").write_text(text)
    try:
        read_matrix(folder / "x.mtx")
    except RatewiseError:
        return
    raise Fault("a symmetric matrix of 2 x 4000 was read")


def _scaled(factor: float, dtype: str, solver: str) -> Callable[[Path], None]:
    def regression(folder: Path) -> None:
        x = (np.random.default_rng(0).random((30, 8)) * factor).astype(dtype)
        model = StochasticNMF(3, solver=solver, max_iter=5, tol=0.0, random_state=0)
        try:
            w = model.fit_transform(x)
        except RatewiseError:
            return
        _check(x, w, model, exact=True)

    return regression


def _few_ones(kind: Callable[[Any], Any]) -> Callable[[Path], None]:
    """The first batches hardly use a component, and their step of it is huge."""

    def regression(folder: Path) -> None:
        x = np.zeros((39, 9))
        x[[0, 4, 9, 10, 12, 14, 17, 27, 30, 30, 31, 31, 31, 32, 37],
          [2, 0, 7, 7, 8, 4, 8, 6, 6, 8, 2, 6, 7, 7, 8]] = 1.0  # fmt: skip
        how: dict[str, Any] = {"batch_size": 3, "max_iter": 5, "tol": 0.0, "random_state": 32}
        model = StochasticNMF(2, solver="sgd", init="nndsvd", **how)
        _check(x, model.fit_transform(kind(x)), model, exact=True)

    return regression


class _Watched(StochasticNMF):
    """Calls back after each batch."""

    def _after_step(self, codes: Any, parts: Any) -> None:
        self.after(self._solver.steps)


def _turns_nan(solver: str) -> Callable[[Path], None]:
    """A memory-mapped file that somebody writes to while it is factorised."""

    def regression(folder: Path) -> None:
        np.save(folder / "x.npy", np.random.default_rng(0).random((30, 8)))
        file = np.load(folder / "x.npy", mmap_mode="r+")
        model = _Watched(3, solver=solver, batch_size=10, max_iter=5, tol=0.0, random_state=0)
        model.after = lambda step: file.fill(np.nan) if step == 4 else None
        try:
            w = model.fit_transform(read_matrix(folder / "x.npy"))
        except RatewiseError:
            return
        for name, found in (("W", w), ("H", model.components_)):
            if not np.isfinite(found).all():
                raise Fault(f"{name} is not finite, in silence")

    return regression


REGRESSIONS: dict[str, Callable[[Path], None]] = {
    **{
        f"{what} of a {kind} matrix, {act}": _structure(kind, what, act)
        for kind in ("csr", "csc")
        for act in ("fit", "partial_fit", "fit_file")
        for what in ("a large index", "a negative index", "a negative pointer", "a large pointer",
                     "pointers that decrease")
    },
    "a symmetric matrix that is not square": _mirrored,
    **{
        f"entries of {factor:g} in {dtype}, {solver}": _scaled(factor, dtype, solver)
        for factor, dtype in ((1e30, "f4"), (1e200, "f8"), (1e-30, "f4"), (1e-200, "f8"))
        for solver in ("hals", "sgd")
    },
    **{
        f"a memory map that turns NaN in mid-fit, {solver}": _turns_nan(solver)
        for solver in ("hals", "sgd")
    },
    "a few ones in tiny batches": _few_ones(np.asarray),
    "a few ones in tiny batches, sparse": _few_ones(sp.csr_matrix),
}  # fmt: skip
