"""Sparse matrices whose indices go outside are refused before compiled code believes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from tests.child import outcome
from tests.nmf import damaged
from tests.nmf.test_estimator import data, model

from ratewise.errors import CorruptData, InvalidArgument
from ratewise.nmf.sparse_structure import damage

X = data()
#: All of it in one process of its own: one that dies would take the tests with it.
EACH = """
from pathlib import Path
import scipy.sparse as sp
from ratewise.errors import CorruptData, InvalidArgument
from ratewise.nmf import StochasticNMF, fit_file
from tests.nmf import damaged
from tests.nmf.test_estimator import data, model

def refused(what, act, error=InvalidArgument):
    try:
        act()
    except error as raised:
        print(what, raised, sep=": ", flush=True)
    else:
        raise SystemExit(f"{what} was not refused")

def call(folder):
    path, out, fitted = Path(folder) / "x.npz", Path(folder) / "out", model().fit(data())
    for kind in ("csr", "csc"):
        for what in damaged.CHANGES:
            x = damaged.matrix(kind, what)
            for act in (model().fit, model().partial_fit, fitted.transform):
                refused(f"{act.__name__} {kind} {what}", lambda: act(x))
            damaged.save(path, kind, what)
            refused(f"nmf fit {kind} {what}", lambda: fit_file(path, out, 2), CorruptData)
    for axis, index in ((0, 2**30), (0, -1), (1, 12), (1, -(2**20))):
        x = sp.coo_matrix(data())
        x.coords[axis][3] = index
        refused(f"fit coo {axis} {index}", lambda: model().fit(x))
    w = sp.csr_matrix(fitted.transform(data()))
    w.indices[2] = 2**30
    refused("inverse_transform", lambda: fitted.inverse_transform(w))
    return "all refused"
"""


def test_indices_outside_end_no_process(tmp_path: Path):
    found = outcome(EACH, tmp_path).splitlines()
    assert found[-1] == "returned all refused"
    assert len(found) == 4 * 2 * len(damaged.CHANGES) + 4 + 1 + 1
    assert all("X must be a sparse matrix" in line or "x.npz" in line for line in found[:-1])
    whole = "\n".join(found)
    assert "x.npz is damaged: an index of 1073741824, where 0 to 11 are inside" in whole
    assert "X must be a sparse matrix whose indices lie inside it, got 'an index of -1," in whole


@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("flavour", ["matrix", "array"])
def test_every_format_that_is_whole_is_taken(kind: str, flavour: str):
    x = getattr(sp, f"{kind}_{flavour}")(X)
    assert damage(x) is None
    np.testing.assert_allclose(model().fit(x).components_, model().fit(X).components_, rtol=1e-6)
    assert damage(getattr(sp, f"{kind}_{flavour}")((3, 4))) is None


def test_more_room_than_is_stored_is_no_damage():
    """Pointers that end early: what lies behind them is not part of the matrix."""
    x = sp.csr_matrix(X)
    roomy = sp.csr_matrix(X)
    roomy.data = np.append(x.data, [np.nan, -1.0])
    roomy.indices = np.append(x.indices, [10**6, -7]).astype(x.indices.dtype)
    before = roomy.data.copy(), roomy.indices.copy()
    np.testing.assert_array_equal(model().fit(roomy).components_, model().fit(x).components_)
    np.testing.assert_array_equal(roomy.data, before[0])
    np.testing.assert_array_equal(roomy.indices, before[1])


def test_what_a_matrix_remembers_of_itself_is_not_believed():
    """Indices written after the matrix was found canonical make entries that are there twice."""
    x = sp.csr_matrix(np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [1.0, 1.0, 0.0]]))
    assert x.has_canonical_format
    x.indices[1] = 0
    twice = np.array([[3.0, 0.0, 0.0], [0.0, 3.0, 1.0], [1.0, 1.0, 0.0]])
    found, wanted = (model(2, max_iter=200).fit(y) for y in (x, twice))
    assert found.reconstruction_err_ == pytest.approx(wanted.reconstruction_err_, rel=1e-6)
    assert len(x.data) == 6, "the caller's matrix was changed"


def test_entries_that_add_up_to_infinity_are_named():
    x = sp.csr_matrix((np.full(2, 1.5e308), [0, 0], [0, 2, 2]), shape=(2, 3))
    with pytest.raises(InvalidArgument, match="X must be finite"):
        model(1).fit(x)


def damages(x: Any, **changes: Any) -> str | None:
    for name, value in changes.items():
        setattr(x, name, value)
    return damage(x)


def test_other_formats_are_looked_at():
    bsr, dia = sp.bsr_matrix(np.eye(4), blocksize=(2, 2)), sp.dia_matrix(np.eye(4))
    assert "index of 7" in damages(bsr.copy(), indices=np.array([0, 7], np.int32))
    assert "do not divide" in damages(bsr.copy(), data=np.ones((2, 3, 2)))
    assert "pointers" in damages(bsr.copy(), indptr=np.array([0, 2, 1], np.int32))
    assert "offset of 9" in damages(dia.copy(), offsets=np.array([9], np.int32))
    assert "offsets for data" in damages(dia.copy(), offsets=np.array([0, 1], np.int32))
    lil = sp.lil_matrix(np.eye(4))
    lil.rows[1] = [2**20]
    with pytest.raises(InvalidArgument, match="an index of 1048576"):
        model(1).fit(lil)


@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo", "dia"])
def test_every_format_of_scipys_files_is_read_and_its_damage_named(kind: str, tmp_path: Path):
    from ratewise.nmf.matrix_files import read_matrix

    path = tmp_path / "x.npz"
    sp.save_npz(path, getattr(sp, f"{kind}_matrix")(X))
    np.testing.assert_array_equal(read_matrix(path).toarray(), X)
    whole = dict(np.load(path))
    name = {"coo": "row", "dia": "offsets"}.get(kind, "indices")
    for wrong in (2**30, -(2**30), 2**62):
        np.savez(path, **{**whole, name: np.where(np.arange(len(whole[name])) == 1, wrong, 0)})
        with pytest.raises(CorruptData, match=r"x\.npz"):
            read_matrix(path)
