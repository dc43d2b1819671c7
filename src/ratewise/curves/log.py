"""A log as a reader found it: columns of numbers by kind, not yet looked at; and its curve."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.curves.columns import choose
from ratewise.curves.curve import Curve, Facts, Floats
from ratewise.curves.series import sound
from ratewise.errors import CorruptData

Flags = NDArray[np.bool_]


@dataclass
class Log:
    """Steps and values by kind ("lr", "train_loss", "held_out_loss") in the order of the log."""

    name: str
    points: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    left_out: list[str] = field(default_factory=list)

    def add(self, kind: str, step: float, value: float) -> None:
        """Take in a point."""
        steps, values = self.points.setdefault(kind, ([], []))
        steps.append(step)
        values.append(value)

    def curve(self) -> Curve:
        """Return what is sound of it.

        Raises:
            CorruptData: there is no loss at any step.
        """
        said, series, diverged = list(self.left_out), {}, None
        for kind, (steps, values) in self.points.items():
            found = sound(kind, steps, values)
            series[kind] = found.series
            said += found.left_out
            if kind == "train_loss":
                diverged = found.diverged_at
        if not any(len(series.get(kind, ())) for kind in ("train_loss", "held_out_loss")):
            why = f" ({'; '.join(said)})" if said else ""
            raise CorruptData(f"{self.name} has no loss at any step{why}: name its columns")
        return Curve(
            self.name, facts=self.facts, left_out=tuple(said), diverged_at=diverged, **series
        )


def from_rows(
    name: str,
    columns: Iterable[str],
    rows: Sequence[Mapping[str, Any]],
    wanted: Mapping[str, str] | None = None,
    facts: Facts | None = None,
) -> Log:
    """Return the log of rows, each with its cells by column; see `from_columns`."""
    return from_columns(name, columns, lambda one: [row.get(one) for row in rows], wanted, facts)


def from_columns(
    name: str,
    columns: Iterable[str],
    cells: Callable[[str], Sequence[Any]],
    wanted: Mapping[str, str] | None = None,
    facts: Facts | None = None,
) -> Log:
    """Return the log of a table whose cells are numbers, texts of numbers, or nothing.

    Args:
        name: of the run.
        columns: their names.
        cells: from a column's name to its cells; all columns have as many.
        wanted: which column is which, where the user says it.
        facts: what else is known.

    Raises:
        CorruptData: there is no column of steps.
    """
    chosen = choose(columns, wanted, name)
    if "step" not in chosen:
        raise CorruptData(f"{name} has no column of steps: name it (--step-column)")
    log, odd = Log(name, facts=facts or Facts()), 0
    steps, has_step, _ = _numbers(cells(chosen.pop("step")))
    for kind, column in chosen.items():
        values, legal, there = _numbers(cells(column))
        sound = legal & has_step
        odd += int((there & ~sound).sum())
        log.points[kind] = steps[sound].tolist(), values[sound].tolist()
    if odd:
        log.left_out.append(f"{odd} cells that are no numbers, or have no step")
    return log


def _numbers(cells: Sequence[Any]) -> tuple[Floats, Flags, Flags]:
    """Return cells as numbers, which of them are some, and which are not empty."""
    kinds = set(map(type, cells))
    if kinds <= {float, int}:
        with contextlib.suppress(OverflowError):
            every = np.ones(len(cells), bool)
            return np.array(cells, np.float64), every, every
    if kinds == {str}:
        texts = np.array(cells, dtype=np.str_)
        there = texts != ""
        with contextlib.suppress(ValueError):  # of a text that is no number
            values = np.full(len(cells), np.nan)
            values[there] = texts[there].astype(np.float64)
            return values, there, there
    found = [number(cell) for cell in cells]
    legal = np.array([value is not None for value in found], bool)
    values = np.array([np.nan if value is None else value for value in found], np.float64)
    return values, legal, np.array([not (cell is None or cell == "") for cell in cells], bool)


def number(cell: Any) -> float | None:
    """Return a cell as a number, or None where it is none.

    >>> number("1e-3"), number("NaN"), number("1,5"), number(True)
    (0.001, nan, None, None)
    """
    if isinstance(cell, bool) or cell is None:
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return None


def count(cell: Any) -> int:
    """Return a cell as a number of things, 0 where it is none that can be.

    >>> count("512"), count("1e999"), count(-1), count(2.5e3)
    (512, 0, 0, 2500)
    """
    value = number(cell)
    return int(value) if value is not None and 0 < value < 2**53 else 0
