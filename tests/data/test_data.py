"""Readers: the formats that people have on disk, and files that are damaged."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ratewise.compare import tasks
from ratewise.data import text
from ratewise.data.cifar import read_cifar
from ratewise.data.housing import read_housing
from ratewise.data.idx import read_idx
from ratewise.data.locate import find
from ratewise.errors import CorruptData, MissingData

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + bytes(array)
    )


def test_idx_plain_and_gzipped(tmp_path: Path):
    plain, packed = tmp_path / "a-idx3-ubyte", tmp_path / "a-idx3-ubyte.gz"
    plain.write_bytes(idx(IMAGES))
    packed.write_bytes(gzip.compress(idx(IMAGES)))
    assert (read_idx(plain) == IMAGES).all()
    assert (read_idx(packed) == IMAGES).all()


@pytest.mark.parametrize("keep", [0, 3, 10, 30])
def test_a_truncated_idx_file_is_named(tmp_path: Path, keep: int):
    path = tmp_path / "cut-idx3-ubyte"
    path.write_bytes(idx(IMAGES)[:keep])
    with pytest.raises(CorruptData, match="cut-idx3-ubyte"):
        read_idx(path)


@pytest.mark.parametrize(
    "content",
    [b"not gzip at all", gzip.compress(idx(IMAGES), mtime=0)[:-12]],
    ids=["foreign", "truncated"],  # not the bytes: they hold the time of compression
)
def test_a_truncated_gzip_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "cut-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(CorruptData, match="fetch it again"):
        read_idx(path)


def cifar_arrays(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), np.arange(count) % 10


def test_cifar_in_its_three_layouts_is_the_same(tmp_path: Path):
    images, labels = cifar_arrays(6)
    packed = tmp_path / "c.npz"
    shown = images.transpose(0, 2, 3, 1)
    np.savez(packed, train_images=shown[:4], train_labels=labels[:4], test_images=shown[4:],
             test_labels=labels[4:])  # fmt: skip
    binary, python = tmp_path / "bin", tmp_path / "python"
    binary.mkdir()
    python.mkdir()
    for name, part in (("data_batch_1", slice(0, 4)), ("test_batch", slice(4, 6))):
        rows = np.hstack([labels[part, None].astype(np.uint8), images[part].reshape(-1, 3072)])
        (binary / f"{name}.bin").write_bytes(rows.tobytes())
        batch = {b"data": images[part].reshape(-1, 3072), b"labels": labels[part].tolist()}
        (python / name).write_bytes(pickle.dumps(batch, protocol=4))
    for path in (packed, binary, python):
        (train, train_labels), (test, test_labels) = read_cifar(path)
        assert (train == images[:4]).all()
        assert (test == images[4:]).all()
        assert [*train_labels, *test_labels] == labels.tolist()


def test_a_cifar_file_cannot_run_code(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    for name in ("data_batch_1", "test_batch"):
        (tmp_path / name).write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}, protocol=4))
    with pytest.raises(CorruptData, match="print, which is not read"):
        read_cifar(tmp_path)


def test_damaged_cifar_files_are_named(tmp_path: Path):
    images, labels = cifar_arrays(4)
    packed = tmp_path / "c.npz"
    np.savez(packed, train_images=images, train_labels=labels)
    whole = packed.read_bytes()
    with pytest.raises(CorruptData, match=r"\(4, 3, 32, 32\)|no array"):
        read_cifar(packed)
    packed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptData, match="cut short"):
        read_cifar(packed)
    with pytest.raises(CorruptData, match="lacks data_batch"):
        read_cifar(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(b"\5" * 3073)
    (tmp_path / "test_batch.bin").write_bytes(b"x" * 3000)
    with pytest.raises(CorruptData, match=r"test_batch.bin holds 3000 bytes"):
        read_cifar(tmp_path)


HEADER = (
    "longitude,latitude,housing_median_age,total_rooms,total_bedrooms,population,"
    "households,median_income,median_house_value,ocean_proximity"
)


def housing(path: Path, last: str) -> Path:
    rows = ["1,2,3,4,,6,7,8,100,INLAND"] * 120
    path.write_text("\n".join([HEADER, *rows, last]))
    return path


def test_housing_keeps_missing_values_and_the_place(tmp_path: Path):
    features, values = read_housing(housing(tmp_path / "h.csv", "1,2,3,4,5,6,7,8,9,NEAR BAY"))
    assert features.shape == (121, 13)
    assert np.isnan(features[0, 4])
    assert features[-1, 8:].tolist() == [0, 0, 0, 1, 0]
    assert values[-1] == 9


@pytest.mark.parametrize("last", ["1,2,3", "1,2,3,4,5,6,7,8,dear,INLAND"])
def test_a_damaged_housing_line_is_named(tmp_path: Path, last: str):
    with pytest.raises(CorruptData, match="line 122"):
        read_housing(housing(tmp_path / "h.csv", last))


def test_housing_without_a_column_or_rows(tmp_path: Path):
    path = tmp_path / "h.csv"
    path.write_text(HEADER.replace("median_income,", "") + "\n")
    with pytest.raises(CorruptData, match="lacks the columns median_income"):
        read_housing(path)
    path.write_text("")
    with pytest.raises(CorruptData, match="is empty"):
        read_housing(path)


def test_text_in_both_encodings_and_too_short(tmp_path: Path):
    path = tmp_path / "t.txt"
    for encoding in ("utf-8", "latin-1"):
        path.write_bytes(("caf\u00e9 " * 300).encode(encoding))
        assert text.read_text(path).startswith("caf\u00e9 ")
    path.write_text("short")
    with pytest.raises(CorruptData, match="5 characters"):
        text.read_text(path)


def test_hashed_words_pad_and_cut():
    assert text.hashed_words("good film good", 50, 5)[0] == text.hashed_words("good", 50, 1)[0]
    assert text.hashed_words("a", 50, 4)[1:] == [0, 0, 0]
    assert len(text.hashed_words("a b c d e f", 50, 4)) == 4


def test_missing_data_is_one_line_with_where_and_how(tmp_path: Path, monkeypatch):
    with pytest.raises(MissingData) as caught:
        find("the set", ["a/b.csv"], "fetch it", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "a" / "b.csv") in message
    assert "fetch it" in message
    assert "\n" not in message
    monkeypatch.delenv("RATEWISE_DATA", raising=False)
    with pytest.raises(MissingData, match="pass --data FOLDER or set RATEWISE_DATA"):
        tasks.load("fashion-cnn")


def test_the_environment_names_the_folder_anew_at_each_call(tmp_path: Path, monkeypatch):
    """A task that was read once must not be served from a folder that is no longer named."""
    for name, text_ in (("first", "ab" * 40_000), ("second", "xyz" * 40_000)):
        folder = tmp_path / name / "tinyshakespeare"
        folder.mkdir(parents=True)
        (folder / "input.txt").write_text(text_)
    sizes = []
    for name in ("first", "second"):
        monkeypatch.setenv("RATEWISE_DATA", str(tmp_path / name))
        sizes.append(int(tasks.load("shakespeare-transformer").train[0].max()) + 1)
    assert sizes == [2, 3]
    monkeypatch.delenv("RATEWISE_DATA")
    with pytest.raises(MissingData, match="no data folder was named"):
        tasks.load("shakespeare-transformer")


def test_a_truncated_file_in_a_data_folder_is_named(tmp_path: Path):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir()
    (folder / "input.txt").write_text("First Citizen")
    with pytest.raises(CorruptData, match=r"input.txt holds 13 characters"):
        tasks.load("shakespeare-transformer", data=tmp_path)
