"""The figure of the study of the ratio: medians over tuned cosine's, by ratio and length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evidence.update_ratio.numbers import MEASURES, Numbers
from ratewise.plotting import PALETTE, Line, Panel, save_panels
from ratewise.rules.ratio_law import DEFAULT


def draw(numbers: Numbers, path: Path, most: float = 2.5) -> None:
    """Draw the medians, those above `most` at it: what matters lies close to 1."""

    def shown(values: Any) -> list[float]:
        return np.minimum(np.exp(values), most).tolist()

    s, panels = numbers.settings, []
    for m, name in enumerate(MEASURES):
        lines = [Line("tuned cosine", "#999999", [0.001, 0.1], [1.0, 1.0])]
        units = {n: numbers.steps == n for n in s.horizons}
        for colour, (n, keep) in zip(PALETTE, units.items(), strict=False):
            medians = shown(np.median(numbers.ours[m, keep], 0))
            lines.append(Line(f"{n} steps", colour, s.ratios, medians))
        rule = [DEFAULT.ratio(n) for n in s.horizons]
        at = shown([np.median(numbers.default[m, keep]) for keep in units.values()])
        lines.append(Line("default", "#000000", rule, at, strong=True))
        label = f"median ratio to tuned cosine, at most {most:g}"
        panels.append(Panel(f"{name} loss", "ratio", label, lines, log_x=True))
    save_panels(panels, path)
