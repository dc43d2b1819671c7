"""Codes for fixed components: the least-squares optimum, row by row; and the way back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.optimize import nnls
from tests.nmf.test_estimator import SOLVERS, data, model

from ratewise.errors import InvalidArgument


@pytest.mark.parametrize("solver", SOLVERS)
def test_codes_are_the_non_negative_least_squares_optimum(solver: str):
    x = data()
    found = model(solver=solver, transform_max_iter=5000).fit(x)
    found.set_params(tol=1e-10)
    codes = found.transform(x)
    exact = np.array([nnls(found.components_.T, row)[0] for row in x])
    np.testing.assert_allclose(codes, exact, atol=1e-7)
    assert (exact == 0).mean() > 0.05, "no constraint was active: nothing was tested"


def test_codes_with_a_penalty_are_the_penalised_optimum():
    """|x - w H|^2 + c |w|^2 is least squares with sqrt(c) I below H^T, and no penalty."""
    x = data()
    found = model(alpha_W=0.02, transform_max_iter=5000).fit(x)
    found.set_params(tol=1e-10)
    below = np.sqrt(0.02 * 12) * np.eye(3)
    rows = np.hstack([x, np.zeros((90, 3))])
    exact = [nnls(np.vstack([found.components_.T, below]), row)[0] for row in rows]
    np.testing.assert_allclose(found.transform(x), exact, atol=1e-7)
    assert abs(found.set_params(alpha_W=0.0).transform(x) - exact).max() > 1e-2


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, torch.from_numpy])
def test_codes_do_not_depend_on_the_other_rows(kind: Any):
    x = data()
    found = model().fit(x).set_params(tol=1e-3)
    together = np.asarray(found.transform(kind(x)))
    alone = np.vstack([np.asarray(found.transform(kind(x[i : i + 1]))) for i in range(90)])
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-12)


def test_codes_come_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch):
    from ratewise.nmf import estimator

    x = data()
    found = model().fit(x)
    whole = found.transform(x)
    monkeypatch.setattr(estimator, "_TRANSFORMED", 7)
    np.testing.assert_allclose(found.transform(x), whole, rtol=1e-9, atol=1e-12)


def test_pieces_come_to_the_device_one_by_one(monkeypatch: pytest.MonkeyPatch):
    from ratewise.nmf import estimator, hals, rows

    made, solved, rows_of, solve = [], [], rows.rows_of, hals.solve

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return rows_of(*arguments)

    def noted(*arguments: Any) -> Any:
        solved.append(len(made))
        return solve(*arguments)

    found = model(device="cpu").fit(data())
    monkeypatch.setattr(rows, "rows_of", counted)
    monkeypatch.setattr(hals, "solve", noted)
    monkeypatch.setattr(estimator, "_TRANSFORMED", 30)
    found.transform(data())
    assert solved == [1, 2, 3]


def test_a_limit_of_sweeps_is_kept():
    x = data()
    found = model(tol=1e-8).fit(x)
    many = found.transform(x)
    few = found.set_params(transform_max_iter=1).transform(x)
    assert abs(few - many).max() > 1e-3


def test_a_component_of_zeros_has_codes_of_zeros():
    x = data()
    found = model().fit(x)
    found.components_[1] = 0.0
    codes = found.transform(x)
    assert (codes[:, 1] == 0).all()
    assert (codes[:, [0, 2]] > 0).any()
    found.components_[:] = 0.0
    assert (found.transform(x) == 0).all()


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, torch.from_numpy])
def test_rows_of_zeros_are_legal_and_have_codes_of_zeros(kind: Any):
    x = data()
    x[[3, 50]] = 0.0
    for solver in SOLVERS:
        found = model(solver=solver)
        w = np.asarray(found.fit_transform(kind(x)))
        codes = np.asarray(found.transform(kind(x)))
        assert (codes[[3, 50]] == 0).all()
        assert abs(w[[3, 50]]).max() < 1e-3
        assert np.isfinite(found.components_).all()
        assert (np.asarray(found.transform(kind(0 * x))) == 0).all()


def test_the_way_back_is_the_product():
    x = data()
    found = model()
    w = found.fit_transform(x)
    expected = w @ found.components_
    np.testing.assert_allclose(found.inverse_transform(w), expected)
    np.testing.assert_allclose(found.inverse_transform(sp.csr_matrix(w)), expected)
    np.testing.assert_allclose(found.inverse_transform(w.tolist()), expected)
    whole = np.ones((2, 3), int)
    np.testing.assert_allclose(found.inverse_transform(whole), whole @ found.components_)
    back = found.inverse_transform(torch.from_numpy(whole))
    np.testing.assert_allclose(back, whole @ found.components_)
    for wrong in (w[:, :2], w[0]):
        with pytest.raises(InvalidArgument, match=r"X must be \[n, 3\]"):
            found.inverse_transform(wrong)
