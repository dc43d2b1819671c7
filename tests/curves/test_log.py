"""Columns of a log as numbers: all at once they are what each cell is on its own."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from ratewise.curves.log import from_columns, from_rows, number

TEXTS = ["1", "2.5", "-1e3", "nan", "NaN", "inf", "-Infinity", " 7 ", "1_0", "1e400", "0x10", "1,5"]
TEXTS += ["", "abc", "1e", "١٢", "\N{FULLWIDTH DIGIT ONE}", "1d3", "+.5", "5."]
OTHERS: list[Any] = [None, True, False, 3, 2.5, float("nan"), 10**400, [], {}, np.float32(2.5)]


def cell_by_cell(steps: list[Any], values: list[Any]) -> tuple[list[float], list[float], int]:
    """Return the points and how many cells are odd, one cell after the other."""
    kept: tuple[list[float], list[float]] = ([], [])
    odd = 0
    for at, cell in zip(steps, values, strict=True):
        if cell is None or cell == "":
            continue
        step, value = number(at), number(cell)
        if step is None or value is None:
            odd += 1
            continue
        kept[0].append(step)
        kept[1].append(value)
    return *kept, odd


@pytest.mark.parametrize("kinds", [TEXTS, TEXTS[:6], OTHERS, OTHERS[3:6], [*TEXTS, *OTHERS]])
def test_all_at_once_is_cell_by_cell(kinds: list[Any]):
    rng = random.Random(0)
    for _ in range(50):
        n = rng.randrange(12)
        steps = [rng.choice([*kinds, str(i)] if kinds is TEXTS else kinds) for i in range(n)]
        values = [rng.choice(kinds) for _ in range(n)]
        table = {"step": steps, "loss": values}
        log = from_columns("run", table, table.__getitem__)
        wanted = cell_by_cell(steps, values)
        assert repr(log.points["train_loss"]) == repr(wanted[:2])
        assert log.left_out == (
            [f"{wanted[2]} cells that are no numbers, or have no step"] if wanted[2] else []
        )
        rows = [dict(zip(table, row, strict=True)) for row in zip(steps, values, strict=True)]
        assert repr(from_rows("run", table, rows).points) == repr(log.points)
