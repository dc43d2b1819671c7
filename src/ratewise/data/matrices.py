"""Matrices: faces and labelled signals in npz files, gene expression in a table."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptData
from ratewise.files.arrays import read_arrays
from ratewise.files.contents import decoded, shown


def read_faces(path: Path) -> NDArray[np.uint8]:
    """Return images [n, height, width], as bytes.

    Raises:
        CorruptData: the file is damaged, or holds no images.
    """
    images = read_arrays(path, ["images"]).get("images")
    if images is None:
        raise CorruptData(f"{path} has no array `images`: fetch it again")
    if images.ndim != 3 or images.dtype != np.uint8 or not images.size:
        raise CorruptData(
            f"{path}: images of shape {images.shape}, {images.dtype}, not [n, height, width] of "
            "bytes: fetch it again"
        )
    return images


def read_signals(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return labelled signals, the train part first: [n, length], and labels [n], 0 to 9.

    Raises:
        CorruptData: the file is damaged, or holds no signals with a label each.
    """
    arrays = read_arrays(path, ["train_x", "test_x", "train_y", "test_y"])
    try:
        x = np.concatenate([arrays["train_x"], arrays["test_x"]])
        y = np.concatenate([arrays["train_y"], arrays["test_y"]])
    except (KeyError, ValueError) as error:
        raise CorruptData(f"{path} has no train and test part: fetch it again") from error
    sound = x.ndim == 2 and x.dtype.kind == "f" and np.isfinite(x).all() and x.size
    if not sound or y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        found = f"signals {x.shape} of {x.dtype}, labels {y.shape} of {y.dtype}"
        raise CorruptData(f"{path}: {found}, not finite numbers with a label each: fetch it again")
    if y.min() < 0 or y.max() > 9:
        raise CorruptData(f"{path}: labels from {y.min()} to {y.max()}, not 0 to 9")
    return x.astype(np.float64), y.astype(np.int64)


def read_expression(path: Path) -> NDArray[np.float64]:
    """Return a table of numbers >= 0, tabs between them: [genes, samples].

    Raises:
        CorruptData: the file is cut short, or does not hold such numbers.
    """
    lines = io.StringIO(decoded(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is an error, below
            table = np.loadtxt(lines, delimiter="\t", ndmin=2)
    except ValueError as error:
        raise CorruptData(
            f"{path} is not a table of numbers ({shown(error)}): fetch it again"
        ) from error
    if not table.size or not np.isfinite(table).all() or table.min() < 0:
        raise CorruptData(f"{path}: numbers that are negative or not finite: fetch it again")
    return table
