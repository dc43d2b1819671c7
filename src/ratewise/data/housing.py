"""California housing: the csv with missing values, or the raw StatLib table."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptData
from ratewise.files.contents import decoded, shown

_NUMBERS = (
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
)
_TARGET, _CATEGORY = "median_house_value", "ocean_proximity"
_PLACES = ("<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN")


def read_housing(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features [n, 8 or 13] (NaN where a value is missing) and house values [n].

    A csv has thirteen columns of features, the last five the place, one-hot. The raw table
    (`cal_housing.data`) has eight, and no header.

    Raises:
        CorruptData: a column is missing or there twice, a line is cut short, is not numbers or
            has one that is not finite, or the text is not UTF-8.
    """
    try:
        lines = list(csv.reader(io.StringIO(decoded(path), newline="")))
    except csv.Error as error:
        raise CorruptData(f"{path} is no csv ({shown(error)}): fetch it again") from error
    if not lines:
        raise CorruptData(f"{path} is empty: fetch it again")
    if path.suffix == ".data":
        header, rows = [*_NUMBERS, _TARGET], lines
    else:
        header, rows = lines[0], lines[1:]
    needed = [*_NUMBERS, _TARGET] + ([] if path.suffix == ".data" else [_CATEGORY])
    lacking = sorted(set(needed) - set(header))
    if lacking:
        raise CorruptData(f"{path} lacks the columns {', '.join(lacking)}")
    if len(set(header)) < len(header):
        raise CorruptData(f"{path} has columns of the same name: {shown(', '.join(header))}")
    features, targets = [], []
    for number, row in enumerate(rows, start=1 if path.suffix == ".data" else 2):
        if len(row) != len(header):
            raise CorruptData(f"{path}, line {number}: {len(row)} fields, not {len(header)}")
        cells = dict(zip(header, row, strict=True))
        try:
            numbers = [_number(cells[name]) if cells[name] else math.nan for name in _NUMBERS]
            targets.append(_number(cells[_TARGET]))
        except ValueError as error:
            raise CorruptData(f"{path}, line {number}: {shown(error)}") from error
        place = cells.get(_CATEGORY)
        one_hot = [] if place is None else [float(place == known) for known in _PLACES]
        features.append(numbers + one_hot)
    if len(features) < 100:
        raise CorruptData(f"{path} holds {len(features)} rows, fewer than 100: fetch it again")
    return np.asarray(features), np.asarray(targets)


def _number(cell: str) -> float:
    """Return the finite number of a cell; a missing one is written as nothing, not as NaN."""
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(f"{cell[:20]!r} is not a finite number")
    return number
