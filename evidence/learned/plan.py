"""What needs no rate, at every length: on which trainings it is judged, and beside what.

All data are of the sets that judge, and nothing of ours is tuned on them. What has a rate is tuned
on some of the rows that are held out, and judged on others, with fresh seeds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from evidence import code, run_table
from evidence.cells import Cell
from evidence.learned.rules import KINDS, TUNED, UNTUNED, Unit, untuned
from evidence.run_table import Row
from ratewise.rules import learned

#: Rows are seen about once: of teachers there are as many rows as that takes.
_FRESH = (
    ("cifar", "mlp", 16, 300, "sgd"),
    ("shakespeare", "window", 16, 300, "adamw"),
    ("bent teachers", "mlp", 16, 300, "adamw"),
    ("kjv", "window", 4, 300, "sgd"),
    ("wavy teachers", "mlp", 4, 300, "sgd"),
    ("polarity", "attention", 16, 300, "adamw"),
    ("mnist1d", "mlp", 128, 300, "adamw"),
    ("kjv", "transformer", 16, 300, "adamw"),
    ("shakespeare", "transformer", 4, 300, "sgd"),
    ("cifar", "lenet", 16, 300, "adamw"),
    ("mnist1d", "residual", 16, 1500, "sgd"),
    ("kjv", "window", 4, 1500, "adamw"),
    ("bent teachers", "mlp", 16, 1500, "sgd"),
    ("shakespeare", "window", 4, 1500, "sgd"),
    ("wavy teachers", "residual", 4, 1500, "adamw"),
    ("cifar", "lenet", 4, 1500, "sgd"),
    ("cifar", "mlp", 4, 1500, "adamw"),
    ("mnist1d", "mlp", 4, 5000, "sgd"),
    ("bent teachers", "residual", 4, 5000, "adamw"),
    ("wavy teachers", "mlp", 4, 5000, "sgd"),
    ("mnist1d", "mlp", 4, 5000, "adamw"),
    ("bent teachers", "mlp", 4, 20000, "adamw"),
    ("friedman", "mlp", 16, 300, "adamw"),
    ("folded teachers", "mlp", 16, 300, "sgd"),
    ("help texts", "transformer", 4, 300, "adamw"),
    ("help texts", "window", 4, 1500, "adamw"),
    ("friedman", "mlp", 4, 1500, "sgd"),
    ("folded teachers", "residual", 4, 1500, "adamw"),
    ("friedman", "residual", 4, 5000, "adamw"),
    ("folded teachers", "mlp", 4, 5000, "sgd"),
)
_MANY = (
    ("cifar", "mlp", 128, 300, "adamw"),
    ("polarity", "window", 128, 300, "sgd"),
    ("wavy teachers", "mlp", 128, 300, "adamw"),
    ("cifar", "mlp", 16, 1500, "sgd"),
    ("shakespeare", "window", 128, 1500, "adamw"),
    ("polarity", "attention", 16, 1500, "adamw"),
    ("kjv", "window", 128, 1500, "sgd"),
    ("bent teachers", "mlp", 128, 1500, "sgd"),
    ("cifar", "mlp", 16, 5000, "adamw"),
    ("polarity", "window", 16, 5000, "sgd"),
    ("wavy teachers", "mlp", 16, 5000, "adamw"),
    ("polarity", "window", 4, 20000, "sgd"),
    ("faces", "mlp", 16, 300, "adamw"),
    ("faces", "mlp", 16, 1500, "sgd"),
    ("friedman", "mlp", 128, 1500, "sgd"),
    ("help texts", "window", 128, 1500, "adamw"),
    ("folded teachers", "mlp", 16, 5000, "adamw"),
)
_FURTHER = (
    ("mnist1d", "mlp", 16, 300, "adamw", True),
    ("kjv", "transformer", 4, 300, "adamw", True),
    ("cifar", "mlp", 16, 300, "sgd", True),
    ("shakespeare", "window", 16, 300, "adamw", True),
    ("cifar", "lenet", 4, 1500, "adamw", True),
    ("kjv", "window", 16, 1500, "sgd", True),
    ("mnist1d", "mlp", 128, 1500, "sgd", True),
    ("shakespeare", "window", 4, 5000, "adamw", True),
    ("faces", "mlp", 16, 300, "sgd", True),
    ("help texts", "window", 16, 1500, "adamw", True),
)
#: nanoGPT's shape, 16 wide and 32 characters long, with its batch and steps.
_NANO = ("shakespeare", "nano", 12, 2000, "adamw")

_MADE_BY = (
    "evidence.cells",
    "evidence.learned.rules",
    "evidence.learned.runs",
    "evidence.learned.unseen",
    "evidence.peers",
    "ratewise.rules.online",
    "ratewise.rules.ratio_law",
    "ratewise.rules.update_ratio",
)
#: Seconds that a step of an ordinary loop takes beside those of a stacked run's: for the table.
_LOOP = 4e-4


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    units: tuple[Unit, ...] = (
        *(Unit(KINDS[0], Cell(*row)) for row in _FRESH),
        *(Unit(KINDS[1], Cell(*row)) for row in _MANY),
        *(Unit(KINDS[2], Cell(*row)) for row in _FURTHER),
        Unit(KINDS[3], Cell(*_NANO)),
    )
    rates: int = 9  #: of linear and cosine, two a decade
    rates_long: tuple[tuple[int, int], ...] = ((20_000, 3), (5000, 5))  #: from so many steps on
    free_rates: int = 5  #: of the tuned Schedule-Free
    tuning_seeds: tuple[int, ...] = (0, 1)
    seeds: tuple[int, ...] = tuple(range(2000, 2005))
    peers: bool = True

    def grid(self, cell: Cell) -> tuple[float, ...]:
        """Return a cell's rates: the middle one, and as many to both sides.

        >>> Settings(rates=3).grid(Cell("cifar", "mlp", 16, 300, "sgd"))
        (0.0316228, 0.1, 0.316228)
        """
        count = next((n for least, n in self.rates_long if cell.steps >= least), self.rates)
        return around(0.1 if cell.optimizer == "sgd" else 0.01, min(count, self.rates))


def around(middle: float, count: int) -> tuple[float, ...]:
    """Return rates about a middle one, two a decade.

    >>> around(0.0025, 3)
    (0.000790569, 0.0025, 0.00790569)
    """
    return tuple(float(f"{middle * 10 ** ((i - (count - 1) / 2) / 2):.6g}") for i in range(count))


def beside(settings: Settings, unit: Unit) -> bool:
    """Return whether optimizers that need no rate are trained, too: they are kinds of Adam."""
    return settings.peers and unit.cell.optimizer == "adamw"


def wanted(settings: Settings) -> dict[str, Unit]:
    """Return the units by the digest of all that determines their runs."""
    found = {}
    for unit in settings.units:
        key = {
            "unit": [unit.kind, *unit.cell],
            "policy": learned.load("default").digest,
            "grids": [settings.grid(unit.cell), settings.free_rates, beside(settings, unit)],
            "seeds": [settings.tuning_seeds, settings.seeds],
            "code": code.digest(*_MADE_BY),
        }
        text = json.dumps(key, sort_keys=True)
        found[hashlib.sha256(text.encode()).hexdigest()[:16]] = unit
    return found


def row(settings: Settings, unit: Unit) -> Row:
    """Return what a unit takes."""
    tuning, seeds = len(settings.tuning_seeds), len(settings.seeds)
    grid = len(settings.grid(unit.cell))
    # a rate that is best in one loss may not be in the other
    stacked = len(untuned(unit)) * seeds + len(TUNED) * (grid * tuning + 2 * seeds)
    loops = 0
    if beside(settings, unit):
        loops = len(UNTUNED) * seeds + settings.free_rates * tuning + 2 * seeds
    whole = run_table.seconds(unit.cell, stacked + loops) + loops * unit.cell.steps * _LOOP
    return Row(stacked + loops, unit.cell.steps, whole)
