"""Matrices from files: the same whatever the format, and named errors for what is none."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

from ratewise.errors import CorruptData, InvalidArgument, MissingData
from ratewise.nmf.checks import OutOfMemory
from ratewise.nmf.matrix_files import read_matrix

X = np.array([[1.0, 0, 2], [0, 3.5, 0]])

WRITERS = {
    "x.npy": lambda path: np.save(path, X),
    "only.npz": lambda path: np.savez(path, anything=X),
    "named.npz": lambda path: np.savez_compressed(path, other=np.ones(3), X=X),
    "sparse.npz": lambda path: sp.save_npz(path, sp.csc_matrix(X)),
    "x.csv": lambda path: path.write_text("1,0,2\n0,3.5,0\n"),
    "header.csv": lambda path: path.write_text("a,b 2,c\n1,0,2\n0,3.5,0\n"),
    "bom.csv": lambda path: path.write_text("1,0,2\n0,3.5,0\n", encoding="utf-8-sig"),
    "dense.mtx": lambda path: scipy.io.mmwrite(path, X),
    "sparse.mtx": lambda path: scipy.io.mmwrite(path, sp.coo_matrix(X)),
    "UPPER.CSV": lambda path: path.write_text("1,0,2\n0,3.5,0\n"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_matrix_is_the_same_from_every_format(name: str, tmp_path: Path):
    WRITERS[name](tmp_path / name)
    matrix = read_matrix(str(tmp_path / name))
    assert sp.issparse(matrix) == ("sparse" in name)
    if sp.issparse(matrix):
        assert matrix.format == "csr"
        matrix = matrix.toarray()
    np.testing.assert_array_equal(matrix, X)
    assert isinstance(matrix, np.memmap) == name.endswith("npy")


def test_one_line_is_one_row(tmp_path: Path):
    (tmp_path / "x.csv").write_text("1,2\n")
    assert read_matrix(tmp_path / "x.csv").shape == (1, 2)


def truncated(path: Path, write: Any) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def renamed(path: Path, save: Any, name: str) -> None:
    save(path.with_name(name), X)
    path.with_name(name).rename(path)


def flipped(path: Path) -> None:
    """A compressed archive with wrong bytes inside."""
    np.savez_compressed(path, X=np.random.default_rng(0).random((50, 50)))
    whole = bytearray(path.read_bytes())
    whole[2000:2100] = b"\xff" * 100
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("empty.npy", lambda path: path.write_bytes(b"")),
        ("text.npy", lambda path: path.write_text("hello")),
        ("half.npy", lambda path: truncated(path, WRITERS["x.npy"])),
        ("objects.npy", lambda path: np.save(path, np.array([{}, 1], object))),
        ("vector.npy", lambda path: np.save(path, np.ones(3))),
        ("words.npy", lambda path: np.save(path, np.array([["a"]]))),
        ("none.npy", lambda path: np.save(path, np.ones((0, 3)))),
        ("archive.npy", lambda path: renamed(path, np.savez, "x.npz")),
        ("array.npz", lambda path: renamed(path, np.save, "x.npy")),
        ("half.npz", lambda path: truncated(path, WRITERS["only.npz"])),
        ("text.npz", lambda path: path.write_text("hello")),
        ("flipped.npz", flipped),
        ("empty.csv", lambda path: path.write_text("")),
        ("header.csv", lambda path: path.write_text("a,b\n")),
        ("ragged.csv", lambda path: path.write_text("1,2\n3\n")),
        ("words.csv", lambda path: path.write_text("1,2\n3,x\n")),
        ("binary.csv", lambda path: path.write_bytes(b"\xff\xfe\x00")),
        ("text.mtx", lambda path: path.write_text("hello")),
        ("half.mtx", lambda path: truncated(path, WRITERS["dense.mtx"])),
    ],
)
def test_a_file_that_is_no_matrix_is_named(name: str, write: Any, tmp_path: Path):
    write(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CorruptData, match=name):
            read_matrix(tmp_path / name)


def test_what_is_missing_or_of_another_kind_is_named(tmp_path: Path):
    with pytest.raises(MissingData, match=r"none\.npy is missing"):
        read_matrix(tmp_path / "none.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(MissingData, match=r"folder\.npy"):
        read_matrix(tmp_path / "folder.npy")
    with pytest.raises(InvalidArgument, match=r"DATA must be a file in .npy, .npz, .csv, .mtx"):
        read_matrix("x.parquet")
    np.savez(tmp_path / "two.npz", a=X, b=X)
    with pytest.raises(InvalidArgument, match=r"the array X, or one array, got \['a', 'b'\]"):
        read_matrix(tmp_path / "two.npz")


def test_no_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    WRITERS["dense.mtx"](tmp_path / "x.mtx")
    monkeypatch.setattr("scipy.io.mmread", full)
    with pytest.raises(OutOfMemory, match=r"save it as \.npy"):
        read_matrix(tmp_path / "x.mtx")
