"""Matrices from files: the same whatever the format, and named errors for what is none."""

from __future__ import annotations

import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from tests.child import outcome

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


def mtx(path: Path, kind: str, *lines: str) -> None:
    path.write_text("\n".join([f"%%MatrixMarket matrix {kind}", *lines]))


def array(shape: str) -> bytes:
    """An array of one number with a header that says another shape."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(8)


def header(path: Path, shape: str) -> None:
    path.write_bytes(array(shape))


def foreign(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", content)


def huge(path: Path, shape: str) -> None:
    foreign(path, array(shape))


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
        ("latin.csv", lambda path: path.write_bytes("m\u00fcller,b\n1,2\n".encode("latin-1"))),
        ("nul.csv", lambda path: path.write_bytes(b"1,2\n3,\0\n")),
        ("damaged first row.csv", lambda path: path.write_text("1,2,x\n3,4,5\n")),
        ("numbers in a header.csv", lambda path: path.write_text("name,1\n3,4\n")),
        ("gap in the first row.csv", lambda path: path.write_text("1,,2\n3,4,5\n")),
        ("short header.csv", lambda path: path.write_text("a,b\n3,4,5\n")),
        ("text.mtx", lambda path: path.write_text("hello")),
        ("dense header.mtx", lambda path: mtx(path, "array real general", f"{2**40} {2**20}", "1")),
        ("header.mtx", lambda path: mtx(path, "coordinate real general", f"3 3 {2**40}", "1 1 1")),
        ("rows.mtx", lambda path: mtx(path, "coordinate real general", f"{2**40} 3 1", "1 1 1")),
        ("outside.mtx", lambda path: mtx(path, "coordinate real general", "3 3 1", "4 1 1")),
        ("long.npy", lambda path: header(path, f"({2**40}, {2**30})")),
        ("negative.npy", lambda path: header(path, "(-1, 3)")),
        ("deep.npy", lambda path: header(path, "(" * 5000)),
        ("brackets.npy", lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x04\x00(((((")),
        ("version.npy", lambda path: path.write_bytes(b"\x93NUMPY\x07\x00\x04\x00(((((")),
        ("huge.npz", lambda path: huge(path, f"({2**40}, 3)")),
        ("no array.npz", lambda path: foreign(path, b"hello")),
        ("no format.npz", lambda path: np.savez(path, format="xyz", shape=[3, 3], data=X[0])),
        ("format.npz", lambda path: np.savez(path, format=[b"csr"], shape=[3, 3], data=X[0])),
        ("no shape.npz", lambda path: np.savez(path, format="csr", data=X[0])),
        (
            "shape.npz",
            lambda path: np.savez(path, format="dia", shape=[[3]], data=X, offsets=[0, 1]),
        ),
        ("offsets.npz", lambda path: np.savez(path, format="dia", shape=[3, 3], data=X, offsets=X)),
        (
            "many rows.npz",
            lambda path: np.savez(
                path, format="coo", shape=[2**50, 3], data=X[0], row=[0, 1, 2], col=[0, 1, 2]
            ),
        ),
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


def test_what_is_compressed_unpacks_to_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ratewise.nmf import matrix_files

    np.savez_compressed(tmp_path / "x.npz", X=np.zeros((500, 500)))
    sp.save_npz(tmp_path / "sparse.npz", sp.csr_matrix(np.ones((200, 200))))
    np.savez(tmp_path / "plain.npz", X=np.zeros((500, 500)))
    monkeypatch.setattr(matrix_files, "MOST", 100_000)
    for name in ("x.npz", "sparse.npz"):
        assert (tmp_path / name).stat().st_size < 10_000
        with pytest.raises(CorruptData, match=rf"{name} unpacks to .* at most 100,000 bytes"):
            read_matrix(tmp_path / name)
    assert read_matrix(tmp_path / "plain.npz").shape == (500, 500), "it is as large as it says"


def test_an_encrypted_member_is_named(tmp_path: Path):
    path = tmp_path / "x.npz"
    np.savez(path, X=X)
    whole = bytearray(path.read_bytes())
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(whole)
    with pytest.raises(CorruptData, match=r"x\.npz: 'X.npy' is encrypted"):
        read_matrix(path)


@pytest.mark.parametrize("layout", ["array", "coordinate"])
@pytest.mark.parametrize("field", ["real", "integer", "pattern", "double"])
@pytest.mark.parametrize("symmetry", ["general", "symmetric"])
def test_matrix_market_is_read_as_scipy_reads_it(
    tmp_path: Path, layout: str, field: str, symmetry: str
):
    x = np.array([[1.0, 0, 3, 0], [0, 4, 0, 5], [3, 0, 0, 6], [0, 5, 6, 7]])
    x = x + (0 if field == "integer" else 0.25 * (x > 0))
    x = x if symmetry == "symmetric" else x[:3]
    kept = np.array([(j, i) for i, j in np.ndindex(x.shape[::-1])])
    kept = kept[kept[:, 0] >= kept[:, 1]] if symmetry == "symmetric" else kept
    if layout == "coordinate":
        kept = kept[[x[i, j] > 0 for i, j in kept]]
    lines = ["% caf\u00e9", "", " ".join(map(str, x.shape)), ""]
    if layout == "coordinate":
        lines[2] += f" {len(kept)}"
    for i, j in kept:
        value = f"{x[i, j]:g}" if field != "pattern" else ""
        lines.append(f"{i + 1} {j + 1} {value}".strip() if layout == "coordinate" else value)
    path = tmp_path / "x.mtx"
    content = "\n".join([f"%%MatrixMarket matrix {layout} {field} {symmetry}", *lines, ""])
    path.write_bytes(content.encode("latin-1"))
    if layout == "array" and field == "pattern":
        with pytest.raises(CorruptData, match="'array' and 'pattern'"):
            read_matrix(path)
        return
    found, theirs = read_matrix(path), scipy.io.mmread(path)
    wanted = (x > 0) * 1.0 if field == "pattern" else x
    assert found.dtype == theirs.dtype
    for matrix in (found, theirs):
        np.testing.assert_array_equal(sp.csr_matrix(matrix).toarray(), wanted)


@pytest.mark.parametrize(
    ("kind", "lines", "words"),
    [
        ("array complex general", ["1 1", "1 2"], "not a real matrix"),
        ("array real skew-symmetric", ["2 2", "1"], "not a real matrix"),
        ("array real", ["1 1", "1"], "three words"),
        ("array real general", [], "cut short within its header"),
        ("array real general", ["-1 1", "1"], "sizes of '-1 1'"),
        ("array real general", ["1 1 1", "1"], "sizes of"),
        ("array real general", [f"1 {'9' * 30}", "1"], "sizes of"),
        ("array real general", ["2 2", "1", "2", "3"], "its header says 4"),
        ("array real general", ["2 1", "1", "2", "3"], "its header says 2"),
        ("array integer general", ["1 2", "1", "1.5"], "1.5|integer"),
        ("coordinate real general", ["2 2 1", "1.5 1 1"], "1.5|integer"),
        ("coordinate real general", ["2 2 1", "0 1 1"], "damaged|negative"),
        ("coordinate real general", ["2 2 1", f"{-(2**63)} 1 1"], "exceeds"),
        ("coordinate real general", ["2 2 1", "3 1 1"], "exceeds"),
        ("coordinate real general", ["2 2 2", "1 1 1", "1 2"], "columns"),
        ("coordinate real symmetric", ["2 3 1", "1 1 1"], "symmetric, and 2 x 3"),
    ],
)
def test_damaged_matrix_market_is_named(tmp_path: Path, kind: str, lines: list[str], words: str):
    mtx(tmp_path / "x.mtx", kind, *lines)
    with pytest.raises(CorruptData, match=rf"x\.mtx.*({words})"):
        read_matrix(tmp_path / "x.mtx")


def test_a_matrix_that_is_cut_within_a_line_ends_no_process(tmp_path: Path):
    """SciPy's reader looks for the end of the line behind the end of the file."""
    code = f"""
from pathlib import Path
from ratewise.errors import CorruptData
from ratewise.nmf.matrix_files import read_matrix

def call(path):
    path, count = Path(path), 0
    text = {SPARSE!r}
    for cut in range(len(text)):
        for more in ("", "\\n", " ", "\\0", "\xe9", ", "):
            path.write_bytes((text[:cut] + more).encode("latin-1"))
            try:
                read_matrix(path)
            except CorruptData:
                count += 1
    return count > len(text)
"""
    assert outcome(code, tmp_path / "x.mtx") == "returned True"


SPARSE = "%%MatrixMarket matrix coordinate real general\n%\n3 3 3\n1 1 1.5\n2 3 2e-1\n3 1 10\n"


@pytest.mark.parametrize("kind", ["symmetric", "skew-symmetric", "hermitian"])
def test_a_symmetric_matrix_that_is_not_square_ends_no_process(tmp_path: Path, kind: str):
    """SciPy mirrors its entries into memory that is not the matrix's."""
    field = "complex" if kind == "hermitian" else "real"
    entries = ["1 1" if kind == "hermitian" else "1"] * 9000
    mtx(tmp_path / "x.mtx", f"array {field} {kind}", "2 4000", *entries)
    code = """
from ratewise.nmf.matrix_files import read_matrix

def call(path):
    return read_matrix(path).shape
"""
    found = outcome(code, tmp_path / "x.mtx")
    words = "its header says symmetric, and 2 x 4,000"
    assert (words if kind == "symmetric" else "not a real matrix >= 0") in found


def test_no_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    WRITERS["dense.mtx"](tmp_path / "x.mtx")
    monkeypatch.setattr("numpy.loadtxt", full)
    with pytest.raises(OutOfMemory, match=r"save it as \.npy"):
        read_matrix(tmp_path / "x.mtx")


def test_rows_that_memory_does_not_hold_are_named(tmp_path: Path, monkeypatch):
    path = tmp_path / "x.npz"
    sp.save_npz(path, sp.csc_matrix(np.eye(3)))

    def short(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sp.csc_matrix, "tocsr", short)
    with pytest.raises(OutOfMemory, match="no memory for 3 rows"):
        read_matrix(path)
