"""Gradient steps inside the bound: what they promise of the loss, and that more is too much."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from tests.nmf.problems import SHAPES, stack
from tests.nmf.test_estimator import data, model

from ratewise.nmf import sgd
from ratewise.nmf.solver import Solver
from ratewise.nmf.stability import component_bound

pytestmark = pytest.mark.numerics


def loss_of(x: torch.Tensor, gram: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The loss of the codes x, [k, b], up to a constant."""
    return (gram * (x @ x.T)).sum() / 2 - (target * x).sum()


@pytest.mark.parametrize("kind", SHAPES)
def test_accelerated_steps_on_codes_end_no_higher_than_they_began(kind: str, monkeypatch):
    problems = stack(kind)
    rose = 0
    for v, w, h in zip(problems.v, problems.w, problems.h, strict=True):
        gram, target = h @ h.T, h @ v.T
        before = loss_of(w.T, gram, target)
        for times in (1, 3, 4, 7, 32):
            found = sgd.code_steps(w.T, gram, target, times)
            assert loss_of(found, gram, target) <= before + 1e-12 * abs(before)
        with monkeypatch.context() as patched:
            patched.setattr(sgd, "gains", lambda gram: 3.0 * component_bound(gram)[:, None])
            near = 1.1 * found
            far = sgd.code_steps(near, gram, target, 4)
            rose += bool(loss_of(far, gram, target) > loss_of(near, gram, target))
    assert rose > 0, "nothing could raise it here"


def changes(monkeypatch: pytest.MonkeyPatch, c: float, ids: bool, **settings: Any) -> np.ndarray:
    """The relative changes of the loss of what is remembered by each step of the components."""
    found: list[float] = []
    stepped = Solver._stepped

    def watched(self: Any, schedule: Any, batch: Any, total: Any, gram: Any) -> Any:
        parts = stepped(self, schedule, batch, total, gram)
        before = self._penalty.loss(total, gram, self.parts)
        found.append(self._penalty.loss(total, parts @ parts.T, parts) / before - 1.0)
        return parts

    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched.setattr(Solver, "_stepped", watched)
        patched.setattr("ratewise.nmf.solver.clipped", lambda said: c)
        memory = 1 << 30 if ids else 0
        model(solver="sgd", schedule="bound", max_memory=memory, **settings).fit(data())
    return np.array(found)


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("penalty", [{}, {"alpha_W": 0.02, "l1_ratio": 0.5}])
@pytest.mark.parametrize("forget", [0.0, 0.7])
def test_a_step_of_the_components_lowers_the_loss_of_what_is_remembered(
    monkeypatch: pytest.MonkeyPatch, ids: bool, penalty: dict[str, float], forget: float
):
    for init in ("random", "nndsvd"):
        how: dict[str, Any] = {"init": init, "forget_factor": forget, "batch_size": 5, **penalty}
        for c in (0.5, 1.0, 1.99):
            assert (changes(monkeypatch, c, ids, max_iter=10, **how) <= 1e-12).all()
        with np.errstate(all="ignore"):
            assert (changes(monkeypatch, 4.0, ids, max_iter=2, **how) > 1e-3).any()


def test_gains_do_not_know_a_components_scale():
    h = np.random.default_rng(0).random((4, 9))
    scale = np.array([1e-6, 1.0, 1e3, 1e8])
    ours = sgd.gains((h * scale[:, None]) @ (h * scale[:, None]).T)
    np.testing.assert_allclose(ours[:, 0] * scale**2, sgd.gains(h @ h.T)[:, 0], rtol=1e-9)


def test_the_curvature_is_above_that_of_the_sums_and_of_batches_seen_lately():
    rng = np.random.default_rng(0)
    curvature = sgd.Curvature()
    grams = [a @ a.T for a in rng.random((30, 3, 6)) * (rng.random((30, 3, 1)) < 0.5)]
    mean = grams[0]
    for i, gram in enumerate(grams):
        weight = max(0.1, 1 / (i + 1))
        mean = (1 - weight) * mean + weight * gram
        total = rng.random() * grams[0]
        found = curvature.bound(gram, total)
        np.testing.assert_allclose(found, np.maximum(mean, total))
        assert (sgd.gains(found) <= sgd.gains(total) * (1 + 1e-9))[np.diag(total) > 0].all()
