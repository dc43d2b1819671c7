"""What StochasticNMF refuses, each by name; what it warns of; and edges that are legal."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.nmf.test_estimator import SOLVERS, data, model

from ratewise.errors import InvalidArgument, UnknownName, WrongType
from ratewise.nmf import StochasticNMF, schedules
from ratewise.nmf.checks import InterruptedWarning, OutOfMemory, RankWarning

X = data()


def spoilt(value: float) -> np.ndarray:
    x = X.copy()
    x[7, 3] = value
    return x


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, torch.from_numpy])
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (spoilt(-0.5), "Negative values in data passed to StochasticNMF: X must be >= 0"),
        (spoilt(np.nan), "NaN"),
        (spoilt(np.inf), "infinity"),
        (np.zeros((4, 3)), "X must be with an entry above 0, got 'all zeros'"),
        (np.ones((0, 3)), "0 sample|n, m >= 1"),
        (np.ones((3, 0)), "0 feature|n, m >= 1"),
    ],
)
def test_bad_data_are_named(kind: Any, x: np.ndarray, words: str):
    with pytest.raises(InvalidArgument, match=words):
        model().fit(kind(x))


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.ones(5), InvalidArgument, "Expected 2D array"),
        (np.ones((2, 3, 4)), InvalidArgument, "dim 3"),
        (np.array([["a", "b"]]), InvalidArgument, "could not convert string"),
        (np.ones((3, 3)) * 1j, InvalidArgument, "Complex"),
        (sp.coo_matrix(X), None, ""),
        (torch.ones(3), InvalidArgument, r"X must be \[n, m\]"),
        (torch.ones(3, 3, dtype=torch.int64), InvalidArgument, r"float32 or float64.*X\.float"),
        (torch.ones(3, 3).to_sparse(), InvalidArgument, "a dense tensor"),
    ],
)
def test_what_is_no_matrix_is_named(x: Any, error: Any, words: str):
    if error is None:
        model().fit(x)
        return
    with pytest.raises(error, match=words):
        model(1).fit(x)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"k": 0}, InvalidArgument, "n_components must be None, 'auto' or an integer >= 1, got 0"),
        ({"k": 2.0}, InvalidArgument, "n_components"),
        ({"batch_size": 0}, InvalidArgument, "batch_size must be 'auto' or an integer"),
        ({"init": "svd"}, UnknownName, "unknown init 'svd': did you mean 'nndsvd'"),
        ({"init": "nndsvd", "k": 13}, InvalidArgument, "init"),
        ({"solver": "hal"}, UnknownName, "did you mean 'hals'"),
        ({"schedule": "cosin"}, UnknownName, "did you mean 'cosine'"),
        ({"schedule": 0.1}, WrongType, "a name or an object with rate"),
        ({"schedule": schedules.BoundSchedule}, WrongType, "a name or an object with rate"),
        ({"max_iter": 0}, InvalidArgument, "max_iter must be an integer >= 1"),
        ({"max_iter": True}, InvalidArgument, "max_iter"),
        ({"sweeps": 0}, InvalidArgument, "sweeps"),
        ({"max_no_improvement": 0}, InvalidArgument, "max_no_improvement"),
        ({"total_steps": 0}, InvalidArgument, "total_steps must be None or"),
        ({"transform_max_iter": -1}, InvalidArgument, "transform_max_iter"),
        ({"tol": -1.0}, InvalidArgument, "tol must be a finite number >= 0"),
        ({"tol": float("nan")}, InvalidArgument, "tol"),
        ({"max_memory": -1}, InvalidArgument, "max_memory"),
        ({"alpha_W": -1.0}, InvalidArgument, "alpha_W"),
        ({"alpha_H": "sam"}, InvalidArgument, "alpha_H"),
        ({"l1_ratio": 1.5}, InvalidArgument, r"l1_ratio must be a number in \[0, 1\]"),
        ({"forget_factor": -0.1}, InvalidArgument, "forget_factor"),
        ({"rate": 2.0}, InvalidArgument, r"rate must be a number in \(0, 1.9\], got 2.0"),
        ({"rate": 0.0}, InvalidArgument, "rate"),
        ({"device": "gpu"}, InvalidArgument, "device must be a torch device, got 'gpu'"),
        ({"random_state": "a"}, InvalidArgument, "seed"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], error: Any, words: str):
    for call in ("fit", "partial_fit"):
        with pytest.raises(error, match=words):
            getattr(model(**{"init": "random", **settings}), call)(X)


@pytest.mark.parametrize("x", [X * 1j, sp.csr_matrix(X * 1j), X[0], X[None]])
def test_an_error_does_not_hold_the_data(x: Any):
    with pytest.raises(InvalidArgument) as caught:
        model().fit(x)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_numpys_numbers_are_numbers_and_memory_may_have_no_limit():
    settings = {"tol": np.float32(1e-3), "max_iter": np.int64(5), "max_memory": float("inf")}
    found = model(np.int64(2), solver="sgd", schedule="cosine", total_steps=np.int64(9), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found.fit(X).n_components_ == 2


@pytest.mark.parametrize(
    ("w", "h", "init", "words"),
    [
        (None, None, "custom", r"H must be a matrix \[k, m\]"),
        (None, np.ones((3, 12)), None, "init must be 'custom' where W or H is passed, got None"),
        (np.ones((90, 3)), None, "random", "init must be 'custom'"),
        (None, np.ones((3, 11)), "custom", r"H must be of shape \(3, 12\), got \(3, 11\)"),
        (None, np.ones((4, 12)), "custom", r"H must be \[3, m\], got \(4, 12\)"),
        (np.ones((89, 3)), np.ones((3, 12)), "custom", r"W must be of shape \(90, 3\)"),
        (None, -np.ones((3, 12)), "custom", "H must be >= 0 and finite"),
        (None, 5.0, "custom", r"H must be of shape \(12,\), got \(\)"),
        (None, sp.csr_matrix(X[:3]), "custom", "H must be a dense matrix of numbers, got 'csr_mat"),
        (None, [["a"] * 12] * 3, "custom", "H must be a dense matrix of numbers"),
        ([[1.0], [1.0, 2.0]], np.ones((3, 12)), "custom", "W must be a dense matrix of numbers"),
        (None, np.ones((0, 12)), "custom", r"H must be .*got \(0, 12\)"),
        (np.full((90, 3), np.nan), np.ones((3, 12)), "custom", "W must be >= 0 and finite"),
    ],
)
def test_bad_starts_are_named(w: Any, h: Any, init: Any, words: str):
    with pytest.raises(InvalidArgument, match=words):
        model(init=init).fit(X, W=w, H=h)


def test_a_number_of_numpys_is_compared_with_the_start_too():
    with pytest.raises(InvalidArgument, match=r"H must be \[4, m\], got \(3, 12\)"):
        model(np.int64(4), init="custom").fit(X, H=np.ones((3, 12)))


def test_a_tensor_has_no_names_of_features():
    found = model().fit(X)
    found.feature_names_in_ = np.array(list("abcdefghijkl"), dtype=object)
    assert not hasattr(found.fit(torch.from_numpy(X)), "feature_names_in_")


def test_another_number_of_features_is_named():
    found = model().fit(X)
    for x in (X[:, :5], sp.csr_matrix(X[:, :5])):
        with pytest.raises(InvalidArgument, match="has 5 features, but StochasticNMF is expecting"):
            found.transform(x)
    with pytest.raises(InvalidArgument, match="of 12 features, as StochasticNMF is expecting"):
        found.transform(torch.from_numpy(X[:, :5].copy()))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, torch.from_numpy])
@pytest.mark.parametrize(("rank", "shape"), [(2, (90, 12)), (4, (4, 12)), (5, (90, 5))])
def test_more_components_than_the_rank_warn(kind: Any, rank: int, shape: tuple[int, int]):
    rng = np.random.default_rng(0)
    x = rng.random((shape[0], rank)) @ rng.random((rank, shape[1]))
    for dtype in (np.float64, np.float32):
        many, enough = (model(k, init="random", max_iter=2) for k in (rank + 1, rank))
        words = f"n_components={rank + 1} is more than the rank of X, {rank}"
        with pytest.warns(RankWarning, match=words):
            w = many.fit_transform(kind(x.astype(dtype)))
        assert np.isfinite(np.asarray(w)).all()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            enough.fit(kind(x.astype(dtype)))


def test_a_rank_is_found_though_the_first_batches_have_less_of_it():
    x = np.ones((90, 12))
    x[85:] = X[85:]  # in the last batch
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(4, init="random").fit(x)


def test_passes_that_did_not_do_warn_where_it_is_asked_for():
    with pytest.warns(UserWarning, match="max_iter=2 passes were made and the loss still falls"):
        model(tol=1e-9, max_iter=2).fit(X)


@pytest.mark.parametrize("call", ["fit", "transform"])
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_no_memory_is_named(call: str, error: Exception, monkeypatch: pytest.MonkeyPatch):
    found = model().fit(X)

    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("ratewise.nmf.hals.sweep", full)
    with pytest.raises(OutOfMemory, match=r"3 components of 90 x 12 data .* smaller n_components"):
        getattr(found, call)(X)


def test_no_memory_for_floats_is_named(monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("ratewise.nmf.checks.validate_data", full)
    with pytest.raises(OutOfMemory, match="float32 or float64"):
        model().fit(X)


def test_factors_larger_than_the_machine_are_refused_before_they_are_begun(
    monkeypatch: pytest.MonkeyPatch,
):
    wide = sp.csr_matrix(([1.0, 2.0], [0, 2**38], [0, 1, 2]), shape=(2, 2**40))
    found = model(2, init="random")
    monkeypatch.setattr("ratewise.nmf.start.factors", lambda *_: pytest.fail("they were begun"))
    for call in (found.fit, found.partial_fit):
        with pytest.raises(OutOfMemory, match=r"2 components of 2 x 1099511627776 data"):
            call(wide)


def test_other_errors_of_torch_are_not_called_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("ratewise.nmf.hals.sweep", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit") as caught:
        model().fit(X)
    assert not isinstance(caught.value, OutOfMemory)


class Interrupted(StochasticNMF):
    """Ctrl-C after so many batches."""

    after = 0

    def _after_step(self, codes: Any, parts: Any) -> None:
        self.seen = SimpleNamespace(codes=[c is not None for c in codes], parts=parts.copy())
        if self._solver.steps == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("after", [2, 13])
@pytest.mark.parametrize("max_memory", [0, 1 << 30])
@pytest.mark.filterwarnings("ignore:.*max_memory")
def test_ctrl_c_leaves_what_the_last_batch_found(solver: str, after: int, max_memory: int):
    found = Interrupted(**model(solver=solver, max_memory=max_memory).get_params())
    found.after = after
    passes = after // 5 + 1
    with (
        pytest.warns(InterruptedWarning, match=f"in pass {passes}: .* those of batch {after}"),
        pytest.raises(KeyboardInterrupt),
    ):
        found.fit(X)
    np.testing.assert_array_equal(found.components_, found.seen.parts)
    assert found.interrupted_
    assert (found.n_iter_, found.n_steps_) == (after // 5, after)
    assert len(found.rate_history_) == (after if solver == "sgd" else 0)
    codes = found.transform(X)
    assert np.isfinite(codes).all()
    assert np.linalg.norm(X - found.inverse_transform(codes)) < 0.5 * np.linalg.norm(X)
    rows = found._solver.statistics.total.rows
    found.partial_fit(X[:20], batch_id=0)  # another batch than fit's own
    if max_memory:
        assert found._solver.statistics.total.rows == rows + 20
    found.after = 0
    assert not found.fit(X).interrupted_


def test_an_error_is_no_interruption():
    class Broken:
        def rate(self, observation: Any) -> float:
            return 1.0 if observation.step < 7 else float("nan")

    found = model(solver="sgd", schedule=Broken())
    with pytest.raises(InvalidArgument, match=r"rate\(observation\)"):
        found.fit(X)
    assert not found.interrupted_
    assert (found.n_iter_, found.n_steps_) == (1, 7)


def test_ctrl_c_in_the_first_partial_fit_leaves_an_estimator_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
):
    found = model()
    with monkeypatch.context() as patched:

        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("ratewise.nmf.hals.sweep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            found.partial_fit(X[:20])
    with pytest.raises(ValueError, match="not fitted"):
        found.transform(X)
    found.partial_fit(X[:20])
    np.testing.assert_array_equal(found.components_, model().partial_fit(X[:20]).components_)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("x", "k"),
    [
        (X[:3], 2),  # fewer rows than a batch
        (X, 1),
        (X[:, :1].copy() + 1, 1),
        (np.array([[2.0]]), 1),
        (X[:1] + 1, 1),
        (np.asfortranarray(X), 3),
        ((10 * X).astype(int), 3),
        ((10 * X).astype(np.uint8), 3),
        ((X > 0.5), 3),
        (X[::2, ::2], 3),
        (X * 1e150, 3),
        (X * 1e-150, 3),
        ((X * 1e15).astype(np.float32), 3),
        ((X * 1e-15).astype(np.float32), 3),
    ],
)
def test_edges_are_legal(solver: str, x: np.ndarray, k: int):
    found = model(k, solver=solver, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w = found.fit_transform(x)
    assert np.isfinite(w).all()
    assert np.isfinite(found.components_).all()
    top = x.astype(float).max()
    error = np.linalg.norm(x / top - w.astype(float) @ found.components_ / top)
    assert error < 0.7 * np.linalg.norm(x / top)
    np.testing.assert_allclose(found.transform(x) / w.max(), w / w.max(), atol=0.2)


def test_read_only_data_are_not_written_to():
    for kind in (np.asarray, sp.csr_matrix):
        x = kind(X.copy())
        stored = x.data if sp.issparse(x) else x
        stored.setflags(write=False)
        for device in (None, "cpu"):
            model(device=device).fit(x).partial_fit(x).transform(x)


def test_the_number_of_components_may_be_left_out():
    for k in (None, "auto"):
        found = StochasticNMF(k, max_iter=5, tol=0, random_state=0).fit(X)
        assert found.components_.shape == (12, 12)
    start = np.random.default_rng(0).random((4, 12))
    found = StochasticNMF(init="custom", max_iter=5, tol=0).fit(X, H=start)
    assert found.n_components_ == 4
