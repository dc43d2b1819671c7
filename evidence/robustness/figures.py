"""The pictures of the study of noise: family by noise, and the intervals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from evidence.robustness.numbers import QUIET, WHERE, Condition, Numbers, interval
from evidence.robustness.plan import OURS
from ratewise.plotting import PALETTE, Bar, Forest, save_forest

#: Of the logarithms at which the colours end.
END = math.log(2)


def draw_heat(numbers: Numbers, path: Path) -> None:
    """Draw the median ratio of `greedy` to `cosine`, a grid a place of the noise.

    It is blue below 1 and red above; what was not run is blank.
    """
    places = {where: keep for where, keep in WHERE.items() if where != "no noise"}
    families = numbers.settings.families
    grids = [[QUIET, *(c for c in numbers.conditions if keep(c))] for keep in places.values()]
    width, height = max(map(len, grids)), len(families) * len(grids)
    size = 2.6 + 0.85 * width, 1.2 + 0.34 * height + 0.9 * len(grids)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(grids), 1, squeeze=False).ravel()
    for axis, where, grid in zip(axes, places, grids, strict=True):
        logs = np.array([[_log_ratio(numbers, family, c) for c in grid] for family in families])
        image = axis.imshow(logs, cmap="RdBu_r", vmin=-END, vmax=END, aspect="auto")
        for (row, column), log in np.ndenumerate(logs):
            if not math.isnan(log):
                colour, x = "#FFFFFF" if abs(log) > 0.6 * END else "#000000", math.exp(log)
                text = f"{x:.2f}" if x < 10 else f"{x:.0f}"
                style = {"ha": "center", "va": "center", "fontsize": 7, "color": colour}
                axis.text(column, row, text, **style)
        kinds = [kind for kind, _ in grid]
        axis.set_xticks(range(len(grid)), kinds, rotation=25, ha="right", fontsize=8)
        axis.set_yticks(range(len(families)), families, fontsize=8)
        axis.set_title(f"noise {where}", fontsize=10)
    label = "clean final loss, greedy / cosine"
    bar = figure.colorbar(image, ax=list(axes), shrink=0.6, label=label)
    marks = np.linspace(-END, END, 5).tolist()
    bar.set_ticks(marks, labels=[f"{mark:.2g}" for mark in np.exp(marks)])
    figure.savefig(path, dpi=110, format="png")


def _log_ratio(numbers: Numbers, family: str, condition: Condition) -> float:
    """Return the median over rates and seeds; NaN where there was no such run."""
    at = numbers.conditions.index(condition)
    greedy, cosine = (numbers.of("score", family, name)[..., at] for name in ("greedy", "cosine"))
    x = (greedy - cosine)[~np.isnan(greedy - cosine)]
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
