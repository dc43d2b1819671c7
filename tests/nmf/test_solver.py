"""One mini-batch: codes that enter a factorisation fit their rows no worse than codes of 0."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.nmf.test_estimator import SOLVERS, data, model

from ratewise.nmf.solver import Penalty, Solver

pytestmark = pytest.mark.numerics

#: Rows and columns of the ones of a matrix, 39 x 9.
ONES = (
    (0, 4, 9, 10, 12, 14, 17, 27, 30, 30, 31, 31, 31, 32, 37),
    (2, 0, 7, 7, 8, 4, 8, 6, 6, 8, 2, 6, 7, 7, 8),
)
PENALTIES: tuple[dict[str, float], ...] = ({}, {"alpha_W": 0.01, "l1_ratio": 0.5})


def start(seed: int, n: int = 90, m: int = 12, k: int = 3) -> dict[str, np.ndarray]:
    """Factors whose components differ by many orders of magnitude, with zeros in them."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.integers(-8, 9, size=(2, k))
    w = rng.random((n, k)) * (rng.random((n, k)) < 0.6) * scales[0]
    h = rng.random((k, m)) * (rng.random((k, m)) < 0.6) * scales[1][:, None]
    return {"W": w, "H": h}


def entering(x: Any, how: dict[str, Any], given: dict[str, np.ndarray]) -> np.ndarray:
    """Of each batch as its codes enter, the loss with their penalty over that of codes of 0."""
    found: list[float] = []
    fitted = Solver._fitted

    def watched(self: Any, rows: Any, *rest: Any) -> Any:
        codes, sums = fitted(self, rows, *rest)
        w, penalty = np.asarray(codes, float), self._penalty
        dense = np.asarray(rows.dense(0, rows.shape[0]), float)
        loss = np.square(dense - w.T @ np.asarray(self.parts, float)).sum() / 2
        loss += penalty.codes_l1 * w.sum() + penalty.codes_l2 * np.square(w).sum() / 2
        found.append(loss / (np.square(dense).sum() / 2))
        return codes, sums

    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched.setattr(Solver, "_fitted", watched)
        model(max_iter=3, **how).fit(x, **given)
    return np.array(found)


def test_the_first_batches_do_not_spoil_the_codes_of_the_others():
    """They hardly use the second component of this NNDSVD, whose next step is huge."""
    x = np.zeros((39, 9))
    x[ONES] = 1.0
    how = {"solver": "sgd", "init": "nndsvd", "batch_size": 3, "max_iter": 5, "random_state": 32}
    for kind in (np.asarray, sp.csr_matrix, torch.tensor):
        assert model(2, **how).fit(kind(x)).reconstruction_err_ < 0.9 * np.linalg.norm(x)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_codes_enter_no_worse_than_none(solver: str, penalty: dict[str, float], memory: float):
    how = {"solver": solver, "max_memory": memory, "batch_size": 3, "init": "custom", **penalty}
    for seed in range(3):
        given = start(seed)
        for kind, dtype in ((np.asarray, "f8"), (sp.csr_matrix, "f8"), (np.asarray, "f4")):
            x = data().astype(dtype)
            x[0] = 1.0  # no batch of zeros
            x[::3, seed] += 1.0
            ratios = entering(kind(x), how, {name: y.astype(dtype) for name, y in given.items()})
            assert ratios.max() <= 1.0 + 90 * float(np.finfo(dtype).eps) * 12


def test_without_the_check_they_do_not(monkeypatch: pytest.MonkeyPatch):
    how = {"solver": "sgd", "schedule": "bound", "batch_size": 3, "init": "custom"}
    monkeypatch.setattr(Penalty, "fit", lambda *arguments: 0.0)
    assert max(entering(data(), how, start(seed)).max() for seed in range(6)) > 1e3


@pytest.mark.parametrize("solver", SOLVERS)
def test_codes_that_are_passed_later_count_only_where_they_fit(solver: str):
    """`partial_fit` whose W is at another scale than its components have come to."""
    x, given = data(), start(0)
    wild = model(solver=solver, init="custom", schedule="bound")
    tame = model(solver=solver, init="custom", schedule="bound")
    for number in range(4):
        rows = slice(20 * number, 20 * number + 20)
        h = given["H"] if number == 0 else None
        wild.partial_fit(x[rows], batch_id=number, H=h, W=1e12 * given["W"][rows])
        tame.partial_fit(x[rows], batch_id=number, H=h)
        assert wild.reconstruction_err_ <= np.linalg.norm(x[: rows.stop])
    assert wild.reconstruction_err_ < 2.0 * tame.reconstruction_err_


def test_codes_that_fit_are_gone_on_with(monkeypatch: pytest.MonkeyPatch):
    begun = []
    fitted = Solver._fitted

    def watched(self: Any, rows: Any, codes: Any, plain: Any) -> Any:
        begun.append(codes is None)
        return fitted(self, rows, codes, plain)

    monkeypatch.setattr(Solver, "_fitted", watched)
    model(solver="sgd", init="random", max_iter=2).fit(data())
    assert begun == [False] * 10
