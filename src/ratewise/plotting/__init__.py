"""Panels of lines and of intervals, and a scheduler's run, drawn with matplotlib into a PNG.

A panel is plain numbers, so that another renderer can draw the same picture.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ratewise.errors import extra_named, invalid, wrong_type
from ratewise.files import writing

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


#: Characters of a panel's title that fit on one line of it.
_TITLE = 46


@dataclass(frozen=True)
class Line:
    """A line, optionally with a band; `strong` lines are emphasised."""

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
    plain_y: bool = False  #: plain numbers at 1, 2, 5 and so on, for a `log_y` of few decades


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
                label=_plain(line.name),
            )
            handles[line.name] = drawn
            if len(line.low):
                axis.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.15, lw=0)
        title = textwrap.fill(_plain(panel.title), _TITLE)
        axis.set(title=title, xlabel=panel.x_label, ylabel=panel.y_label)
        axis.set_xscale("log" if panel.log_x else "linear")
        axis.set_yscale("log" if panel.log_y else "linear")
        drawn_x = [x for line in panel.lines for x in line.x if x > 0]
        if panel.log_x and drawn_x:
            _plain_ticks(axis.xaxis, min(drawn_x), max(drawn_x))
        drawn_y = [y for line in panel.lines for y in (*line.y, *line.low, *line.high) if y > 0]
        if panel.log_y and panel.plain_y and drawn_y:
            _log_y(axis, drawn_y)
        axis.grid(alpha=0.25)
    order = {line.name: None for panel in panels for line in panel.lines}
    figure.legend(
        [handles[name] for name in order],
        [_plain(name) for name in order],
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
    axis.set(xlim=forest.limits, ylim=(rows - 0.4, -0.6), title=_plain(forest.title))
    axis.set_xlabel(forest.x_label)
    axis.set_yticks(range(rows), [_plain(bar.label) for bar in forest.bars], fontsize=8)
    ticks = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
    if forest.limits[1] > 10.0 * forest.limits[0]:
        ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    inside = [x for x in ticks if forest.limits[0] <= x <= forest.limits[1]]
    axis.set_xticks(inside, [f"{x:g}" for x in inside])
    axis.minorticks_off()
    axis.grid(axis="x", alpha=0.25)
    _finish(figure, path)


#: How the reasons for a change of the rate are drawn: marker and colour, so that grey will do.
REASON_MARKS = {
    "increase": ("^", PALETTE[2]),
    "decrease": ("v", PALETTE[0]),
    "warmup": (">", PALETTE[4]),
    "cooldown": ("<", PALETTE[5]),
    "reset": ("D", PALETTE[3]),
    "rollback": ("X", PALETTE[6]),
}
_OTHER_MARK = ("o", PALETTE[11])


def look_of(reason: str) -> tuple[str, str]:
    """Return the marker and colour of a reason.

    >>> look_of("increase"), look_of("rescale")
    (('^', '#009E73'), ('o', '#666666'))
    """
    return REASON_MARKS.get(reason, _OTHER_MARK)


def recorded(scheduler: Any) -> tuple[list[tuple[int, float, float]], list[Any]]:
    """Return the points (step, metric, rate) and the events that a scheduler has kept.

    Raises:
        WrongType: `scheduler` has no trace and events.
        InvalidArgument: it has not decided yet.
    """
    if not (hasattr(scheduler, "trace") and hasattr(scheduler, "events")):
        fix = "pass e.g. the ratewise.GreedyLR of a training loop"
        raise wrong_type("scheduler", "a ratewise scheduler", scheduler, fix)
    points, events = list(scheduler.trace), list(scheduler.events)
    if not points:
        fix = "call step(loss) in a training loop first"
        raise invalid("scheduler", "one that has decided", "one without a decision", fix)
    return points, events


def plot_schedule(
    scheduler: Any,
    path: str | Path | None = None,
    *,
    x_label: str = "optimizer step",
    y_label: str = "loss",
) -> Any:
    """Draw a scheduler's loss and rate over its steps, with the reason for every change marked.

    Above is the metric that was decided on, below the first scheduled group's rate, which holds
    from each point to the next. A mark stands where the rate changed: on the rate after it, and
    on the smoothed loss that decided. A run of any length is drawn from the points, at most 256,
    and the changes, the last 256, that a scheduler keeps. Rates on a device are waited for.

    Args:
        scheduler: a ratewise scheduler that has decided at least once.
        path: PNG to write, its folder included; None writes nothing.
        x_label: what a step of the schedule is, where it is not an optimizer step.
        y_label: what the metric is, where it is not a loss.

    Returns:
        A matplotlib Figure with two axes.

    Raises:
        WrongType: `scheduler` has no trace and events.
        InvalidArgument: it has not decided yet, or `path` does not end in .png.
        MissingExtra: matplotlib is not installed.
    """
    if path is not None and Path(path).suffix.lower() != ".png":
        raise invalid("path", "a file name that ends in .png", str(path), "pass 'rate.png'")
    points, events = recorded(scheduler)
    with extra_named("ratewise.plot", "compare"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_losses(above, points, events)
    _draw_rates(below, points, events)
    rate = "learning rate" if len(scheduler.get_last_lr()) == 1 else "learning rate, first group"
    changes = {0: "no change of the rate", 1: "one change of the rate"}.get(
        len(events), f"the last {len(events)} changes of the rate"
    )
    marked = ", marked on it and on the smoothed loss" if events else ""
    above.set(ylabel=y_label, title=f"{type(scheduler).__name__}: {changes}{marked}")
    below.set(ylabel=rate, xlabel=x_label)
    below.xaxis.get_major_locator().set_params(integer=True)
    handles = [handle for axis in (above, below) for handle in axis.get_legend_handles_labels()[0]]
    columns = len(handles) if len(handles) <= 5 else math.ceil(len(handles) / 2)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        markerscale=1.4,
        frameon=False,
    )
    if path is not None:
        _finish(figure, Path(path))
    return figure


def _draw_losses(axis: Any, points: Sequence[tuple[int, float, float]], events: Any) -> None:
    """Draw the metrics, mark non-finite ones at the bottom, and the smoothed loss at changes."""
    steps = [step for step, _, _ in points]
    losses = [loss if math.isfinite(loss) else math.nan for _, loss, _ in points]
    marker = "." if len(points) <= 40 else None
    axis.plot(steps, losses, color="#999999", lw=0.9, marker=marker, label="loss")
    heard = {step: loss for step, loss, _ in points} | {e.step: e.metric for e in events}
    if spoilt := sorted(step for step, loss in heard.items() if not math.isfinite(loss)):
        style = {"color": "#000000", "marker": "x", "ls": "none", "label": "loss not finite"}
        bottom = [0.04] * len(spoilt)
        axis.plot(spoilt, bottom, **style, transform=axis.get_xaxis_transform())
    decided = [event._replace(new_lr=(event.smoothed,)) for event in events]
    _mark(axis, [event for event in decided if math.isfinite(event.smoothed)], named=False)
    finite = [loss for loss in losses if loss == loss]
    if finite and min(finite) > 0 and max(finite) >= 10 * min(finite):
        _log_y(axis, finite)
    axis.grid(alpha=0.25)


def _draw_rates(axis: Any, points: Sequence[tuple[int, float, float]], events: Any) -> None:
    """Draw the rate as it held, on a logarithmic scale, and a mark at each change."""
    rates = {step: rate for step, _, rate in points}
    rates |= {event.step: event.new_lr[0] for event in events}
    steps = sorted(rates)
    drawn = [rates[step] if rates[step] > 0 else math.nan for step in steps]  # 0 has no logarithm
    axis.plot(steps, drawn, color=PALETTE[1], lw=1.3, drawstyle="steps-post", label="learning rate")
    _mark(axis, events, named=True)
    if positive := [rate for rate in drawn if rate == rate]:
        _log_y(axis, positive)
    axis.grid(alpha=0.25)


def _mark(axis: Any, events: Any, named: bool) -> None:
    """Mark each event at its step and new rate."""
    found = {event.reason for event in events}
    for reason in (*REASON_MARKS, *sorted(found - set(REASON_MARKS))):
        if reason not in found:
            continue
        marker, colour = look_of(reason)
        these = [event for event in events if event.reason == reason]
        axis.plot(
            [event.step for event in these],
            [event.new_lr[0] for event in these],
            ls="none",
            marker=marker,
            color=colour,
            markersize=7 if len(these) <= 40 else 5,
            markeredgecolor="#FFFFFF",
            markeredgewidth=0.4,
            label=f"{reason} ({len(these)})" if named else f"_{reason}",
            zorder=3,
        )


def _log_y(axis: Any, values: Sequence[float]) -> None:
    """Make the vertical axis logarithmic, a factor of 4 to 1e5 high, with plain numbers."""
    low, high = min(values) / 1.25, max(values) * 1.25
    widen = max(1.0, math.sqrt(4 * low / high))
    low, high = max(low / widen, high / 1e5), high * widen  # a schedule may end next to 0
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    _plain_ticks(axis.yaxis, low, high)


def _plain_ticks(axis: Any, low: float, high: float) -> None:
    """Mark a logarithmic axis with plain numbers, where it is short at 1, 2, 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


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


def _plain(name: str) -> str:
    """Return a name as text: what stands between two dollar signs would be drawn as a formula."""
    return name.replace("$", r"\$")


def _finish(figure: Any, path: Path) -> None:
    with writing.whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
