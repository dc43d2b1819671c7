"""One self-contained HTML page: tables, and plots that can be hovered, without a network."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from ratewise.compare.report.tables import Table
from ratewise.plotting import Forest, Panel, clipped

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
small, footer { color: #555; }
"""


def paragraphs(sentences: Sequence[str], kind: str = "") -> str:
    """Return a paragraph a sentence."""
    mark = f' class="{kind}"' if kind else ""
    return "\n".join(f"<p{mark}>{html.escape(sentence)}</p>" for sentence in sentences)


def bullets(sentences: Sequence[str]) -> str:
    """Return a list, an entry a sentence."""
    return "<ul>" + "".join(f"<li>{html.escape(s)}</li>" for s in sentences) + "</ul>"


def table(content: Table) -> str:
    """Return an HTML table; verdicts are coloured."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in content.header)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in content.rows)
    caption = html.escape(content.caption)
    return (
        f'<div class="scroll"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    known = ("better", "tie", "non-inferior", "undecided", "worse")
    mark = f' class="{text}"' if text in known else ""
    return f"<td{mark}>{html.escape(text)}</td>"


_ROW = 340  #: pixels of a row of panels
_BETWEEN_ROWS = 100  #: of which so many lie between two: the upper's x label, the lower's title


def plot_panels(panels: Sequence[Panel]) -> str:
    """Return a plot of the panels in a grid; one click on the legend hides a line everywhere."""
    from plotly import graph_objects as go
    from plotly.subplots import make_subplots

    columns = min(2, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[panel.title for panel in panels],
        vertical_spacing=_BETWEEN_ROWS / (_ROW * rows - 70),
        horizontal_spacing=0.09,
    )
    named: set[str] = set()
    for index, panel in enumerate(panels):
        row, column = index // columns + 1, index % columns + 1
        for line in sorted(panel.lines, key=lambda line: line.strong):
            for trace in _traces(go, line, first=line.name not in named):
                figure.add_trace(trace, row, column)
            named.add(line.name)
        figure.update_xaxes(
            title_text=panel.x_label, type="log" if panel.log_x else "linear", row=row, col=column
        )
        figure.update_yaxes(
            title_text=panel.y_label, type="log" if panel.log_y else "linear", row=row, col=column
        )
    figure.update_layout(height=_ROW * rows + 110, legend={"orientation": "h", "y": -0.18 / rows})
    return _div(figure)


def _traces(go: Any, line: Any, *, first: bool) -> list[Any]:
    """The line, and its band as one closed shape."""
    traces = [
        go.Scatter(
            x=list(line.x),
            y=list(line.y),
            name=line.name,
            legendgroup=line.name,
            showlegend=first,
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
                showlegend=False,
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
        tickvals=[0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0],
        title_text=forest.x_label,
    )
    figure.update_yaxes(
        tickvals=rows, ticktext=[bar.label for bar in forest.bars], range=[len(rows) - 0.4, -0.6]
    )
    figure.update_layout(title=forest.title, height=160 + 24 * len(rows))
    return _div(figure)


def _div(figure: Any) -> str:
    figure.update_layout(
        template="plotly_white", margin={"l": 60, "r": 20, "t": 60, "b": 60}, autosize=True
    )
    figure.update_xaxes(exponentformat="power")
    figure.update_yaxes(exponentformat="power", automargin=True)
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})


def page(title: str, body: Sequence[str]) -> str:
    """Return the whole page, with the plotting library inside it once."""
    from plotly.offline import get_plotlyjs

    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head>\n<body>\n{content}\n</body></html>\n"
    )
