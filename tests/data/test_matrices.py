"""Faces and gene expression: whole, damaged, and what is really there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ratewise.data import sets
from ratewise.data.matrices import read_expression, read_faces
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
    except MissingData as error:
        pytest.skip(str(error))
    assert faces.shape == (400, 112, 92)
    assert genes.shape == (5000, 38)
