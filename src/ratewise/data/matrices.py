"""Non-negative matrices: faces in an npz file, gene expression in a table."""

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
