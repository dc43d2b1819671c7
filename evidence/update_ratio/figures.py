"""The figure of the study of the ratio: medians over tuned linear's, by ratio, length, passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evidence.update_ratio.numbers import MEASURES, Numbers
from ratewise.plotting import PALETTE, Line, Panel, save_panels


def draw(numbers: Numbers, path: Path, most: float = 2.0) -> None:
    """Draw the medians, those above `most` at it: what matters lies close to 1."""

    def shown(values: Any) -> list[float]:
        return np.minimum(np.exp(values), most).tolist()

    colours = dict(zip(sorted(set(numbers.steps.tolist())), PALETTE, strict=False))
    panels = []
    for name, group in numbers.groups().items():
        for m, measure in enumerate(MEASURES):
            ends = [numbers.ratios[0], numbers.ratios[-1]]
            lines = [Line("tuned linear", "#999999", ends, [1.0, 1.0])]
            for n in sorted(set(numbers.steps[group].tolist())):
                medians = np.median(numbers.ours[m, group & (numbers.steps == n)], 0)
                lines.append(Line(f"{n} steps", colours[n], list(numbers.ratios), shown(medians)))
            label = f"median over tuned linear, at most {most:g}"
            panels.append(Panel(f"{name}, {measure} loss", "ratio", label, lines, log_x=True))
    save_panels(panels, path)
