"""The pickles of CIFAR-10: the official form is read, and no other can do anything."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.child import outcome
from tests.data import batches as made

from ratewise.data.cifar import read_cifar
from ratewise.errors import CorruptData

READ = """
from pathlib import Path
from ratewise.data.cifar import read_cifar

def call(folder):
    return read_cifar(Path(folder))[0][0].shape
"""


def folder(path: Path, content: bytes) -> Path:
    for name in ("data_batch_1", "test_batch"):
        (path / name).write_bytes(content)
    return path


def test_the_official_form_is_read(tmp_path: Path):
    values, content = made.official()
    (images, labels), (test, _) = read_cifar(folder(tmp_path, content))
    np.testing.assert_array_equal(images.reshape(4, 3072), values)
    assert labels.tolist() == [0, 1, 2, 3]
    assert labels.dtype == np.int64
    test += 1  # may be written to


@pytest.mark.parametrize("protocol", [3, 4])
def test_the_same_from_python_3_is_read(tmp_path: Path, protocol: int):
    values = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    for array in (values, np.asfortranarray(values)):
        for keys in (lambda key: key, str.encode):
            batch = {keys("data"): array, keys("labels"): [3, 1, 4, 1], keys("extra"): None}
            content = pickle.dumps(batch, protocol=protocol)
            (images, labels), _ = read_cifar(folder(tmp_path, content))
            np.testing.assert_array_equal(images.reshape(4, 3072), values)
            assert labels.tolist() == [3, 1, 4, 1]


def test_the_newer_name_of_numpys_core_is_read(tmp_path: Path):
    values, packed = made.images(2, core=b"numpy._core.multiarray")
    (images, _), _ = read_cifar(folder(tmp_path, made.batch(made.labels(1, 2), packed)))
    np.testing.assert_array_equal(images.reshape(2, 3072), values)


def test_a_file_cannot_make_numbers_be_taken_for_pointers(tmp_path: Path):
    found = outcome(READ, folder(tmp_path, made.pointers()))
    assert found.startswith("CorruptData")
    assert "data_batch_1: an array of another type than unsigned bytes" in found


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_that_a_file_names_is_called(tmp_path: Path, protocol: int, capsys: Any):
    for evil in (Evil(print, ("ran",)), Evil(np.dtype, ("u1",)), Evil(np.empty, ((1 << 40,),))):
        content = pickle.dumps({b"data": evil, b"labels": []}, protocol=protocol)
        with pytest.raises(CorruptData, match="data_batch_1"):
            read_cifar(folder(tmp_path, content))
    assert not capsys.readouterr().out


KIND = made.dtype(b"u1", made.BYTES)
FLAGGED = made.BYTES.replace(b"K\x00t", b"K\x3ft")
PIXELS = made.integer(1) + made.integer(3072) + b"\x86"
IMAGE = made.array(PIXELS, KIND, bytes(3072))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (b"\x80\x02]q.", "cut short"),
        (b"\x80\x02N.", "something else than a dict"),
        (b"\x80\x02}}0.", "POP"),
        (b"not a pickle", "no pickled batch|instruction"),
        (b"\x80\x02h\x05.", "cut short"),
        (b"\x80\x02" + b"N" * 1_000_001 + b".", "1,000,000 instructions"),
        (b"\x80\x02}(K\x01K\x02u.", "a key that is no string"),
        (made.batch(made.labels(1), made.array(PIXELS, KIND, bytes(3071))), "its 3,071 bytes"),
        (
            made.batch(made.labels(1), made.array(made.integer(-1) * 2 + b"\x86", KIND, b"1")),
            "shape",
        ),
        (
            made.batch(made.labels(1), made.array(PIXELS, made.dtype(b"u1", FLAGGED), bytes(3072))),
            "another type",
        ),
        (
            made.batch(made.labels(1), made.array(PIXELS, made.dtype(b"O8", FLAGGED), bytes(3072))),
            "another type",
        ),
        (made.batch(made.labels(1), made.array(PIXELS, b"N", bytes(3072))), "another type"),
        (made.batch(made.labels(10), IMAGE), "labels.*0 to 9"),
        (made.batch(made.labels(-1), IMAGE), "labels.*0 to 9"),
        (made.batch(made.labels(1, 2), IMAGE), "labels"),
        (made.batch(made.labels(), IMAGE), "labels"),
        (made.batch(b"](" + made.text(b"cat") + b"e", IMAGE), "labels.*0 to 9"),
        (made.batch(b"](G" + struct.pack(">d", 1.0) + b"e", IMAGE), "BINFLOAT"),
        (made.batch(b"](\x88e", IMAGE), "labels.*0 to 9"),
        (made.batch(b"N", IMAGE), "no list `labels`"),
        (made.batch(made.labels(1), made.text(bytes(3072))), "no array `data`"),
        (made.batch(made.labels(1), made.array(made.integer(3072) + b"\x85", KIND, bytes(3072))),
         "no array `data`"),
    ],
)  # fmt: skip
def test_damaged_batches_are_named(tmp_path: Path, content: bytes, words: str):
    with pytest.raises(CorruptData, match=f"data_batch_1.*({words})"):
        read_cifar(folder(tmp_path, content))


def test_a_batch_that_is_cut_anywhere_is_named(tmp_path: Path):
    whole = made.official()[1]
    for keep in [*range(60), *range(60, len(whole), 401), len(whole) - 1]:
        with pytest.raises(CorruptData, match="data_batch_1"):
            read_cifar(folder(tmp_path, whole[:keep]))
