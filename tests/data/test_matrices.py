"""Faces, signals and gene expression: whole, damaged, and what is really there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ratewise.data import sets
from ratewise.data.matrices import read_expression, read_faces, read_signals
from ratewise.errors import CorruptData, MissingData


def test_faces_are_bytes_and_damaged_files_are_named(tmp_path: Path):
    path = tmp_path / "faces.npz"
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.savez(path, images=images)
    assert (read_faces(path) == images).all()
    whole = path.read_bytes()
    for content in (b"", b"no npz at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CorruptData, match=r"faces\.npz"):
            read_faces(path)
    for wrong in ({"pictures": images}, {"images": images / 2}, {"images": images[0]}):
        np.savez(path, **wrong)
        with pytest.raises(CorruptData, match=r"faces\.npz"):
            read_faces(path)


def test_signals_have_a_label_each_and_the_train_part_comes_first(tmp_path: Path):
    path = tmp_path / "signals.npz"
    x, y = np.arange(12, dtype=np.float16).reshape(4, 3), np.array([0, 9, 1, 2], np.uint8)
    good = {"train_x": x[:3], "train_y": y[:3], "test_x": x[3:], "test_y": y[3:]}
    np.savez(path, **good)
    signals, labels = read_signals(path)
    assert (signals == x).all()
    assert (labels == y).all()
    assert (signals.dtype, labels.dtype) == (np.float64, np.int64)
    for wrong in (
        {"test_y": y},
        {"train_y": y[:3] + 1},
        {"train_y": y[:3] / 2},
        {"train_x": x[:3] + np.float16(np.inf)},
        {"test_x": x[3:, :2]},
        {"test_x": x[3]},
    ):
        np.savez(path, **{**good, **wrong})
        with pytest.raises(CorruptData, match=r"signals\.npz"):
            read_signals(path)
    del good["test_x"]
    np.savez(path, **good)
    with pytest.raises(CorruptData, match="no train and test part"):
        read_signals(path)


@pytest.mark.parametrize("content", ["", "1\t2\n3\n", "1\tx\n", "1\t-2\n", "1\tnan\n"])
def test_a_table_of_expression_holds_numbers_that_are_not_negative(tmp_path: Path, content: str):
    path = tmp_path / "genes.txt"
    path.write_text("1\t2.5\n3\t0\n")
    assert read_expression(path).tolist() == [[1.0, 2.5], [3.0, 0.0]]
    path.write_text(content)
    with pytest.raises(CorruptData, match=r"genes\.txt"):
        read_expression(path)


def test_the_real_ones_have_their_shapes():
    if not os.environ.get("RATEWISE_DATA"):
        pytest.skip("RATEWISE_DATA names no data folder")
    try:
        faces, genes = sets.faces(None), sets.leukemia(None)
        signals, labels = sets.mnist1d(None)
        text = sets.kjv(None)
    except MissingData as error:
        pytest.skip(str(error))
    assert faces.shape == (400, 112, 92)
    assert genes.shape == (5000, 38)
    assert signals.shape == (40_000, 40)
    assert set(labels.tolist()) == set(range(10))
    assert text.count("Jesus") > 900
