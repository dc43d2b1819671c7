"""The certified eigenvalue: never below the true one, and not far above it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.nmf.problems import SHAPES, Stack, stack, steps

from ratewise.nmf import stability
from ratewise.nmf.eigenvalue import check_gram
from ratewise.nmf.stability import largest_eigenvalue

pytestmark = pytest.mark.numerics


def grams(kind: str, k: int, problems: int = 60) -> np.ndarray:
    """Return H H^T of random H [problems, k, 60]."""
    rng = np.random.default_rng(k)
    h = rng.random((problems, k, 60))
    if kind == "heavy-tailed":
        h = rng.exponential(size=h.shape) ** 2
    elif kind.startswith("sparse"):
        h = h * (rng.random(h.shape) < float(kind[6:]))
    elif kind == "scaled":
        h = h * 10.0 ** rng.uniform(-3, 3, (problems, k, 1))
    elif kind == "blocks":  # components of three groups that never meet
        h = h * (np.arange(60) * 3 // 60 == np.arange(k)[:, None] % 3)
    return h @ h.swapaxes(-1, -2)


def true(gram: Any) -> np.ndarray:
    return np.linalg.eigvalsh(np.asarray(gram, dtype=np.float64))[..., -1]


def rounding(gram: Any) -> float:
    """Return how far two correct answers of a k x k matrix in float64 are apart: eight k eps.

    LAPACK's eigenvalue is off by a small multiple of k eps, and so is a sum of k terms.
    """
    return 8 * gram.shape[-1] * float(np.finfo(np.float64).eps)


DENSE = ["dense", "scaled", "blocks"]
SPARSE = ["sparse0.3", "sparse0.1", "sparse0.03", "sparse0.01", "heavy-tailed"]


@pytest.mark.parametrize("k", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("kind", DENSE + SPARSE)
def test_never_below_and_after_five_iterations_hardly_above(kind: str, k: int) -> None:
    gram = grams(kind, k)
    for dtype, slack in ((np.float64, rounding(gram)), (np.float32, 0.0)):
        given = gram.astype(dtype)
        exact = true(given)  # of the rounded matrix: that is what the certificate is for
        bound, x = largest_eigenvalue(given)
        assert bound.dtype == x.dtype == dtype
        assert (bound >= exact * (1 - slack)).all()
        assert (bound <= exact * (1.001 if kind in DENSE else 1.06)).all()
        assert (x > 0).all()


@pytest.mark.parametrize("iterations", [1, 2, 20, 300])
@pytest.mark.parametrize("kind", DENSE + SPARSE)
def test_it_is_an_upper_bound_after_any_number_of_iterations(kind: str, iterations: int) -> None:
    gram = grams(kind, 10)
    bound, _ = largest_eigenvalue(gram, iterations=iterations)
    exact = true(gram)
    assert (bound >= exact * (1 - rounding(gram))).all()
    if iterations == 300:
        assert (bound <= exact * (1 + 1e-3)).all()


@pytest.mark.parametrize("kind", DENSE + SPARSE)
def test_it_is_an_upper_bound_from_any_start(kind: str) -> None:
    gram = grams(kind, 10)
    rng = np.random.default_rng(0)
    for start in (rng.random((60, 10)), np.eye(10)[rng.integers(0, 10, 60)], np.zeros((60, 10))):
        bound, _ = largest_eigenvalue(gram, start, iterations=1)
        assert (bound >= true(gram) * (1 - rounding(gram))).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_warm_starts_over_a_run_keep_it_within_a_hundredth(kind: str) -> None:
    first = stack(kind).balanced()
    warm: dict[str, Any] = {}
    for time, step in enumerate(steps(first, 1.0, 40, keep=Stack.balanced)):
        gram = step.before.gram(step.block)
        bound, warm[step.block] = largest_eigenvalue(gram, warm.get(step.block))
        exact = torch.linalg.eigvalsh(gram)[..., -1]
        assert (bound >= exact * (1 - rounding(gram))).all()
        # a start ten times too large loses entries by the dozen at first
        late = 1.01 if kind == "sparse" else 1.0005
        assert (bound <= exact * (late if time >= 20 else 1.095)).all()


@pytest.mark.parametrize("density", [0.3, 0.1, 0.03, 0.01])
def test_a_warm_start_is_what_very_sparse_problems_need(density: float) -> None:
    rng = np.random.default_rng(0)
    h = rng.exponential(size=(20, 20, 200)) * (rng.random((20, 20, 200)) < density)
    bound, x = largest_eigenvalue(h @ h.swapaxes(-1, -2))
    for _ in range(40):  # the problem moves a little each step
        h = h * (1 + 1e-3 * rng.standard_normal(h.shape))
        gram = h @ h.swapaxes(-1, -2)
        bound, x = largest_eigenvalue(gram, x)
    assert (bound >= true(gram) * (1 - rounding(gram))).all()
    assert (bound <= true(gram) * 1.01).all()


def test_it_is_never_above_the_frobenius_norm() -> None:
    gram = grams("sparse0.1", 10)
    bound, _ = largest_eigenvalue(gram, np.eye(10)[np.zeros(60, int)], iterations=1)
    assert (bound <= np.linalg.norm(gram, axis=(-2, -1)) * (1 + 1e-13)).all()


def test_the_rayleigh_quotient_is_no_bound() -> None:
    gram = grams("dense", 5)
    x = np.ones((60, 5, 1))
    rayleigh = (x.swapaxes(-1, -2) @ gram @ x)[:, 0, 0] / 5
    assert (rayleigh < true(gram)).all()


def test_zero_rows_and_zero_matrices() -> None:
    gram = np.diag([4.0, 0.0, 1.0])
    bound, x = largest_eigenvalue(gram)
    assert 4.0 <= bound <= 4.01
    assert (x > 0).all()
    bound, x = largest_eigenvalue(np.zeros((2, 3, 3)))
    assert (bound == 0).all()
    assert (x > 0).all()
    assert np.isinf(stability.block_bound(np.zeros((3, 3))))


@pytest.mark.parametrize("size", [1e-323, 1e-310, 1e-160, 1e-45, 1e160, 1e300])
def test_it_neither_underflows_nor_overflows(size: float) -> None:
    with np.errstate(all="raise", under="ignore"):
        bound, _ = largest_eigenvalue(np.full((2, 2), size))
        limit = stability.block_bound(np.full((2, 2), size))
        limits = stability.component_bound(np.full((2, 2), size))
    assert 2 * size <= bound <= 2.01 * size
    assert 0 < limit < np.inf
    assert (limits > 0).all()
    assert np.isfinite(limits).all()
    if size > 1e-300:
        np.testing.assert_allclose(limit * size, 1.0, rtol=1e-9)


def test_arrays_tensors_and_stacks_agree() -> None:
    gram = grams("dense", 6)
    bound, x = largest_eigenvalue(gram)
    alone = [largest_eigenvalue(g) for g in gram]
    np.testing.assert_allclose(bound, [b for b, _ in alone], rtol=1e-13)
    nested, _ = largest_eigenvalue(gram.reshape(5, 12, 6, 6))
    np.testing.assert_allclose(nested.ravel(), bound, rtol=1e-13)
    tensor, y = largest_eigenvalue(torch.from_numpy(gram))
    np.testing.assert_allclose(tensor.numpy(), bound, rtol=1e-13)
    np.testing.assert_allclose(y.numpy(), x, rtol=1e-12)
    assert isinstance(tensor, torch.Tensor)
    assert np.ndim(alone[0][0]) == 0


def test_a_run_in_float32_rises_by_no_more_than_rounding() -> None:
    first = stack("dense", dtype=torch.float32).balanced()
    last = first.loss()
    for step in steps(first, 1.9, 60):
        assert step.eta.dtype == torch.float32
        now = step.after.loss()
        assert (now <= last * (1 + 1e-5)).all()
        last = now
    assert (last < 0.6 * first.loss()).all()


def test_a_matrix_that_differs_from_its_transpose_by_rounding_is_bounded_either_way(
    monkeypatch: pytest.MonkeyPatch,
):
    """The quadratic form, and so the loss, depends on the symmetric part alone."""
    apart = 1e-9
    found = {}
    for name, lower in (("below", 0.0), ("above", apart)):
        gram = np.array([[1.0, 0.5 + apart - lower], [0.5 + lower, 1.0]])
        true = float(np.linalg.eigvalsh((gram + gram.T) / 2)[-1])
        for kind in (np.asarray, torch.from_numpy):
            bound = float(stability.largest_eigenvalue(kind(gram), iterations=60)[0])
            assert true <= bound <= true * (1 + 1e-4)
            found[name, kind] = bound
            each = np.asarray(stability.component_bound(kind(gram)))
            assert (2.0 / each >= 1.5 + apart / 2).all()
    assert len(set(found.values())) <= 2, "which half differs does not matter"
    monkeypatch.setattr("ratewise.nmf.stability.check_gram", lambda gram: (np, gram))
    each = stability.component_bound(np.array([[1.0, 0.5], [0.5 + apart, 1.0]]))
    assert (2.0 / each < 1.5 + apart / 2).any(), "rows alone would do"


def test_a_symmetric_matrix_stays_as_it_is():
    for gram in (
        np.full((2, 2), 5e-324),
        np.full((2, 2), 1e308),
        np.array([[2.0, 1.0], [1.0, 3.0]]),
    ):
        assert (check_gram(gram)[1] == gram).all()
