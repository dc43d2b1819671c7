"""Panels and forests that can be hovered, in one self-contained page, drawn with plotly."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from ratewise.plotting import Forest, Line, Panel, clipped

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 0 auto; max-width: 72rem;
       padding: 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.lead { font-size: 1.1rem; border-left: 4px solid #D55E00; padding-left: .8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .4rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: left;
         white-space: nowrap; }
thead th { border-bottom: 2px solid #999; }
.better, .tie, .non-inferior { color: #00664a; } .worse { color: #b00020; font-weight: 600; }
.undecided { color: #666; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr));
        gap: .5rem 1.5rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; text-align: center; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem .8rem; margin: .6rem 0; }
.legend button { font: inherit; font-size: .9rem; border: 0; background: none; cursor: pointer;
                 padding: .1rem .2rem; }
.legend i { display: inline-block; width: 1.4rem; border-top: 3px solid; margin-right: .4rem;
            vertical-align: middle; }
.legend .off { opacity: .35; text-decoration: line-through; }
pre { overflow-x: auto; font-size: .85rem; background: #f6f6f6; padding: .6rem; }
small, footer { color: #555; }
"""


#: A click on a name hides its lines in all panels beside it, or shows them again. The first panel
#: of a row is drawn while it has the row to itself: once all are there, each gets its own width.
_SCRIPT = """
addEventListener("load", () => dispatchEvent(new Event("resize")));
function toggle(button) {
  const off = button.classList.toggle("off");
  button.setAttribute("aria-pressed", String(!off));
  for (const plot of button.closest(".panels").querySelectorAll(".js-plotly-plot")) {
    const found = plot.data.map((trace, index) => [trace.legendgroup, index])
      .filter(([name]) => name === button.dataset.name).map(([, index]) => index);
    if (found.length) Plotly.restyle(plot, {visible: !off}, found);
  }
}
"""
_HEIGHT = 320  #: pixels of a panel


def paragraphs(sentences: Sequence[str], kind: str = "") -> str:
    """Return a paragraph a sentence."""
    mark = f' class="{kind}"' if kind else ""
    return "\n".join(f"<p{mark}>{html.escape(sentence)}</p>" for sentence in sentences)


def bullets(sentences: Sequence[str]) -> str:
    """Return a list, an entry a sentence."""
    return "<ul>" + "".join(f"<li>{html.escape(s)}</li>" for s in sentences) + "</ul>"


def plot_panels(panels: Sequence[Panel]) -> str:
    """Return a plot a panel, in as many columns as fit, below the names of all lines.

    A click on a name hides its lines everywhere.
    """
    from plotly import graph_objects as go

    named = {line.name: line.colour for panel in panels for line in panel.lines}
    figures = []
    for panel in panels:
        figure = go.Figure()
        for line in sorted(panel.lines, key=lambda line: line.strong):
            figure.add_traces(_traces(go, line))
        figure.update_xaxes(title_text=panel.x_label, type="log" if panel.log_x else "linear")
        figure.update_yaxes(title_text=panel.y_label, type="log" if panel.log_y else "linear")
        figure.update_layout(height=_HEIGHT, showlegend=False)
        caption = html.escape(panel.title)
        figures.append(f"<figure><figcaption>{caption}</figcaption>{as_html(figure)}</figure>")
    drawn = "".join(figures)
    return f'<div class="panels">{_legend(named)}<div class="grid">{drawn}</div></div>'


def _legend(named: dict[str, str]) -> str:
    """Return a button a line, which hides it."""
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-name="{html.escape(name)}" '
        f'onclick="toggle(this)"><i style="border-color:{colour}"></i>{html.escape(name)}</button>'
        for name, colour in named.items()
    )
    return f'<div class="legend">{buttons}</div>'


def _traces(go: Any, line: Line) -> list[Any]:
    """The line, and its band as one closed shape."""
    traces = [
        go.Scatter(
            x=list(line.x),
            y=list(line.y),
            name=line.name,
            legendgroup=line.name,
            mode="lines+markers" if len(line.x) <= 12 else "lines",
            line={"color": line.colour, "width": 3 if line.strong else 1.5},
        )
    ]
    band = [
        (x, low, high)
        for x, low, high in zip(line.x, line.low, line.high, strict=True)
        if low == low and high == high  # a gap in the line is a gap in the band
    ]
    if len(band) > 1:
        x, low, high = (list(values) for values in zip(*band, strict=True))
        traces.insert(
            0,
            go.Scatter(
                x=x + x[::-1],
                y=high + low[::-1],
                fill="toself",
                fillcolor=line.colour,
                opacity=0.15,
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                legendgroup=line.name,
            ),
        )
    return traces


def plot_forest(forest: Forest) -> str:
    """Return a forest plot."""
    from plotly import graph_objects as go

    figure = go.Figure()
    rows = list(range(len(forest.bars)))
    for row, bar in zip(rows, forest.bars, strict=True):
        low, middle, high = clipped(bar, forest.limits)
        figure.add_trace(
            go.Scatter(
                x=[low, middle, high],
                y=[row, row, row],
                mode="lines+markers",
                marker={"size": [0, 9, 0]},
                line={"color": bar.colour, "width": 2.5},
                showlegend=False,
                hovertemplate=(
                    f"{html.escape(bar.label)}<br>"
                    f"{bar.estimate:.3f} [{bar.low:.3f}, {bar.high:.3f}]<extra></extra>"
                ),
            )
        )
    figure.add_vrect(1 / forest.shade, forest.shade, fillcolor="#000", opacity=0.07, line_width=0)
    figure.add_vline(1.0, line_width=1)
    figure.update_xaxes(
        type="log",
        range=[math.log10(limit) for limit in forest.limits],
        tickvals=[0.5, 0.7, 1.0, 1.4, 2.0],
        ticktext=["0.5", "0.7", "1", "1.4", "2"],
        tickangle=0,
    )
    figure.update_yaxes(
        tickvals=rows, ticktext=[bar.label for bar in forest.bars], range=[len(rows) - 0.4, -0.6]
    )
    figure.update_layout(height=90 + 24 * len(rows))
    caption, below = html.escape(forest.title), html.escape(forest.x_label)
    return (
        f"<figure><figcaption>{caption}</figcaption>{as_html(figure)}"
        f"<small>{below[0].upper()}{below[1:]}.</small></figure>"
    )


def as_html(figure: Any) -> str:
    """Return a plotly figure in the pages' look, as wide as there is room."""
    figure.update_layout(
        template="plotly_white", margin={"l": 60, "r": 20, "t": 30, "b": 55}, autosize=True
    )
    figure.update_xaxes(exponentformat="power")
    figure.update_yaxes(exponentformat="power", automargin=True)
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config={"displaylogo": False, "responsive": True},
    )


def page(title: str, body: Sequence[str]) -> str:
    """Return the whole page, with the plotting library inside it once."""
    from plotly.offline import get_plotlyjs

    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script><script>{_SCRIPT}</script></head>\n"
        f"<body>\n{content}\n</body></html>\n"
    )
