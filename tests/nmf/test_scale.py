"""Data of any magnitude: the same factorisation times a power of two, or an error with a name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from ratewise import StochasticNMF
from ratewise.errors import InvalidArgument
from ratewise.nmf import scale
from ratewise.nmf.command import fit_file

KINDS = {"array": np.asarray, "sparse": sp.csr_matrix, "tensor": torch.tensor}


def data(dtype: Any = np.float64) -> np.ndarray:
    """Return [40, 15] data of rank 3 with noise, a fifth of them 0, of at most 0.9."""
    rng = np.random.default_rng(0)
    x = rng.random((40, 3)) @ rng.random((3, 15)) + 0.01 * rng.random((40, 15))
    x[rng.random(x.shape) < 0.2] = 0.0
    return (0.9 * x / x.max()).astype(dtype)


def model(**settings: Any) -> StochasticNMF:
    usual: dict[str, Any] = {"random_state": 0, "max_iter": 25, "tol": 0.0, "batch_size": 16}
    return StochasticNMF(3, **(usual | settings))


def plain(w: Any) -> np.ndarray:
    return np.asarray(w)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("solver", ["hals", "sgd"])
@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["exact", "decaying"])
@pytest.mark.parametrize(
    ("dtype", "one", "other"), [(np.float64, -700, 500), (np.float32, -100, 110)]
)
def test_a_power_of_two_changes_no_digit(
    kind: Any, solver: str, memory: int, dtype: Any, one: int, other: int
):
    x, found = data(dtype), []
    for exponent in (one, other):
        fitted = model(solver=solver, max_memory=memory or 1)
        if not memory:
            with pytest.warns(UserWarning, match="max_memory"):
                w = plain(fitted.fit_transform(kind(np.ldexp(x, exponent))))
        else:
            w = plain(fitted.fit_transform(kind(np.ldexp(x, exponent))))
        h = fitted.components_
        assert w.dtype == h.dtype == dtype
        assert np.isfinite(w).all()
        assert np.isfinite(h).all()
        found.append(
            (
                np.ldexp(w, -exponent // 2),
                np.ldexp(h, -exponent // 2),
                math.ldexp(fitted.reconstruction_err_, -exponent),
            )
        )
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    w, h, error = found[0]
    # good to the digits that a difference of sums has in this type
    assert error == pytest.approx(np.linalg.norm(x - w @ h), rel=1e-3)
    assert error < 0.9 * np.linalg.norm(x)


@pytest.mark.parametrize("solver", ["hals", "sgd"])
@pytest.mark.parametrize(
    ("dtype", "exponent"), [(np.float32, 100), (np.float32, -100), (np.float64, -900)]
)
def test_the_rest_of_the_interface_knows_the_scale(solver: str, dtype: Any, exponent: int):
    x = np.ldexp(data(dtype), exponent)
    fitted = model(solver=solver, max_iter=400, tol=1e-9)
    w = fitted.fit_transform(x)
    unit = np.ldexp(1.0, exponent // 2)
    again = fitted.transform(x)
    np.testing.assert_allclose(again / unit, w / unit, atol=0.05)
    left = np.linalg.norm(np.ldexp(w @ fitted.components_, -exponent) - data())
    assert left == pytest.approx(math.ldexp(fitted.reconstruction_err_, -exponent), rel=1e-3)
    parts = model(solver=solver)
    for turn in range(40):
        batch = slice(0, 20) if turn % 2 else slice(20, 40)
        parts.partial_fit(x[batch], batch_id=turn % 2)
    error = math.ldexp(parts.reconstruction_err_, -exponent)
    assert error < 1.5 * left
    assert np.isfinite(parts.components_).all()


@pytest.mark.parametrize("exponent", [-800, 400])
def test_penalties_and_starts_are_of_the_data_as_they_are(exponent: int):
    """alpha (X 2^e) is a penalty of 2^e times what it is of X, and custom starts scale as W H."""
    x, rng = data(), np.random.default_rng(1)
    w, h = rng.random((40, 3)), rng.random((3, 15))
    half = exponent // 2
    one = model(init="custom", alpha_W=1e-3, l1_ratio=0.0)
    other = model(init="custom", alpha_W=math.ldexp(1e-3, exponent), l1_ratio=0.0)
    usual = one.fit_transform(x, W=w, H=h)
    scaled = other.fit_transform(np.ldexp(x, exponent), W=np.ldexp(w, half), H=np.ldexp(h, half))
    np.testing.assert_allclose(np.ldexp(scaled, -half), usual, rtol=1e-9)
    np.testing.assert_allclose(np.ldexp(other.components_, -half), one.components_, rtol=1e-9)
    without = model(init="custom").fit_transform(x, W=w, H=h)
    assert abs(without - usual).max() > 1e-3  # the penalty does something


@pytest.mark.parametrize("size", [1e200, 1e300])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("solver", ["hals", "sgd"])
def test_data_whose_squares_are_no_numbers_are_refused(size: float, kind: Any, solver: str):
    with pytest.raises(InvalidArgument, match=r"square is a number.*pass X \* 2.0\*\*-"):
        model(solver=solver).fit(kind(data() * size))


@pytest.mark.parametrize("size", [5e-324, 1e-323, 1e-310])
def test_the_smallest_numbers_there_are(size: float):
    x = np.round(8 * data()) * size
    fitted = model().fit(x)
    w = fitted.transform(x)
    assert np.isfinite(w).all()
    assert w.max() > 0
    assert abs(w @ fitted.components_ - x).max() <= 5 * size
    assert 0 < fitted.reconstruction_err_ < 1e3 * size


@pytest.mark.parametrize("solver", ["hals", "sgd"])
@pytest.mark.parametrize("memory", [1 << 30, 1], ids=["exact", "decaying"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:the statistics of", "ignore:.*encountered:RuntimeWarning")
def test_a_mapped_file_that_changes_while_it_is_read_is_named(
    solver: str, memory: int, value: float, tmp_path: Path
):
    path = tmp_path / "x.npy"
    np.save(path, data())
    x = np.load(path, mmap_mode="r+")

    class Changing(StochasticNMF):
        def _after_step(self, codes: Any, parts: Any) -> None:
            if self._solver.steps == 5:
                x[20, 3] = value

    fitted = Changing(3, random_state=0, solver=solver, batch_size=16, max_memory=memory)
    with pytest.raises(InvalidArgument, match=r"finite while it is read.*in batch 8"):
        fitted.fit(x)
    assert np.isfinite(fitted.components_).all()
    assert fitted.n_steps_ == 7


@pytest.mark.parametrize("solver", ["hals", "sgd"])
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_a_batch_of_another_magnitude_is_refused_and_changes_nothing(solver: str):
    x = data(np.float32)
    fitted, twin = model(solver=solver), model(solver=solver)
    for one in (fitted, twin):
        one.partial_fit(x, batch_id=0)
    with pytest.raises(InvalidArgument, match="of one order of magnitude"):
        fitted.partial_fit(x * np.float32(1e36), batch_id=0)
    for one in (fitted, twin):
        one.partial_fit(x[::-1], batch_id=0)
    np.testing.assert_array_equal(fitted.components_, twin.components_)
    assert fitted.reconstruction_err_ == twin.reconstruction_err_


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_codes_that_are_no_numbers_of_the_type_are_refused():
    fitted = model().fit(data(np.float32))
    fitted.components_ = fitted.components_ * np.float32(1e-20)
    with pytest.raises(InvalidArgument, match="pass float64"):
        fitted.transform(data(np.float32) * np.float32(1e30))
    assert np.isfinite(fitted.transform(data(np.float64) * 1e30)).all()


def test_usual_data_are_not_copied():
    x = data()
    for size in (1e-70, 1.0, 1e70):
        own = scale.of_data(x * size)
        assert own == scale.Scale()
        assert scale.times(x, -own.data) is x


@pytest.mark.parametrize("size", [1e-200, 1e30])
def test_the_command_takes_them(size: float, tmp_path: Path):
    np.save(tmp_path / "x.npy", data(np.float64 if size < 1 else np.float32) * size)
    found = fit_file(tmp_path / "x.npy", tmp_path / "out", 3)
    assert "nan" not in found.summary
    share = float(found.summary.split("|X - W H| / |X| = ")[1].split()[0])
    assert 0 < share < 0.5
