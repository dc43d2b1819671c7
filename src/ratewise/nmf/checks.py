"""Checks of a factorisation's settings and data; each failure is a named error."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]
from sklearn.utils.validation import validate_data

from ratewise.errors import (
    InvalidArgument,
    RatewiseError,
    WrongType,
    invalid,
    unknown,
    wrong_type,
)
from ratewise.nmf.arrays import is_tensor, namespace
from ratewise.nmf.learned import MOST
from ratewise.nmf.rows import shared
from ratewise.nmf.schedules import NAMED, RateSchedule
from ratewise.nmf.sparse_structure import damage
from ratewise.rules.checks import check_amount, is_number

SOLVERS = ("hals", "sgd")
INITS = ("nndsvd", "nndsvda", "nndsvdar", "random", "custom")


class OutOfMemory(RatewiseError, MemoryError):
    """A factorisation does not fit into memory."""


class RankWarning(UserWarning):
    """More components than the data's rank: as a rule some repeat others or stay empty."""


class InterruptedWarning(UserWarning):
    """A fit was interrupted; the estimator has the components of the last finished batch."""


def check_settings(estimator: Any) -> None:
    """Raise unless every setting of the estimator is in its range.

    Raises:
        InvalidArgument, UnknownName: which, the range, the value, the fix.
    """
    e = estimator
    if not (e.n_components is None or e.n_components == "auto"):
        _count("n_components", e.n_components, "None, 'auto' or an integer >= 1")
    if e.batch_size != "auto":
        _count("batch_size", e.batch_size, "'auto' or an integer >= 1")
    if e.init is not None and e.init not in INITS:
        raise unknown("init", e.init, INITS)
    if e.solver not in SOLVERS:
        raise unknown("solver", e.solver, SOLVERS)
    if isinstance(e.schedule, str):
        if e.schedule not in NAMED:
            raise unknown("schedule", e.schedule, NAMED)
    elif isinstance(e.schedule, type) or not isinstance(e.schedule, RateSchedule):
        raise wrong_type(
            "schedule", "a name or an object with rate(observation)", e.schedule, "pass 'bound'"
        )
    for name in ("max_iter", "sweeps", "max_no_improvement"):
        _count(name, getattr(e, name), "an integer >= 1")
    for name in ("total_steps", "transform_max_iter"):
        if getattr(e, name) is not None:
            _count(name, getattr(e, name), "None or an integer >= 1")
    for name in ("tol", "alpha_W"):
        check_amount(name, _plain(getattr(e, name)))
    if _plain(e.max_memory) != math.inf:
        check_amount("max_memory", _plain(e.max_memory))
    if e.alpha_H != "same":
        check_amount("alpha_H", _plain(e.alpha_H))
    for name in ("l1_ratio", "forget_factor"):
        value = _plain(getattr(e, name))
        if not (is_number(value) and 0.0 <= value <= 1.0):
            raise invalid(name, "a number in [0, 1]", value, "pass e.g. 0.7")
    value = _plain(e.rate)
    if not (is_number(value) and 0.0 < value <= MOST):
        raise invalid("rate", f"a number in (0, {MOST}]", value, "pass 1.0, the bound's best")


def _plain(value: Any) -> Any:
    """Return a NumPy number as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _count(name: str, value: Any, allowed: str) -> None:
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise invalid(name, allowed, value, "pass 1 or more")


def check_data(estimator: Any, x: Any, *, reset: bool, zeros: bool) -> Any:
    """Return data as a float array, CSR matrix or tensor; an array of floats is not copied.

    Args:
        estimator: whose data they are.
        x: what was passed.
        reset: whether the estimator is to learn their features' number and names.
        zeros: whether all entries may be 0.

    Raises:
        InvalidArgument, WrongType: it is no matrix of finite numbers >= 0, or not of the features
            that the estimator has learned.
        OutOfMemory: there is no memory to make floats of it.
    """
    name = type(estimator).__name__
    if is_tensor(x):
        _check_tensor(x, None if reset else estimator.n_features_in_, name)
        if reset:
            estimator.n_features_in_ = int(x.shape[1])
            vars(estimator).pop("feature_names_in_", None)
        x = x.detach()
    else:
        x = _validated(estimator, sound(x) if sp.issparse(x) else x, reset)
    if sp.issparse(x):
        x = _canonical(x.tocsr())
    _check_values(x, name, zeros)
    return x


def sound(x: Any) -> Any:
    """Return a sparse matrix, of CSR or CSC, whose index arrays were seen to lie inside it.

    Its arrays are shared, without what lies behind the last entry. What the matrix remembers of
    itself is left behind: its arrays may have been written to since.

    Raises:
        InvalidArgument: they do not: what was found.
    """
    found = damage(x)
    if not found and x.format not in ("csr", "csc"):
        try:
            x = x.tocsr()
            found = damage(x)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            found = str(error)
    if found:
        fix = "build it anew, e.g. csr_matrix((data, (rows, columns)), shape)"
        raise invalid("X", "a sparse matrix whose indices lie inside it", found, fix)
    stored, kind = x.indptr[-1], sp.csr_matrix if x.format == "csr" else sp.csc_matrix
    return shared(kind, (x.data[:stored], x.indices[:stored], x.indptr), x.shape)


def _canonical(x: Any) -> Any:
    """Return a CSR matrix with each entry once: twice, it would count as two in |X|^2.

    Raises:
        InvalidArgument: what stands at one place adds up to infinity.
    """
    if x.has_canonical_format:
        return x
    x = x.copy()
    x.sum_duplicates()
    if not np.isfinite(x.data).all():
        found = "infinity as the sum of what is stored for one place"
        raise invalid("X", "finite", found, "scale the data down")
    return x


def _validated(estimator: Any, x: Any, reset: bool) -> Any:
    """Run scikit-learn's validation, with its errors raised as ours."""
    floats, sparse = [np.float64, np.float32], ("csr", "csc")
    try:
        return validate_data(estimator, x, accept_sparse=sparse, dtype=floats, reset=reset)
    except TypeError as error:
        raise WrongType(str(error)) from error
    except ValueError as error:
        text = str(error)
        first, *lines = text.splitlines()
        if first.startswith("Input X contains NaN"):  # and a page on models that impute
            text = "Input X contains NaN: fill in or drop what is missing"
        elif first.startswith("Complex data"):  # and the data
            text = f"{first}: pass abs(X), or its real part"
        elif first.startswith("Expected 2D array"):  # and the data, before the advice
            text = f"{first} {lines[-1]}"
        raise InvalidArgument(text) from error
    except MemoryError as error:
        fix = "pass a float32 or float64 array, or fewer rows at a time"
        raise OutOfMemory(f"no memory to make X an array of floats: {fix}") from error


def _check_values(x: Any, name: str, zeros: bool) -> None:
    """Raise where entries are negative, or all of them 0."""
    data = x.data if sp.issparse(x) else x
    smallest, largest = (float(data.min()), float(data.max())) if data.size else (0.0, 0.0)
    if smallest < 0.0:
        where = f"Negative values in data passed to {name}: X"
        raise invalid(where, ">= 0 everywhere", smallest, "shift or clip the data")
    if not (zeros or largest > 0.0):
        raise invalid("X", "with an entry above 0", "all zeros", "leave out what is empty")


def _check_tensor(x: Any, features: int | None, name: str) -> None:
    """Raise unless a tensor is dense, 2-D, float32 or float64, finite, of so many features."""
    import torch

    if x.layout != torch.strided:
        raise invalid("X", "a dense tensor", x.layout, "pass a CSR matrix of SciPy, and device=")
    if x.ndim != 2 or min(x.shape) == 0:
        raise invalid("X", "[n, m] with n, m >= 1", tuple(x.shape), "pass a matrix")
    if x.dtype not in (torch.float32, torch.float64):
        raise invalid("X", "float32 or float64", x.dtype, "call X.float()")
    if features is not None and x.shape[1] != features:
        raise invalid(
            "X",
            f"of {features} features, as {name} is expecting",
            int(x.shape[1]),
            "pass the columns that it was fitted on",
        )
    if not bool(torch.isfinite(x).all()):
        raise invalid("X", "finite", "NaN or infinity", "fill in or drop what is missing")


def check_squares(square: float, exponent: int) -> None:
    """Raise unless losses of data are numbers that float64 can hold.

    Args:
        square: |X|^2 of the data as they were scaled.
        exponent: of the power of two that they were divided by.
    """
    if math.frexp(square)[1] + 2 * exponent > sys.float_info.max_exp:
        allowed = "of a norm |X| whose square is a number, at most 1.3e154"
        norm = math.ldexp(math.sqrt(square), exponent)
        raise invalid(
            "X", allowed, norm, f"pass X * 2.0**{-exponent}, and W or H times the inverse"
        )


def check_codes(codes: Any) -> None:
    """Raise unless all codes are finite."""
    if not bool(namespace(codes).isfinite(codes).all()):
        allowed = "finite while it is read, and its codes numbers of its float type"
        raise invalid("X", allowed, "codes that are not finite", "pass float64, or a settled file")


@contextlib.contextmanager
def enough_memory(shape: tuple[int, int], k: int) -> Iterator[None]:
    """Turn a lack of memory, of NumPy or torch, into an error that says what did not fit.

    Factors larger than the machine's memory are refused at once: where memory is promised before
    it is there, the system would end the process in the middle of the fit.

    Args:
        shape: of the data, rows and features.
        k: components.

    Raises:
        OutOfMemory: sizes, and what would make it smaller.
    """
    n, m = shape
    numbers = (n + 2 * m) * k
    short = OutOfMemory(
        f"no memory for {k} components of {n} x {m} data (about {numbers:,} numbers "
        "beside the data and the statistics): pass a smaller n_components, max_memory or "
        "batch_size, or float32 data"
    )
    if 4 * numbers > _physical_memory():
        raise short
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lacking = isinstance(error, MemoryError) or "memory" in str(error)  # torch has no one class
        if isinstance(error, RatewiseError) or not lacking:
            raise
        raise short from error


def _physical_memory() -> float:
    """Return the machine's memory in bytes; infinity where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return math.inf
