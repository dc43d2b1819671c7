"""Data sets that are damaged or made to do harm: each reader has one named error for them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.test_data import HEADER, cifar_arrays, idx

from ratewise.data import sets, text
from ratewise.data.cifar import read_cifar
from ratewise.data.housing import read_housing
from ratewise.data.idx import read_idx
from ratewise.data.locate import find
from ratewise.data.matrices import read_expression, read_faces, read_signals
from ratewise.errors import CorruptData, RatewiseError

Write = Callable[[Path], object]
READERS: dict[str, Callable[[Path], Any]] = {
    "x-idx3-ubyte": read_idx,
    "x-idx3-ubyte.gz": read_idx,
    "c.npz": read_cifar,
    "faces.npz": read_faces,
    "signals.npz": read_signals,
    "genes.txt": read_expression,
    "h.csv": read_housing,
    "cal_housing.data": read_housing,
    "t.txt": text.read_text,
    "s.neg": text.read_sentences,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["folder", "pipe", "absent"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str, kind: str):
    path = tmp_path / name
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
        end = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # or who opens it would wait for ever
        os.write(end, b"0" * 4000)
    try:
        with pytest.raises(CorruptData, match=name):
            READERS[name](path)
    finally:
        if kind == "pipe":
            os.close(end)


def large(path: Path) -> None:
    """More than is read, though little on the disk."""
    if path.suffix == ".gz":
        with gzip.open(path, "wb") as file:
            file.write(bytes(200_000))
    elif path.suffix == ".npz":
        array = np.zeros((20, 100, 100), np.uint8)
        names = [f"{p}_{k}" for p in ("train", "test") for k in ("images", "labels", "x", "y")]
        np.savez_compressed(path, images=array, **dict.fromkeys(names, array))
    else:
        path.write_bytes(b"1" * 200_000)
    assert path.suffix not in (".gz", ".npz") or path.stat().st_size < 10_000


@pytest.mark.parametrize("name", READERS)
def test_what_is_read_and_unpacked_has_a_limit(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    from ratewise.files import contents

    large(tmp_path / name)
    monkeypatch.setattr(contents, "MOST", 100_000)
    with pytest.raises(CorruptData, match=rf"{name}.*at most 100,000 bytes are read"):
        READERS[name](tmp_path / name)


def test_an_idx_header_of_absurd_sizes_is_named(tmp_path: Path):
    path = tmp_path / "x-idx4-ubyte"
    path.write_bytes(bytes([0, 0, 8, 4]) + struct.pack(">4I", *[2**32 - 1] * 4) + b"1")
    with pytest.raises(CorruptData, match="x-idx4-ubyte should hold"):
        read_idx(path)


def member(header: bytes, raw: bytes, version: int = 1) -> bytes:
    count = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + count + header + raw


def header(descr: str, shape: str) -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()


def packed(path: Path, content: bytes, **settings: Any) -> None:
    with zipfile.ZipFile(path, "w", **settings) as archive:
        archive.writestr("images.npy", content)


def encrypted(path: Path) -> None:
    """An archive that says that its array is encrypted."""
    packed(path, member(header("'|u1'", "(1, 1, 1)"), b"1"))
    whole = bytearray(path.read_bytes())
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(whole)


def method(path: Path, number: int) -> None:
    """An archive that says that its array is compressed by a method."""
    packed(path, member(header("'|u1'", "(1, 1, 1)"), b"1"))
    whole = bytearray(path.read_bytes())
    whole[8] = number
    whole[whole.index(b"PK\x01\x02") + 10] = number
    path.write_bytes(whole)


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("images.npy", "imagez.npy"):
            archive.writestr(name, member(header("'|u1'", "(1, 1, 1)"), b"1"))
    path.write_bytes(path.read_bytes().replace(b"imagez", b"images"))


def pickled(path: Path) -> None:
    np.savez(path, images=np.array([{}, print], object))


GOOD = member(header("'|u1'", "(1, 1, 2)"), b"12")
NPZ: dict[str, Write] = {
    "encrypted": encrypted,
    "an unknown method": lambda path: method(path, 97),
    "lzma": lambda path: packed(path, GOOD, compression=zipfile.ZIP_LZMA),
    "bzip2": lambda path: packed(path, GOOD, compression=zipfile.ZIP_BZIP2),
    "two of one name": twice,
    "objects": pickled,
    "no array": lambda path: packed(path, b"hello"),
    "an empty member": lambda path: packed(path, b""),
    "a deep header": lambda path: packed(path, member(b"(" * 9000, b"")),
    "a long header": lambda path: packed(path, member(b"1" * 10**6, b"", version=2)),
    "an unfinished header": lambda path: packed(path, member(b"{'descr': '|u1', '", b"12")),
    "2**40 items": lambda path: packed(path, member(header("'|u1'", f"({2**40}, 1, 1)"), b"1")),
    "2**80 items": lambda path: packed(path, member(header("'|u1'", f"({2**40}, {2**40})"), b"")),
    "a negative size": lambda path: packed(path, member(header("'|u1'", "(-1, 1, 1)"), b"1")),
    "sizes that are no numbers": lambda path: packed(path, member(header("'|u1'", "(1, x)"), b"1")),
    "no such type": lambda path: packed(path, member(header("'<f3'", "(1, 1, 1)"), b"123")),
    "fields": lambda path: packed(path, member(header("[('a', '|O')]", "(1, 1, 1)"), b"12345678")),
    "too short": lambda path: packed(path, member(header("'|u1'", "(1, 1, 2)"), b"1")),
    "too long": lambda path: packed(path, GOOD + b"3"),
    "a version to come": lambda path: packed(path, GOOD.replace(b"\x01\x00", b"\x09\x00", 1)),
    "no zip": lambda path: path.write_bytes(b"PK\x03\x04"),
}  # fmt: skip


@pytest.mark.parametrize("what", NPZ)
def test_odd_archives_are_named(tmp_path: Path, what: str):
    NPZ[what](tmp_path / "faces.npz")
    with pytest.raises(CorruptData, match=r"faces\.npz"):
        read_faces(tmp_path / "faces.npz")


def test_what_a_file_says_is_shown_in_one_printable_line(tmp_path: Path):
    """Names in a file could write to the terminal, or fill it."""
    wild = "a\n\x1b[31m" + "b" * 5000
    with zipfile.ZipFile(tmp_path / "faces.npz", "w") as archive:
        archive.writestr("images.npy", GOOD)
        archive.writestr(f"{wild}.npy", b"1")
    whole = (tmp_path / "faces.npz").read_bytes()
    (tmp_path / "faces.npz").write_bytes(whole.replace(b"images.npy", wild[:10].encode(), 1))
    batch = pickle.dumps({}, protocol=2)[:2] + f"c{wild[4:]}\n{wild[2:].strip()}\n)R.".encode()
    (tmp_path / "data_batch_1").write_bytes(batch)
    (tmp_path / "test_batch").write_bytes(batch)
    lines = ["lon\x1b[31mgitude," * 2, ROW]
    (tmp_path / "h.csv").write_text(HEADER + "," + "\n".join(lines))
    for read, path in ((read_faces, "faces.npz"), (read_cifar, ""), (read_housing, "h.csv")):
        with pytest.raises(CorruptData) as caught:
            read(tmp_path / path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < len(str(tmp_path)) + 400


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_other_writers_are_read(tmp_path: Path, order: Any):
    """Other spaces, other orders of the header, the other byte order, Python 2's integers."""
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    fortran = "True" if order == "F" else "False"
    raw = images.tobytes(order)
    for text_ in (
        f"{{'shape':(2L,3L,4L),'descr':'|u1','fortran_order':{fortran}}}",
        f"{{'descr': '|u1', 'fortran_order': {fortran}, 'shape': (2, 3, 4)}}     \n",
    ):
        for version in (1, 2):
            content = member(text_.encode(), raw, version)
            packed(tmp_path / "faces.npz", content, compression=zipfile.ZIP_DEFLATED)
            np.testing.assert_array_equal(read_faces(tmp_path / "faces.npz"), images)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_images": np.full((4, 32, 32, 3), np.nan)}, "images of float64"),
        ({"train_images": np.zeros((4, 32, 32, 3), np.int64)}, "images of int64"),
        ({"train_images": np.zeros((0, 32, 32, 3), np.uint8)}, "0 images"),
        ({"train_images": np.zeros(4, np.uint8)}, r"shape \(4,\)"),
        ({"train_labels": np.array([0, 1, 2, 10])}, "labels from 0 to 10, not from 0 to 9"),
        ({"test_labels": np.array([0, -1])}, "labels from -1 to 0"),
        ({"train_labels": np.array(list("abcd"))}, "labels of <U1"),
        ({"train_labels": np.array([0, 1, np.nan, 2])}, "labels of float64"),
        ({"train_labels": np.array([0, 1, 2])}, r"labels of int64 of shape \(3,\)"),
        ({"train_labels": np.array(3)}, r"shape \(\)"),
        ({"train_labels": np.array([0, 1, 2, None])}, "objects"),
    ],
)
def test_images_and_labels_that_are_none_are_named(
    tmp_path: Path, change: dict[str, np.ndarray], words: str
):
    images, labels = cifar_arrays(6)
    shown = images.transpose(0, 2, 3, 1)
    arrays = {"train_images": shown[:4], "train_labels": labels[:4],
              "test_images": shown[4:], "test_labels": labels[4:]}  # fmt: skip
    np.savez(tmp_path / "c.npz", **arrays)
    read_cifar(tmp_path / "c.npz")
    np.savez(tmp_path / "c.npz", **{**arrays, **change})
    with pytest.raises(CorruptData, match=rf"c\.npz.*{words}"):
        read_cifar(tmp_path / "c.npz")


def test_labels_of_the_binary_version_are_classes(tmp_path: Path):
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(CorruptData, match=r"data_batch_1.bin has labels from 10 to 10"):
        read_cifar(tmp_path)


ROW = "1,2,3,4,,6,7,8,100,INLAND"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEADER, *[ROW] * 120, "1,2,3,4,nan,6,7,8,9,INLAND"], "line 122: 'nan' is not a finite"),
        ([HEADER, *[ROW] * 120, "1,2,3,4,5,6,7,8,1e999,INLAND"], "line 122: '1e999'"),
        ([HEADER, *[ROW] * 120, "1,2,3,4,5,6,7,8,,INLAND"], "line 122"),
        ([HEADER + ",longitude", *[ROW + ",1"] * 120], "columns of the same name"),
        ([HEADER, *[ROW] * 120, "1" * 200_000 + ",2"], r"h\.csv is no csv"),
        ([HEADER, *[ROW] * 120, "1,2,3,4,5,6,7,8,9,\u00ceLE"], "not in UTF-8 .*byte .* 0xce"),
    ],
)
def test_damaged_housing_is_named(tmp_path: Path, lines: list[str], words: str):
    (tmp_path / "h.csv").write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(CorruptData, match=words):
        read_housing(tmp_path / "h.csv")


def test_expression_in_another_encoding_is_named(tmp_path: Path):
    (tmp_path / "genes.txt").write_bytes("1\t2\n3\t\u00e9\n".encode("latin-1"))
    with pytest.raises(CorruptData, match=r"genes\.txt is not in UTF-8"):
        read_expression(tmp_path / "genes.txt")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((3, 28, 28)), np.array([0, 1, 10]), "a label of 10, not 0 to 9"),
        (np.zeros((3, 28, 27)), np.arange(3), r"images \(3, 28, 27\)"),
        (np.zeros(3), np.arange(3), r"images \(3,\)"),
        (np.zeros((0, 28, 28)), np.zeros(0), r"images \(0, 28, 28\)"),
        (np.zeros((3, 28, 28)), np.zeros((3, 1)), r"labels \(3, 1\)"),
    ],
)
def test_fashion_of_other_shapes_and_classes_is_named(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, words: str
):
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(np.asarray(array, np.uint8))
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(content)
    with pytest.raises(CorruptData, match=words):
        sets.fashion(tmp_path)


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path):
    with pytest.raises(RatewiseError, match="cannot be read"):
        find("the set", ["x" * 5000], "fetch it", tmp_path)


def test_readers_hand_out_what_may_be_written_to(tmp_path: Path):
    buffer = io.BytesIO()
    np.savez(buffer, images=np.ones((1, 2, 3), np.uint8))
    (tmp_path / "faces.npz").write_bytes(buffer.getvalue())
    faces = read_faces(tmp_path / "faces.npz")
    faces += 1
    assert faces.max() == 2
