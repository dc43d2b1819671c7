"""Panels of lines and of intervals, drawn with matplotlib into a PNG.

A panel is plain numbers, so that another renderer can draw the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Colour-blind safe (Okabe & Ito, then Tol's muted ones), in the order in which lines ask for one.
PALETTE = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#332288",
    "#999933",
    "#882255",
    "#44AA99",
    "#AA4499",
    "#666666",
)


@dataclass(frozen=True)
class Line:
    """A line with a band; `strong` ones are what the picture is about."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    strong: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines on one pair of axes."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Bar:
    """An estimate between its bounds, one row of a `Forest`."""

    label: str
    colour: str
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Forest:
    """Ratios with intervals, a row each, around 1; `shade` is the range that claims allow."""

    title: str
    x_label: str
    bars: Sequence[Bar]
    limits: tuple[float, float] = (0.5, 2.0)
    shade: float = 1.02


def clipped(bar: Bar, limits: tuple[float, float]) -> tuple[float, float, float]:
    """Return low, estimate and high inside the limits; an unbounded end meets the edge.

    >>> clipped(Bar("a", "k", 1.0, 0.0, math.inf), (0.5, 2.0))
    (0.5, 1.0, 2.0)
    """
    low, middle, high = (
        min(max(x, limits[0]), limits[1]) for x in (bar.low, bar.estimate, bar.high)
    )
    return low, middle, high


def save_panels(panels: Sequence[Panel], path: Path, columns: int = 2) -> None:
    """Draw the panels in a grid, with one legend for all, and write a PNG."""
    figure, axes = _grid(len(panels), columns)
    handles: dict[str, Any] = {}
    for axis, panel in zip(axes, panels, strict=False):
        for line in sorted(panel.lines, key=lambda line: line.strong):
            (drawn,) = axis.plot(
                line.x,
                line.y,
                color=line.colour,
                linewidth=2.4 if line.strong else 1.2,
                marker="o" if len(line.x) <= 12 else None,
                markersize=3.5,
                label=line.name,
            )
            handles[line.name] = drawn
            if len(line.low):
                axis.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.15, lw=0)
        axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        axis.set_xscale("log" if panel.log_x else "linear")
        axis.set_yscale("log" if panel.log_y else "linear")
        axis.grid(alpha=0.25)
    order = {line.name: None for panel in panels for line in panel.lines}
    figure.legend(
        [handles[name] for name in order],
        list(order),
        loc="outside lower center",
        ncols=min(6, max(1, len(order))),
        frameon=False,
    )
    _finish(figure, path)


def save_forest(forest: Forest, path: Path) -> None:
    """Draw a forest plot and write a PNG."""
    from matplotlib.figure import Figure

    rows = len(forest.bars)
    figure = Figure(figsize=(9, 1.4 + 0.24 * rows), layout="constrained")
    axis = figure.subplots()
    axis.axvspan(1 / forest.shade, forest.shade, color="#000000", alpha=0.07, lw=0)
    axis.axvline(1.0, color="#000000", linewidth=0.8)
    for row, bar in enumerate(forest.bars):
        low, middle, high = clipped(bar, forest.limits)
        axis.plot([low, high], [row, row], color=bar.colour, linewidth=2)
        axis.plot([middle], [row], "o", color=bar.colour, markersize=5)
    axis.set_xscale("log")
    axis.set(xlim=forest.limits, ylim=(rows - 0.4, -0.6), title=forest.title)
    axis.set_xlabel(forest.x_label)
    axis.set_yticks(range(rows), [bar.label for bar in forest.bars], fontsize=8)
    ticks = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
    inside = [x for x in ticks if forest.limits[0] <= x <= forest.limits[1]]
    axis.set_xticks(inside, [f"{x:g}" for x in inside])
    axis.minorticks_off()
    axis.grid(axis="x", alpha=0.25)
    _finish(figure, path)


def _grid(count: int, columns: int) -> tuple[Any, list[Any]]:
    """Return a figure without pyplot (no global state, no display) and its axes."""
    from matplotlib.figure import Figure

    columns = min(columns, max(1, count))
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, list(axes[:count])


def _finish(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    figure.savefig(temporary, dpi=110, format="png")
    temporary.replace(path)
