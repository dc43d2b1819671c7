"""A log as a reader found it: columns of numbers by kind, not yet looked at; and its curve."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ratewise.curves.columns import choose
from ratewise.curves.curve import Curve, Facts
from ratewise.curves.series import sound
from ratewise.errors import CorruptData


@dataclass
class Log:
    """Points by kind ("lr", "train_loss", "held_out_loss") in the order of the log."""

    name: str
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)
    left_out: list[str] = field(default_factory=list)

    def add(self, kind: str, step: float, value: float) -> None:
        """Take in a point."""
        self.points.setdefault(kind, []).append((step, value))

    def curve(self) -> Curve:
        """Return what is sound of it.

        Raises:
            CorruptData: there is no loss at any step.
        """
        said, series, diverged = list(self.left_out), {}, None
        for kind, points in self.points.items():
            steps, values = zip(*points, strict=True) if points else ((), ())
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
    rows: Iterable[Mapping[str, Any]],
    wanted: Mapping[str, str] | None = None,
    facts: Facts | None = None,
) -> Log:
    """Return the log of a table whose cells are numbers, texts of numbers, or nothing.

    Args:
        name: of the run.
        columns: their names.
        rows: the cells by column.
        wanted: which column is which, where the user says it.
        facts: what else is known.

    Raises:
        CorruptData: there is no column of steps.
    """
    chosen = choose(columns, wanted, name)
    if "step" not in chosen:
        raise CorruptData(f"{name} has no column of steps: name it (--step-column)")
    log, odd = Log(name, facts=facts or Facts()), 0
    at = chosen.pop("step")
    for row in rows:
        step = number(row.get(at))
        for kind, column in chosen.items():
            cell = row.get(column)
            if cell is None or cell == "":
                continue
            value = number(cell)
            if value is None or step is None:
                odd += 1
                continue
            log.add(kind, step, value)
    if odd:
        log.left_out.append(f"{odd} cells that are no numbers, or have no step")
    return log


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
