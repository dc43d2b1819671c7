"""What a study is about to run: its table is printed first, then what is missing is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from evidence import page as words
from evidence.cells import Cell
from evidence.how import How
from evidence.results import Result, Results

_Unit = TypeVar("_Unit")
#: Microseconds of a core that a step of one stacked run takes, by the model of a cell: at least,
#: and a row of its batch.
COST = {
    "mlp": (40, 0.8),
    "residual": (45, 1.3),
    "window": (70, 1.3),
    "attention": (100, 18),
    "lenet": (60, 25),
    "transformer": (80, 40),
    "nano": (300, 250),
}


class Row(NamedTuple):
    """What a unit takes, at most about."""

    trainings: int
    steps: int  #: of each
    seconds: float  #: of a core


def seconds(cell: Cell, runs: int) -> float:
    """Return the seconds of a core that so many stacked runs of a cell take.

    >>> seconds(Cell("cifar", "mlp", 10, 1000, "sgd"), 2)
    0.096
    """
    least, row = COST[cell.model]
    return runs * cell.steps * (least + row * cell.batch) * 1e-6


def rows(units: Iterable[_Unit], of: Callable[[_Unit], Row]) -> list[list[str]]:
    """Return a row a unit; the last one is the total."""
    found, runs, whole = [], 0, 0.0
    for unit in units:
        row = of(unit)
        runs, whole = runs + row.trainings, whole + row.seconds
        found.append([str(unit), f"{row.trainings:,}", f"{row.steps:,}", f"{row.seconds:.0f}"])
    return [*found, ["total", f"{runs:,}", "", f"{whole:.0f}"]]


def complete(
    results: Results,
    units: Mapping[str, _Unit],
    work: Callable[[_Unit], list[Result]],
    of: Callable[[_Unit], Row],
    how: How,
    label: str,
) -> None:
    """Print what is missing and what it takes, and make it.

    Args:
        results: of the study.
        units: all that is wanted, by the digest of what determines a unit.
        work: makes a unit's runs; a function of a module, or a partial of one.
        of: what a unit takes.
        how: the study is run.
        label: what the bar counts.
    """
    if how.progress:
        lacking = [unit for name, unit in units.items() if name not in results]
        header = ["unit", "trainings", "steps", "seconds of a core, at most about"]
        print(words.table(header, rows(lacking, of)), flush=True)
    results.complete(units, work, where=how.where, label=label, progress=how.progress)
