"""Sweeps: the literal formula, scikit-learn's kernel, descent, and codes that settle row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition._cdnmf_fast import _update_cdnmf_fast

from ratewise.nmf import hals

pytestmark = pytest.mark.numerics


def problem(k: int = 4, n: int = 30, seed: int = 0, dtype: type = np.float64):
    rng = np.random.default_rng(seed)
    other, data = rng.random((k, 50)), rng.random((n, 50))
    arrays = (rng.random((k, n)), other @ other.T, other @ data.T, other, data)
    return tuple(array.astype(dtype) for array in arrays)


def literal(x, gram, target, times):
    """One entry at a time, from the definition."""
    x = x.copy()
    for _ in range(times):
        for j in range(len(x)):
            for i in range(x.shape[1]):
                if gram[j, j] > 0:
                    others = sum(gram[j, h] * x[h, i] for h in range(len(x)) if h != j)
                    x[j, i] = max(0.0, (target[j, i] - others) / gram[j, j])
    return x


def loss(codes, other, data):
    return ((codes.T @ other - data) ** 2).sum() / 2


@pytest.mark.parametrize("times", [1, 3])
def test_a_sweep_is_the_formula_entry_by_entry(times: int):
    x, gram, target, *_ = problem()
    np.testing.assert_allclose(
        hals.sweep(x, gram, target, times), literal(x, gram, target, times), rtol=1e-12
    )


@pytest.mark.parametrize(("dtype", "close"), [(np.float64, 1e-10), (np.float32, 1e-4)])
def test_a_sweep_is_scikit_learns_coordinate_descent(dtype: type, close: float):
    x, gram, target, *_ = problem(dtype=dtype)
    theirs = np.ascontiguousarray(x.T)
    _update_cdnmf_fast(theirs, gram, np.ascontiguousarray(target.T), np.arange(4, dtype=np.intp))
    ours = hals.sweep(x, gram, target, 1)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs.T, rtol=close, atol=close)


def test_torch_sweeps_like_numpy():
    x, gram, target, *_ = problem()
    tensors = (torch.from_numpy(a.copy()) for a in (x, gram, target))
    np.testing.assert_allclose(
        hals.sweep(*tensors, 2).numpy(), hals.sweep(x, gram, target, 2), rtol=1e-12
    )


def test_a_sweep_never_raises_the_loss_and_a_joint_step_of_its_size_does():
    """HALS's 1 / g_jj is for one component after the other.

    Taken for all at once from zeros, below the minimum, it overshoots by as much as the components
    have in common. From a random start, far above it, the overshoot is cut at 0: no test.
    """
    for seed in range(20):
        x, gram, target, other, data = problem(seed=seed)
        zeros = np.zeros_like(x)
        for start in (x, zeros):
            before = loss(start, other, data)
            assert loss(hals.sweep(start, gram, target, 1), other, data) <= before
        jointly = np.maximum(0, zeros - (gram @ zeros - target) / gram.diagonal()[:, None])
        assert loss(jointly, other, data) > 2 * loss(zeros, other, data)


def test_arguments_are_left_alone_unless_in_place():
    x, gram, target, *_ = problem()
    copies = [a.copy() for a in (x, gram, target)]
    result = hals.sweep(x, gram, target, 2)
    for array, copy in zip((x, gram, target), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    own = x.copy()
    np.testing.assert_array_equal(hals.sweep(own, gram, target.copy(), 2, in_place=True), result)
    np.testing.assert_array_equal(own, result)


def test_a_component_that_does_not_count_stays():
    x, gram, target, *_ = problem()
    gram[1] = gram[:, 1] = target[1] = 0.0
    np.testing.assert_array_equal(hals.sweep(x, gram, target, 2)[1], x[1])
    assert np.isfinite(hals.sweep(x, gram, target, 2)).all()


def test_tiny_numbers_give_no_nan():
    x, gram, target, *_ = problem()
    swept = hals.sweep(x, gram * 1e-320, target * 1e-320, 3)
    assert np.isfinite(swept).all() or (swept >= 0).all()


def test_solved_codes_meet_the_conditions_of_the_minimum():
    _, gram, target, *_ = problem(k=5, n=200)
    codes = hals.solve(gram, target, 1e-12, 5000)
    gradient = gram @ codes - target
    assert (codes >= 0).all()
    assert gradient.min() > -1e-8 * abs(target).max()
    assert abs(codes * gradient).max() < 1e-8 * abs(target).max()
    assert (codes == 0).any(), "no constraint was active: nothing was tested"


def test_a_rows_codes_do_not_depend_on_the_other_rows():
    _, gram, target, *_ = problem(n=50)
    together = hals.solve(gram, target, 1e-3, 100)
    alone = np.hstack([hals.solve(gram, target[:, i : i + 1], 1e-3, 100) for i in range(50)])
    np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-14)
    loose = hals.solve(gram, target, 1e-1, 100)
    assert abs(loose - together).max() > 1e-6, "the tolerance decides nothing"


def test_rows_of_zeros_have_codes_of_zeros():
    _, gram, target, *_ = problem()
    target[:, 3] = 0.0
    assert (hals.solve(gram, target, 1e-6, 100)[:, 3] == 0).all()
