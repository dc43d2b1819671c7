"""The pictures of the study of noise: family by noise, and the intervals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from evidence.robustness.numbers import QUIET, WHERE, Numbers, interval
from evidence.robustness.plan import OURS
from ratewise.plotting import PALETTE, Bar, Forest, Heat, save_forest, save_heat


def draw_heat(numbers: Numbers, path: Path) -> None:
    """Draw the median ratio of `greedy` to `cosine`, a panel a place of the noise."""
    families = list(numbers.settings.families)
    panels = []
    for where, keep in WHERE.items():
        if where == "no noise":
            continue
        columns = [QUIET, *(c for c in numbers.conditions if keep(c))]
        at = [numbers.conditions.index(c) for c in columns]
        values = []
        for family in families:
            x = numbers.of("score", family, "greedy") - numbers.of("score", family, "cosine")
            values.append([math.exp(_median(x[..., i])) for i in at])
        panels.append(Heat(f"noise {where}", families, [kind for kind, _ in columns], values))
    save_heat(panels, path, "clean final loss, greedy / cosine")


def _median(x: np.ndarray) -> float:
    x = x[~np.isnan(x)]
    return float(np.median(x)) if x.size else math.nan


def draw_forest(numbers: Numbers, path: Path) -> None:
    """Draw the intervals of our schedules against cosine and a constant rate."""
    there, bars = numbers.settings.schedules, []
    for colour, ours in zip(PALETTE, (name for name in OURS if name in there), strict=False):
        for theirs in (name for name in ("cosine", "constant") if name in there):
            for where, keep in WHERE.items():
                found = interval(numbers.log_ratios(ours, theirs, keep))
                if found.n > 1:
                    label = f"{ours} / {theirs}, {where}"
                    bars.append(Bar(label, colour, *found.ratio()))
    title = "Clean final loss at the same rate: geometric mean, 95% interval"
    save_forest(Forest(title, "ratio of losses", bars, limits=(0.02, 5.0)), path)
