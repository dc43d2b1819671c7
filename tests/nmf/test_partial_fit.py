"""Batches one by one: as fit, replaced by id, decaying without, from files, within memory."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.nmf.test_estimator import SOLVERS, data, model
from tests.nmf.test_schedules import Said

from ratewise.errors import InvalidArgument
from ratewise.nmf import StochasticNMF
from ratewise.nmf.checks import OutOfMemory
from ratewise.nmf.solver import Solver

X = data(90)
#: As fit cuts them, with batch_size=20.
BATCHES = [slice(a, min(a + 20, 90)) for a in range(0, 90, 20)]
H = np.random.default_rng(1).random((3, 12))


def looped(
    x: Any, passes: int, ids: bool = True, order: Any = BATCHES, **settings: Any
) -> StochasticNMF:
    found = model(init="custom", **settings)
    for _ in range(passes):
        for i, rows in enumerate(order):
            found.partial_fit(x[rows], batch_id=i if ids else None, H=None if i or _ else H)
    return found


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, torch.from_numpy])
def test_fit_is_looped_partial_fit_with_ids(solver: str, kind: Any):
    x = kind(X)
    whole = model(init="custom", solver=solver, max_iter=7).fit(x, H=H)
    parts = looped(x, 7, solver=solver)
    np.testing.assert_array_equal(parts.components_, whole.components_)
    assert parts.reconstruction_err_ == pytest.approx(whole.reconstruction_err_, rel=1e-6)
    np.testing.assert_array_equal(parts.rate_history_, whole.rate_history_)
    assert parts.n_steps_ == whole.n_steps_ == 35
    for other in (looped(x, 7, ids=False, solver=solver), looped(x, 6, solver=solver)):
        assert abs(other.components_ - whole.components_).max() > 1e-4


def test_a_start_of_the_codes_is_taken_in_both():
    w = np.random.default_rng(2).random((90, 3))
    whole = model(init="custom", max_iter=1).fit(X, W=w, H=H)
    parts = model(init="custom")
    for i, rows in enumerate(BATCHES):
        parts.partial_fit(X[rows], batch_id=i, W=w[rows], H=None if i else H)
    np.testing.assert_array_equal(parts.components_, whole.components_)
    assert abs(looped(X, 1).components_ - whole.components_).max() > 1e-6


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_memory_mapped_file_is_as_good_as_its_array(solver: str, tmp_path: Path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    ours, theirs = model(solver=solver), model(solver=solver)
    np.testing.assert_array_equal(ours.fit_transform(mapped), theirs.fit_transform(X))
    np.testing.assert_array_equal(
        looped(mapped, 3, solver=solver).components_, looped(X, 3, solver=solver).components_
    )
    np.testing.assert_array_equal(ours.transform(mapped), theirs.transform(X))
    on_device = model(solver=solver, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        on_device.fit(mapped)
    np.testing.assert_allclose(on_device.components_, theirs.components_, rtol=1e-6, atol=1e-9)


def test_batches_of_a_mapped_file_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ratewise.nmf import estimator

    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    shared, cut = [], estimator.cut

    def watched(x: Any, *arguments: Any) -> Any:
        shared.append(np.shares_memory(x, mapped))
        return cut(x, *arguments)

    monkeypatch.setattr(estimator, "cut", watched)
    model().fit(mapped)
    model().fit(X)
    assert shared == [True, False]


@pytest.mark.parametrize("init", [None, "random", "nndsvdar"])
@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_a_mapped_file_is_never_loaded(init: str | None, scale: float, tmp_path: Path):
    np.save(tmp_path / "x.npy", scale * np.random.default_rng(0).random((2000, 400)))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    tracemalloc.start()
    try:
        for solver in SOLVERS:
            found = model(solver=solver, init=init, batch_size=100, max_iter=2).fit(mapped)
            found.transform(mapped)
        assert tracemalloc.get_traced_memory()[1] < 0.25 * mapped.nbytes
        np.array(mapped)
        assert tracemalloc.get_traced_memory()[1] > mapped.nbytes, "nothing is counted"
    finally:
        tracemalloc.stop()


def test_a_batch_with_an_id_is_replaced_and_not_added():
    found = looped(X, 2)
    total = found._solver.statistics.total
    assert total.rows == 90
    assert total.square == pytest.approx((X**2).sum())
    error = np.linalg.norm(X - found.transform(X) @ found.components_)
    assert found.reconstruction_err_ == pytest.approx(error, rel=0.05)
    other = 5.0 * X[:20]
    found.partial_fit(other, batch_id=0)
    total = found._solver.statistics.total
    assert total.rows == 90
    assert total.square == pytest.approx((X[20:] ** 2).sum() + (other**2).sum())
    found.partial_fit(other, batch_id="new")
    assert found._solver.statistics.total.rows == 110


def test_without_ids_sums_decay_and_no_error_is_known():
    found = model(forget_factor=0.5)
    for rows in BATCHES[:3]:
        found.partial_fit(X[rows])
    assert found._solver.statistics.total.rows == 20 * (1 + 0.5 + 0.25)
    assert np.isnan(found.reconstruction_err_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_many_passes_without_ids_find_the_components_too(solver: str):
    exact, start = (model(solver=solver, max_iter=passes).fit(X) for passes in (100, 1))
    found = looped(X, 100, ids=False, solver=solver, forget_factor=0.95)
    error = np.linalg.norm(X - found.inverse_transform(found.transform(X)))
    assert error < 1.01 * exact.reconstruction_err_
    assert start.reconstruction_err_ > 1.045 * exact.reconstruction_err_


@pytest.mark.parametrize("solver", SOLVERS)
def test_scales_stay_where_sums_decay(solver: str, monkeypatch: pytest.MonkeyPatch):
    """HALS gives a component that few rows use a huge row and tiny codes, more so each batch."""
    order = [slice(a, a + 5) for a in range(0, 90, 5)]
    settings = {"ids": False, "order": order, "solver": solver, "forget_factor": 0.0}
    found = looped(X, 60, **settings)
    np.testing.assert_allclose(np.linalg.norm(found.components_, axis=1), 1.0)
    if solver == "hals":
        monkeypatch.setattr(Solver, "_at_one_scale", lambda self, codes: codes)
        with np.errstate(all="ignore"):
            drifted = looped(X, 60, **settings).components_
        assert not np.isfinite(drifted).all() or drifted.max() > 1e100


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_scale_is_the_same_factorisation(solver: str, monkeypatch: pytest.MonkeyPatch):
    ours = looped(X, 3, ids=False, solver=solver)
    monkeypatch.setattr(Solver, "_at_one_scale", lambda self, codes: codes)
    plain = looped(X, 3, ids=False, solver=solver).components_
    assert abs(plain - ours.components_).max() > 0.1
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    # SGD's few steps on new codes start from equal parts of the components as they are
    close = 1e-6 if solver == "hals" else 1e-3
    np.testing.assert_allclose(ours.components_, unit, rtol=close, atol=close)


def test_one_scale_is_seen_by_no_schedule(monkeypatch: pytest.MonkeyPatch):
    """The gradient that the last step saw is scaled, too."""
    seen = []
    for scaled in (True, False):
        if not scaled:
            monkeypatch.setattr(Solver, "_at_one_scale", lambda self, codes: codes)
        found = looped(X, 1, ids=False, solver="sgd", schedule=Said(1.0))
        seen.append([(o.loss, o.square, o.inner) for o in found._solver._schedule.seen])
    np.testing.assert_allclose(seen[0], seen[1], rtol=0.01)


def test_forget_factor_is_what_a_pass_of_fit_leaves():
    with pytest.warns(UserWarning, match="max_memory"):
        found = model(max_memory=0, forget_factor=0.5, max_iter=4).fit(X)
    sizes = [20, 20, 20, 20, 10] * 4
    after = np.cumsum([0, *reversed(sizes[1:])])[::-1]  # rows that came after each batch
    expected = (sizes * 0.5 ** (after / 90)).sum()
    assert found._solver.statistics.total.rows == pytest.approx(expected)


def test_codes_of_a_batch_go_on_from_where_they_were():
    """Also after a batch without an id came between."""
    found = looped(X, 1)
    before = found._codes[1]
    found.partial_fit(X[:5])
    assert found._codes[1] is before
    found.partial_fit(X[BATCHES[1]], batch_id=1)
    fresh = looped(X, 1)
    fresh.partial_fit(X[:5])
    fresh._codes.pop(1)
    fresh.partial_fit(X[BATCHES[1]], batch_id=1)
    assert abs(fresh.components_ - found.components_).max() > 1e-9


@pytest.mark.parametrize("solver", SOLVERS)
def test_above_max_memory_sums_decay_with_one_warning(solver: str):
    entry = 3 * (3 + 12) * 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enough = model(solver=solver, max_memory=5 * entry).fit(X)
    found = model(solver=solver, max_memory=5 * entry - 1)
    with pytest.warns(UserWarning, match="max_memory") as caught:
        w = found.fit_transform(X)
    assert len(caught) == 1
    assert "5 batches take 1,800 bytes, more than max_memory=1,799" in str(caught[0].message)
    error = np.linalg.norm(X - w @ found.components_)
    assert found.reconstruction_err_ == pytest.approx(error, rel=1e-9)
    assert error < 1.1 * enough.reconstruction_err_
    assert abs(found.components_ - enough.components_).max() > 1e-6


def test_partial_fit_above_max_memory_warns_once_and_lets_decay():
    with pytest.warns(UserWarning, match="max_memory") as caught:
        found = looped(X, 4, max_memory=3 * 3 * 15 * 8, forget_factor=0.5)
    assert len(caught) == 1
    assert found._solver.statistics.total.rows < 60
    assert found._codes == {}
    assert np.isnan(found.reconstruction_err_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_can_be_gone_on_with(solver: str):
    found = model(solver=solver).fit(X[:80])
    assert found._solver.statistics.total.rows == 80
    found.partial_fit(X[80:], batch_id="more")
    assert found._solver.statistics.total.rows == 90
    assert found.n_steps_ == 30 * 4 + 1
    assert np.isfinite(found.components_).all()


def test_kinds_of_data_may_change_from_call_to_call():
    found = model(init="custom").partial_fit(X[:20], batch_id=0, H=H)
    same = model(init="custom").partial_fit(X[:20], batch_id=0, H=H)
    found.partial_fit(torch.from_numpy(X[20:40]), batch_id=1)
    found.partial_fit(sp.csr_matrix(X[40:60]), batch_id=2)
    found.partial_fit(X[60:].astype(np.float32), batch_id=3)
    for i in (1, 2, 3):
        same.partial_fit(X[20 * i : 20 * i + (20 if i < 3 else 30)], batch_id=i)
    np.testing.assert_allclose(found.components_, same.components_, rtol=1e-5, atol=1e-7)
    tensors = model(init="custom").partial_fit(torch.from_numpy(X[:20]), H=H)
    tensors.partial_fit(X[20:40])
    assert isinstance(tensors._solver.parts, torch.Tensor)


def test_a_batch_of_zeros_is_legal_later_but_not_first():
    zeros = np.zeros((4, 12))
    with pytest.raises(InvalidArgument, match="X must be with an entry above 0"):
        model().partial_fit(zeros)
    for solver in SOLVERS:
        found = model(solver=solver, forget_factor=0.0).partial_fit(X[:20])
        for _ in range(3):
            found.partial_fit(zeros)
        assert np.isfinite(found.components_).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"X": X[:20, :5]}, "has 5 features, but StochasticNMF is expecting 12 features"),
        ({"X": torch.ones(4, 5)}, "of 12 features, as StochasticNMF is expecting, got 5"),
        ({"X": X[:19], "batch_id": 0}, "of 20 rows, as batch_id=0 had, got 19"),
        ({"X": X[:20], "H": H}, "H must be None after the first call"),
        ({"X": X[:20], "W": H}, "W must be of shape"),
        ({"X": -X[:20]}, "Negative values in data"),
        ({"X": X[:0]}, "0 sample"),
    ],
)
def test_a_bad_batch_is_named_and_changes_nothing(arguments: Any, words: str):
    found = looped(X, 1)
    before, steps = found.components_, found.n_steps_
    with pytest.raises(InvalidArgument, match=words):
        found.partial_fit(**arguments)
    assert found.components_ is before
    assert found.n_steps_ == steps
    found.partial_fit(X[:20], batch_id=0)
    assert found.n_steps_ == steps + 1


def test_a_start_needs_init_custom():
    with pytest.raises(InvalidArgument, match="init must be 'custom' where W or H is passed"):
        model().partial_fit(X[:20], H=H)
    with pytest.raises(InvalidArgument, match=r"H must be a matrix \[k, m\], got None"):
        model(init="custom").partial_fit(X[:20])


def test_no_memory_is_named(monkeypatch: pytest.MonkeyPatch):
    found = looped(X, 1)
    before = found.components_

    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("ratewise.nmf.hals.sweep", full)
    with pytest.raises(OutOfMemory, match=r"no memory for 3 components of 20 x 12 data"):
        found.partial_fit(X[:20])
    assert found.components_ is before
