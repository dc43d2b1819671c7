"""StochasticNMF as scikit-learn and its users expect it: the contract, results, types, kinds."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from ratewise.nmf import StochasticNMF

SOLVERS = ("hals", "sgd")
DIGITS = load_digits().data


def data(n: int = 90, m: int = 12, k: int = 3, seed: int = 0) -> np.ndarray:
    """A sparse matrix that k components nearly make, as an array."""
    rng = np.random.default_rng(seed)
    parts = rng.random((k, m)) * (rng.random((k, m)) < 0.6)
    codes = rng.random((n, k)) * (rng.random((n, k)) < 0.6)
    return (codes @ parts + 0.1 * rng.random((n, m))) * (rng.random((n, m)) < 0.7)


def model(k: int = 3, **settings: Any) -> StochasticNMF:
    chosen = {"random_state": 0, "batch_size": 20, "max_iter": 30, "tol": 0.0, **settings}
    return StochasticNMF(k, **chosen)


def objective(x: Any, w: Any, h: Any, alpha_w: float, alpha_h: float, ratio: float) -> float:
    """scikit-learn's, from its documentation."""
    n, m = x.shape
    loss = 0.5 * np.square(x - w @ h).sum()
    for alpha, size, factor in ((alpha_w, m, w), (alpha_h, n, h)):
        squares = 0.5 * np.square(factor).sum()
        loss += alpha * size * (ratio * abs(factor).sum() + (1 - ratio) * squares)
    return float(loss)


@parametrize_with_checks([StochasticNMF(solver=solver) for solver in SOLVERS])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_without_an_exemption(estimator: Any, check: Any):
    check(estimator)


@pytest.mark.parametrize("solver", SOLVERS)
def test_digits_are_as_close_as_scikit_learns(solver: str):
    theirs = NMF(16, init="nndsvda", random_state=0, max_iter=2000, tol=1e-5).fit(DIGITS)
    ours = StochasticNMF(16, solver=solver, tol=1e-5, max_iter=400, random_state=0).fit(DIGITS)
    assert ours.reconstruction_err_ < 1.01 * theirs.reconstruction_err_
    start = StochasticNMF(16, solver=solver, max_iter=1, tol=0, random_state=0).fit(DIGITS)
    assert start.reconstruction_err_ > 1.1 * theirs.reconstruction_err_, "one pass would do"


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_reported_is_what_was_made(solver: str):
    x = data()
    found = model(solver=solver)
    w = found.fit_transform(x)
    assert (w.shape, found.components_.shape) == ((90, 3), (3, 12))
    assert w.min() >= 0
    assert found.components_.min() >= 0
    error = np.linalg.norm(x - w @ found.components_)
    assert found.reconstruction_err_ == pytest.approx(error, rel=1e-9)
    assert found.loss_history_[-1] == pytest.approx(error**2 / 2, rel=1e-9)
    assert (found.n_iter_, len(found.loss_history_), found.n_steps_) == (30, 30, 30 * 5)
    assert (found.n_components_, found.n_features_in_, found.interrupted_) == (3, 12, False)
    assert len(found.rate_history_) == (150 if solver == "sgd" else 0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_loss_never_rises_from_pass_to_pass(solver: str):
    """Of SGD at nineteen tenths of 1 / L."""
    settings = {"solver": solver, "schedule": "constant", "rate": 1.9, "max_iter": 60}
    for penalty in ({}, {"alpha_W": 0.01, "l1_ratio": 0.5}):
        losses = model(**settings, **penalty).fit(data()).loss_history_
        assert (np.diff(losses) <= 1e-12 * losses[0]).all()
        assert losses[-1] < 0.95 * losses[0]
    decaying = model(max_memory=0, forget_factor=0.0, **{**settings, "batch_size": 5})
    with pytest.warns(UserWarning, match="max_memory"):
        losses = decaying.fit(data()).loss_history_
    assert (np.diff(losses) > 1e-12 * losses[0]).any(), "nothing could raise it here"


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csr_array, sp.csc_matrix])
def test_a_sparse_matrix_is_factorised_like_its_array(solver: str, kind: Any):
    x = data()
    dense, sparse = model(solver=solver), model(solver=solver)
    w = dense.fit_transform(x)
    np.testing.assert_allclose(sparse.fit_transform(kind(x)), w, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(sparse.components_, dense.components_, rtol=1e-6, atol=1e-8)
    assert sparse.reconstruction_err_ == pytest.approx(dense.reconstruction_err_, rel=1e-9)
    np.testing.assert_allclose(sparse.transform(kind(x)), dense.transform(x), atol=1e-6)


def test_an_entry_that_is_stored_twice_counts_as_its_sum():
    x = data(30)
    coo = sp.coo_matrix(x)
    halves = sp.csr_matrix((30, 12))
    order = np.argsort(coo.row, kind="stable")
    halves.data = np.repeat(coo.data[order] / 2, 2)
    halves.indices = np.repeat(coo.col[order], 2).astype(np.int32)
    halves.indptr = (2 * sp.csr_matrix(x).indptr).astype(np.int32)
    assert halves.nnz == 2 * coo.nnz
    ours, theirs = model(init="random").fit(halves), model(init="random").fit(x)
    assert ours.reconstruction_err_ == pytest.approx(theirs.reconstruction_err_, rel=1e-9)
    assert halves.nnz == 2 * coo.nnz, "the caller's matrix was changed"


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_float_type_stays(solver: str, dtype: type, sparse: bool):
    x = data().astype(dtype)
    x = sp.csr_matrix(x) if sparse else x
    found = model(solver=solver)
    w = found.fit_transform(x)
    assert {a.dtype for a in (w, found.components_, found.transform(x))} == {np.dtype(dtype)}
    assert found.inverse_transform(w).dtype == dtype
    exact = model(solver=solver).fit(data())
    assert found.reconstruction_err_ == pytest.approx(exact.reconstruction_err_, rel=1e-3)


def test_a_tiny_error_is_not_rounding():
    """In float32 a difference of sums as large as |X|^2 would say 0, or 1e-3 |X|."""
    rng = np.random.default_rng(0)
    x = (rng.random((200, 2)) @ rng.random((2, 30))).astype(np.float32)
    found = StochasticNMF(2, tol=1e-7, max_iter=3000, max_no_improvement=50, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w = found.fit_transform(x)
    error = np.linalg.norm(x.astype(float) - w.astype(float) @ found.components_)
    assert 0 < error < 1e-3 * np.linalg.norm(x)
    assert found.reconstruction_err_ == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("solver", SOLVERS)
def test_tensors_are_factorised_like_arrays(solver: str):
    x = data()
    arrays, tensors = model(solver=solver), model(solver=solver)
    w = arrays.fit_transform(x)
    given = torch.from_numpy(x).requires_grad_()
    w_tensor = tensors.fit_transform(given)
    assert isinstance(w_tensor, torch.Tensor)
    assert not w_tensor.requires_grad
    np.testing.assert_allclose(w_tensor.numpy(), w, rtol=1e-6, atol=1e-9)
    assert isinstance(tensors.components_, np.ndarray)
    np.testing.assert_allclose(tensors.transform(given), arrays.transform(x), atol=1e-9)
    back = tensors.inverse_transform(w_tensor)
    assert isinstance(back, torch.Tensor)
    np.testing.assert_allclose(back, arrays.inverse_transform(w), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_arrays_on_a_named_device_come_back_as_arrays(kind: Any):
    x = data()
    here, there = model(solver="sgd"), model(solver="sgd", device="cpu")
    w = there.fit_transform(kind(x))
    assert isinstance(w, np.ndarray)
    assert isinstance(there._solver.parts, torch.Tensor)
    np.testing.assert_allclose(w, here.fit_transform(x), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("alpha_w", "alpha_h", "ratio"), [(0.01, 0.002, 0.0), (0.002, 0.01, 1.0), (0.005, 0.01, 0.5)]
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_penalties_are_scikit_learns(solver: str, alpha_w: float, alpha_h: float, ratio: float):
    x = data()
    penalty = {"alpha_W": alpha_w, "alpha_H": alpha_h, "l1_ratio": ratio}
    theirs = NMF(3, init="nndsvda", random_state=0, max_iter=9000, tol=1e-7, **penalty)
    ours = model(solver=solver, max_iter=400, **penalty)
    without = model(solver=solver, max_iter=400)
    costs = []
    for one in (theirs, ours, without):
        w = one.fit_transform(x)
        costs.append(objective(x, w, one.components_, alpha_w, alpha_h, ratio))
    assert costs[1] < 1.01 * costs[0]
    assert costs[2] > 1.01 * costs[1], "a fit without the penalty would do as well"
    assert ours.loss_history_[-1] == pytest.approx(costs[1], rel=1e-6)


def test_alpha_h_is_alpha_w_unless_it_is_said():
    x = data()
    same = model(alpha_W=0.01).fit(x).components_
    np.testing.assert_array_equal(same, model(alpha_W=0.01, alpha_H=0.01).fit(x).components_)
    assert abs(same - model(alpha_W=0.01, alpha_H=0.0).fit(x).components_).max() > 1e-3


def test_it_stops_where_tol_says():
    x = data()
    loose, tight = (model(max_iter=3000, tol=tol).fit(x) for tol in (1e-2, 1e-6))
    assert loose.n_iter_ < tight.n_iter_ < 3000
    assert tight.reconstruction_err_ < loose.reconstruction_err_
    falls = -np.diff(loose.loss_history_) / loose.loss_history_[:-1]
    assert (falls[-3:] <= 1e-2).all()
    assert loose.n_iter_ < model(max_iter=3000, tol=1e-2, max_no_improvement=20).fit(x).n_iter_


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_seed_decides(solver: str):
    x = data()
    one, two, other = (model(solver=solver, init="random", random_state=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.fit_transform(x), two.fit_transform(x))
    assert abs(one.components_ - other.fit(x).components_).max() > 1e-6
    again = one.components_.copy()
    np.testing.assert_array_equal(one.fit(x).components_, again)


@pytest.mark.parametrize("solver", SOLVERS)
def test_it_can_be_cloned_and_pickled_and_goes_on(solver: str):
    x = data()
    found = model(solver=solver).fit(x)
    copy = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(copy.transform(x), found.transform(x))
    np.testing.assert_array_equal(copy.rate_history_, found.rate_history_)
    for one in (copy, found):
        one.partial_fit(x[:20])
    np.testing.assert_array_equal(copy.components_, found.components_)
    fresh = clone(found)
    assert fresh.get_params() == found.get_params()
    with pytest.raises(NotFittedError):
        fresh.transform(x)
    assert not hasattr(fresh, "rate_history_")


def test_frames_give_names_and_get_frames_back():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(data(), columns=[f"word {i}" for i in range(12)])
    found = model().set_output(transform="pandas")
    w = found.fit_transform(frame)
    assert list(w.columns) == list(found.get_feature_names_out())
    assert list(w.columns) == ["stochasticnmf0", "stochasticnmf1", "stochasticnmf2"]
    assert list(found.feature_names_in_) == list(frame.columns)
    assert found.transform(frame).shape == (90, 3)
    with pytest.raises(ValueError, match="feature names"):
        found.transform(frame.rename(columns={"word 0": "other"}))


def test_a_progress_bar_is_shown_if_asked_for(monkeypatch: pytest.MonkeyPatch):
    from ratewise.nmf import estimator

    shown = []

    def watched(items: Any, total: int, label: str, *, show: bool) -> Any:
        shown.append((total, label, show))
        return items

    monkeypatch.setattr(estimator, "tracked", watched)
    for verbose in (0, 1):
        model(verbose=verbose).fit(data())
    assert shown == [(30, "passes", False), (30, "passes", True)]
