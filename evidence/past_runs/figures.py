"""The figures of the study of past runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evidence.past_runs.numbers import Numbers
from ratewise.plotting import PALETTE, Line, Panel, save_panels


def draw(numbers: Numbers, path: Path) -> None:
    """Draw how errors and regrets are distributed: the share of runs or draws at most so far."""
    panels = []
    for one in numbers.lengths:
        twice = one.twice.astype(bool)
        parts = {
            "seen at two lengths": np.abs(one.error[twice]),
            "other settings": np.abs(one.error[~twice]),
            "T^-1/2": np.abs(one.trivial[twice]),
        }
        panels.append(_panel(f"longer runs, {one.law}", "relative error, %", parts))
    drawn, begun = numbers.suggestions, numbers.begun
    parts = {
        "suggested": drawn.ours,
        "best of three": drawn.as_it_is,
        "chance": drawn.chance,
    }
    panels.append(_panel("next run from three past ones", "above the best, %", parts, most=3.0))
    parts = {"from 30%": begun.error, "best match": begun.match}
    panels.append(_panel("end of a begun run", "relative error, %", parts, most=3.0))
    save_panels(panels, path)


def _panel(title: str, x_label: str, parts: dict[str, np.ndarray], most: float = 1.0) -> Panel:
    lines = []
    for name, values in parts.items():
        if len(values):
            x = np.minimum(100 * np.sort(values), most)
            y = 100 * np.arange(1, len(x) + 1) / len(x)
            lines.append(Line(name, _COLOURS[name], x.tolist(), y.tolist()))
    return Panel(title, f"{x_label}, at most {most:g}", "share, %", lines)


_NAMES = (
    "seen at two lengths", "other settings", "T^-1/2", "suggested",
    "best of three", "chance", "from 30%", "best match",
)  # fmt: skip
_COLOURS = dict(zip(_NAMES, PALETTE, strict=False))
