"""Sound series out of what a log has: what is kept, and what is left out, in words.

Logs break off, are gone on with from a checkpoint, are written by several processes, and hold
NaN. What is kept is what the training did in the end; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratewise.curves.curve import MOST_STEPS, Floats, Series


class Sound(NamedTuple):
    """A series, what was left out of it, and where a loss ceased to be finite."""

    series: Series
    left_out: list[str]
    diverged_at: int | None


def sound(name: str, step: Sequence[float], value: Sequence[float]) -> Sound:
    """Return the points of a column that can be used, sorted by step, each step once.

    - What has no step, or none that a training can have, goes.
    - Where steps go back and then go on from there, the training was resumed from a checkpoint:
      what had been logged after that step goes, for the training that ended did not make it.
    - Points that merely lie in another order are sorted; of a step that is there twice, the
      point that was written last stays.
    - What is not finite goes; where a loss ends with it, that is where the training diverged.

    Args:
        name: of the column, for the words.
        step: optimizer steps in the order in which they were logged.
        value: as many numbers.

    >>> found = sound("loss", [1, 2, 3, 2, 3, 4], [9.0, 8.0, 7.0, 6.0, 5.0, float("nan")])
    >>> found.series.value, found.diverged_at
    (array([9., 6., 5.]), 4)
    >>> print(*found.left_out, sep="; ")
    loss: 2 points after step 1, where the run was resumed; loss: 1 not finite, the first at step 4
    """
    said: list[str] = []
    steps, values = np.asarray(step, np.float64), np.asarray(value, np.float64)
    legal = (steps >= 0) & (steps <= MOST_STEPS) & (steps == np.floor(steps))
    if not legal.all():
        said.append(f"{name}: {_count(~legal)} without a step of a training")
    at, values = steps[legal].astype(np.int64), values[legal]
    at, values, words = _in_order(name, at, values)
    said += words
    finite = np.isfinite(values)
    diverged = None
    if not finite.all():
        first = int(at[~finite][0])
        said.append(f"{name}: {int((~finite).sum())} not finite, the first at step {first}")
        if not finite[-1]:
            ends = np.flatnonzero(finite)
            diverged = int(at[ends[-1] + 1 if len(ends) else 0])
    return Sound(Series(at[finite], values[finite]), said, diverged)


def _in_order(
    name: str, step: NDArray[np.int64], value: Floats
) -> tuple[NDArray[np.int64], Floats, list[str]]:
    """Return the points sorted, each step once, and what was done."""
    said = []
    # a step that is there twice in a row is one that was logged twice, and no step back
    starts = np.r_[0, np.flatnonzero(np.diff(step) < 0) + 1] if len(step) else np.empty(0, int)
    parts = np.split(np.arange(len(step)), starts[1:])
    keep = np.ones(len(step), bool)
    unsorted = False
    for part in parts[1:]:
        before = np.arange(part[0])[keep[: part[0]]]
        last = step[before].max(initial=-1)
        repeats = int((step[part] <= last).sum())
        if len(part) >= 2 and repeats >= 2:
            gone = before[step[before] >= step[part[0]]]
            if len(gone):
                keep[gone] = False
                stays = before[step[before] < step[part[0]]]
                resumed = int(step[stays].max(initial=0))
                what = f"{_points(len(gone))} after step {resumed}, where the run was resumed"
                said.append(f"{name}: {what}")
        else:
            unsorted = True
    step, value = step[keep], value[keep]
    order = np.argsort(step, kind="stable")
    step, value = step[order], value[order]
    if unsorted:
        said.append(f"{name}: steps in another order, sorted")
    last_of = np.r_[np.diff(step) > 0, True] if len(step) else np.empty(0, bool)
    if not last_of.all():
        said.append(f"{name}: {_count(~last_of)} of a step that is there again")
    return step[last_of], value[last_of], said


def _count(which: NDArray[np.bool_]) -> str:
    return _points(int(which.sum()))


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"
