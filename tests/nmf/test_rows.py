"""Batches of rows: the two products, whatever holds the data; and their sizes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from ratewise.nmf import rows as module
from ratewise.nmf.rows import automatic_size, blocks, cut, inner, rows_of, spans

RNG = np.random.default_rng(0)
DENSE = RNG.random((23, 7)) * (RNG.random((23, 7)) < 0.4)

KINDS = {
    "array": lambda x: (x, None),
    "fortran": lambda x: (np.asfortranarray(x), None),
    "csr": lambda x: (sp.csr_matrix(x), None),
    "csr array": lambda x: (sp.csr_array(x), None),
    "tensor": lambda x: (torch.from_numpy(x), "cpu"),
    "csr on a device": lambda x: (sp.csr_matrix(x), "cpu"),
}


def as_given(array: np.ndarray, device: str | None):
    return array if device is None else torch.from_numpy(array)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [5, 23])
def test_products_are_those_of_the_dense_matrix(kind: str, size: int, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 3)  # several pieces even here
    x, device = KINDS[kind](DENSE)
    parts, start = RNG.random((4, 7)), 0
    for batch in cut(x, size, device):
        b = batch.shape[0]
        own, codes = DENSE[start : start + b], RNG.random((4, b))
        project = np.asarray(batch.project(as_given(parts, device)))
        cross = np.asarray(batch.cross(as_given(codes, device)))
        np.testing.assert_allclose(project, parts @ own.T, rtol=1e-12)
        np.testing.assert_allclose(cross, codes @ own, rtol=1e-12)
        np.testing.assert_allclose(np.asarray(batch.dense(1, 3)), own[1:3])
        assert batch.square == pytest.approx((own**2).sum(), rel=1e-12)
        assert batch.shape == own.shape
        start += b
    assert start == 23


def test_batches_share_the_memory_of_the_data():
    for batch in cut(DENSE, 5):
        assert np.shares_memory(batch.dense(0, 5), DENSE)
    matrix = sp.csr_matrix(DENSE)
    for batch in cut(matrix, 5):
        for piece in (batch._x, batch._pieces[0][2], module._turned(batch._x)):
            assert np.shares_memory(piece.data, matrix.data)
            assert np.shares_memory(piece.indices, matrix.indices)
    assert not np.shares_memory(matrix[:5].data, matrix.data), "what SciPy does by itself"


@pytest.mark.parametrize("kind", ["array", "csr"])
def test_torch_says_nothing_of_read_only_data_or_of_its_sparse_matrices(kind: str):
    x = DENSE.copy()
    x.setflags(write=False)
    if kind == "csr":
        x = sp.csr_matrix(x)
        x.data.setflags(write=False)
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # most come once a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (batch,) = cut(x, 23, "cpu")
            batch.project(torch.ones(2, 7, dtype=torch.float64))
        with pytest.warns(UserWarning, match="not writable"):
            torch.from_numpy(x.data if kind == "csr" else x)
    finally:
        torch.set_warn_always(before)


def test_spans_cover_once():
    assert [i for a, b in spans(10, 4) for i in range(a, b)] == list(range(10))


def test_blocks_are_small_whatever_the_width(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 20)
    assert list(blocks(rows_of(DENSE))) == [(a, min(23, a + 2)) for a in range(0, 23, 2)]


def test_a_sum_of_float32_products_has_the_digits_of_float64():
    x = np.full(10_000_001, 0.1, np.float32)
    exact = float(np.float64(np.float32(0.1)) ** 2) * len(x)
    assert inner(x, x) == pytest.approx(exact, rel=1e-12)
    assert inner(torch.from_numpy(x), torch.from_numpy(x)) == pytest.approx(exact, rel=1e-6)
    assert float((x * x).cumsum()[-1]) != pytest.approx(exact, rel=1e-6), "float32 would do"


@pytest.mark.parametrize("solver", ["hals", "sgd"])
def test_automatic_batches_are_even_and_grow_where_components_cost(solver: str):
    ends = np.arange(0, 200_001, 10)  # ten entries a row
    wide = sp.csr_matrix((np.ones(200_000), ends[:-1].repeat(10) % 5000, ends), (20_000, 5000))
    tall = np.broadcast_to(1.0, (20_000, 500))
    assert automatic_size(wide, 20, solver) > 2 * automatic_size(tall, 20, solver)
    for x in (wide, tall, np.ones((3, 5))):
        size = automatic_size(x, 3, solver)
        count = len(list(spans(x.shape[0], size)))
        assert 1 <= size <= x.shape[0]
        assert x.shape[0] - (count - 1) * size > size - count
