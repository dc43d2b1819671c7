"""The distance of factors from data: all digits of it, from sums or a pass, and NaN where it is."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from ratewise.nmf import distance as module
from ratewise.nmf.distance import distance
from ratewise.nmf.rows import cut
from ratewise.nmf.statistics import Sums

RNG = np.random.default_rng(0)
CODES, PARTS = RNG.random((3, 50)), RNG.random((3, 8))


def sums(codes: np.ndarray, x: np.ndarray) -> Sums:
    return Sums(codes @ codes.T, codes @ x, float((x**2).sum()), 0.0, 50.0)


@pytest.mark.parametrize("off", [1.0, 1e-3, 1e-7, 0.0])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("known", [False, True])
def test_it_is_that_of_the_definition_however_small(off: float, kind: type, known: bool):
    x = CODES.T @ PARTS + off * RNG.random((50, 8))
    exact = ((x - CODES.T @ PARTS) ** 2).sum()
    batches, codes = list(cut(kind(x), 20)), [CODES[:, :20], CODES[:, 20:40], CODES[:, 40:]]
    found = distance(batches, codes, PARTS, sums(CODES, x) if known else None)
    assert found == pytest.approx(exact, rel=1e-6, abs=1e-28)


def test_no_pass_is_made_where_sums_are_known(monkeypatch: pytest.MonkeyPatch):
    x = CODES.T @ PARTS + RNG.random((50, 8))
    monkeypatch.setattr(module, "_residual", None)
    assert distance([], [], PARTS, sums(CODES, x)) > 1.0


def test_that_of_nan_is_nan():
    """max(0.0, nan) is 0.0: a fit that has overflowed would look exact."""
    x = RNG.random((50, 8))
    assert np.isnan(distance(list(cut(x, 50)), [np.nan * CODES], PARTS))
