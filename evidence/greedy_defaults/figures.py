"""The figure of the study: what a rate that is off costs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from evidence.greedy_defaults.numbers import Numbers, at
from evidence.greedy_defaults.plan import FALL, OLD, OURS
from ratewise.plotting import PALETTE, Line, Panel, save_panels

SHOWN = (OURS, OLD, FALL, "cosine", "linear", "constant")
#: Half decades around tuned cosine's rate.
SHIFTS = range(-3, 3)


def draw(numbers: Numbers, path: Path) -> None:
    """Draw the geometric mean over cells of the loss over tuned cosine's, by rate."""
    panels = []
    for optimizer in sorted({cell.cell.optimizer for cell in numbers.cells}):
        cells = [cell.grid for cell in numbers.cells if cell.cell.optimizer == optimizer]
        lines = []
        for name, colour in zip(SHOWN, PALETTE, strict=False):
            middle = {}
            for shift in SHIFTS:
                logs = [at(cell, name, shift) - at(cell, "cosine", 0) for cell in cells]
                there = [x for x in logs if not math.isnan(x)]
                if 2 * len(there) > len(cells):
                    middle[10 ** (shift / 2)] = math.exp(float(np.mean(there)))
            lines.append(Line(name, colour, [*middle], [*middle.values()], strong=name == OURS))
        label = "loss over tuned cosine's, geometric mean"
        panels.append(
            Panel(
                optimizer,
                "rate over tuned cosine's",
                label,
                lines,
                log_x=True,
                log_y=True,
                plain_y=True,
            )
        )
    save_panels(panels, path)
