"""A run's own page: loss, rate, and why the rate changed, in one file that opens anywhere."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ratewise.errors import extra_named, invalid
from ratewise.files import writing
from ratewise.plotting import PALETTE, REASON_MARKS, look_of, recorded
from ratewise.plotting.interactive import as_html, page

#: The plotly signs of the reasons' markers.
_SIGNS = {
    "^": "triangle-up",
    "v": "triangle-down",
    ">": "triangle-right",
    "<": "triangle-left",
    "D": "diamond",
    "X": "x",
    "o": "circle",
}
_HEIGHT = 300  #: pixels of a plot


def write(scheduler: Any, path: str | Path) -> Path:
    """Write the page of a scheduler's run so far.

    Above is what was decided on, below the first scheduled group's rate; hovering over a mark says
    why the rate changed there. Points and changes are those that a scheduler keeps, at most 256
    of each. Rates on a device are waited for.

    Args:
        scheduler: a ratewise scheduler that has decided at least once.
        path: the file, which ends in .html; its folder is made.

    Returns:
        The path.

    Raises:
        WrongType, InvalidArgument: as `ratewise.plot`.
        MissingExtra: plotly is not installed.
        CannotWrite: the file system refused.
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise invalid("path", "a file name that ends in .html", str(path), "pass 'run.html'")
    points, events = recorded(scheduler)
    name = type(scheduler).__name__
    said = io.StringIO()
    scheduler.explain(file=said)
    with extra_named("scheduler.report", "compare"):
        body = [
            f"<h1>{html.escape(name)}</h1>",
            f"<p>{html.escape(_summary(points, events, _measured(scheduler)))}</p>",
            f"<h2>{_measured(scheduler).capitalize()}</h2>",
            _losses(points, events, _measured(scheduler)),
            "<h2>Learning rate</h2>",
            _rates(points, events),
            f"<h2>The last decisions</h2><pre>{html.escape(said.getvalue())}</pre>",
        ]
        whole = page(f"{name}: a run", body)
    writing.write(path, whole)
    return path


def _measured(scheduler: Any) -> str:
    """Return what the trace has: losses, or what steps move of the weights."""
    return "typical ||dp|| / ||p||" if hasattr(scheduler, "ratios") else "loss"


def _summary(points: Sequence[tuple[int, float, float]], events: Sequence[Any], label: str) -> str:
    last, metric, rate = points[-1]
    changes = {0: "nothing but a schedule has changed the rate", 1: "one change is marked"}.get(
        len(events), f"the last {len(events)} changes of the rate are marked"
    )
    return f"{last:,} steps; at the end a {label} of {metric:.4g}, a rate of {rate:.4g}; {changes}."


def _losses(points: Sequence[tuple[int, float, float]], events: Sequence[Any], label: str) -> str:
    steps = [step for step, _, _ in points]
    losses = [loss if math.isfinite(loss) else None for _, loss, _ in points]
    marks = [(event.step, event.smoothed, event) for event in events]
    found = [loss for loss in losses if loss is not None]
    log = bool(found) and min(found) > 0 and max(found) >= 10 * min(found)
    return _plot(label, steps, losses, marks, "#777777", log=log, shape="linear")


def _rates(points: Sequence[tuple[int, float, float]], events: Sequence[Any]) -> str:
    rates = {step: rate for step, _, rate in points}
    rates |= {event.step: event.new_lr[0] for event in events}
    steps = sorted(rates)
    drawn = [rates[step] if rates[step] > 0 else None for step in steps]  # 0 has no logarithm
    marks = [(event.step, event.new_lr[0], event) for event in events]
    return _plot("learning rate", steps, drawn, marks, PALETTE[1], log=True, shape="hv")


def _plot(
    label: str,
    steps: Sequence[int],
    values: Sequence[float | None],
    marks: Sequence[tuple[int, float, Any]],
    colour: str,
    *,
    log: bool,
    shape: str,
) -> str:
    """Return a line with marks, each of which says why."""
    from plotly import graph_objects as go

    figure = go.Figure(
        go.Scatter(
            x=list(steps),
            y=list(values),
            name=label,
            mode="lines+markers" if len(steps) <= 40 else "lines",
            line={"color": colour, "width": 1.5, "shape": shape},
        )
    )
    known = list(REASON_MARKS)
    reasons = {event.reason for _, _, event in marks}
    for reason in sorted(reasons, key=lambda x: (known.index(x) if x in known else 99, x)):
        these = [
            mark
            for mark in marks
            if mark[2].reason == reason and math.isfinite(mark[1] or math.nan)
        ]
        sign, fill = look_of(reason)
        figure.add_trace(
            go.Scatter(
                x=[step for step, _, _ in these],
                y=[value for _, value, _ in these],
                name=f"{reason} ({len(these)})",
                mode="markers",
                marker={"symbol": _SIGNS[sign], "color": fill, "size": 9},
                text=[html.escape(event.words()) for _, _, event in these],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text=label, type="log" if log else "linear")
    figure.update_layout(
        height=_HEIGHT + 60,
        showlegend=bool(marks),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return as_html(figure)
