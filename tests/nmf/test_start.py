"""Starts: scikit-learn's as they are, and the same at a scale that its NNDSVD cannot bear."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition._nmf import _initialize_nmf
from tests.nmf.test_estimator import data

from ratewise.errors import InvalidArgument
from ratewise.nmf.start import initial

X = data()


@pytest.mark.parametrize("init", [None, "random", "nndsvd", "nndsvda", "nndsvdar"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_usual_data_start_as_in_scikit_learn(init: str | None, scale: float):
    ours = initial(scale * X, 3, init, 0)
    theirs = _initialize_nmf(scale * X, 3, init=init, random_state=0)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("init", [None, "random", "nndsvd", "nndsvdar"])
@pytest.mark.parametrize(
    ("scale", "dtype"), [(1e-15, np.float32), (1e15, np.float32), (1e-150, float), (1e150, float)]
)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
def test_other_scales_start_at_the_same_factorisation(init, scale, dtype, kind):
    x = (scale * X).astype(dtype)
    w, h = initial(kind(x), 3, init, 0)
    unit = initial(kind(X.astype(dtype) / X.mean(dtype=dtype)), 3, init, 0)
    assert {w.dtype, h.dtype} == {np.dtype(dtype)}
    mean = float(x.mean(dtype=float))
    for ours, theirs in zip((w, h), unit, strict=True):
        np.testing.assert_allclose(ours / np.sqrt(mean), theirs, rtol=1e-3, atol=1e-5)


def test_scikit_learn_alone_cuts_small_data_to_nothing():
    w, h = _initialize_nmf(1e-15 * X, 3, init="nndsvd", random_state=0)
    assert not w.any()
    assert not h.any()


def test_what_it_refuses_is_named():
    with pytest.raises(InvalidArgument, match="init"):
        initial(X, 13, "nndsvd", 0)
    with pytest.raises(InvalidArgument, match="seed"):
        initial(X, 3, None, "seed")
