"""The page of a forecast: past runs, the law's fit, the forecast with its band, and the plan."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ratewise.curves.curve import Curve, Floats
from ratewise.curves.forecast import LossLaw
from ratewise.curves.points import Points, points
from ratewise.errors import invalid
from ratewise.files import writing
from ratewise.files.contents import shown
from ratewise.plotting import PALETTE, Line, Panel, save_panels
from ratewise.rules.plan import Plan

SUFFIXES = (".html", ".md")
#: Runs that are drawn and listed, points of a drawn line, and knots that are listed.
_RUNS, _POINTS, _KNOTS = 40, 200, 20
_GREY = "#999999"
#: Share of a run from which on its loss is drawn: before it, losses fall by more than they differ.
_FROM = 0.15
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right}"
    "table{display:block;overflow-x:auto}pre{overflow-x:auto}"
    "td:first-child,th:first-child{text-align:left}tr+tr{border-top:1px solid #ddd}"
    "img{max-width:100%}pre{white-space:pre-wrap}"
)


def check_suffix(path: Path) -> None:
    """Raise unless a page can be written to this file.

    Raises:
        InvalidArgument: it does not end in .html or .md.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise invalid("--report", "a file that ends in .html or .md", str(path), "rename it")


def write(
    path: Path,
    law: LossLaw,
    curves: Sequence[Curve],
    plan: Plan,
    said: str,
    begun: Curve | None = None,
) -> None:
    """Write the page; a page in Markdown has its figure beside it.

    Args:
        path: the file, .html or .md.
        law: what was fitted.
        curves: the runs that it was fitted to, and perhaps others.
        plan: what is forecast.
        said: the forecast in words.
        begun: what is known so far of the training itself.

    Raises:
        InvalidArgument: the file has another ending.
        CannotWrite: the file system refused.
    """
    check_suffix(path)
    seen = [points(curve, law.loss) for curve in curves if curve.name in set(law.runs)]
    panels = _panels(law, seen[:: -(-len(seen) // _RUNS)], plan, begun)
    tables = [_runs(law, seen), _knots(plan)]
    title = f"Forecast for {plan.total_steps:,} steps"
    if path.suffix.lower() == ".md":
        figure = path.with_suffix(".png")
        save_panels(panels, figure)
        parts = [f"# {title}", _fenced(said), f"![past runs, fit, forecast]({figure.name})"]
        parts += [_markdown(*table) for table in tables]
        writing.write(path, "\n\n".join(parts) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        figure = Path(folder) / "figure.png"
        save_panels(panels, figure)
        picture = base64.b64encode(figure.read_bytes()).decode()
    body = "".join(
        [
            f"<h1>{html.escape(title)}</h1><pre>{html.escape(said)}</pre>",
            f'<img alt="past runs, fit, forecast" src="data:image/png;base64,{picture}">',
            *(_html(*table) for table in tables),
        ]
    )
    writing.write(
        path,
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{body}</body></html>\n",
    )


# -- what is drawn --------------------------------------------------------------------------


def _panels(law: LossLaw, seen: Sequence[Points], plan: Plan, begun: Curve | None) -> list[Panel]:
    losses, rates = [], []
    for run in seen:
        late = run.steps >= _FROM * run.length
        at, fitted = run.steps[late].tolist(), law.fitted.losses([run])[late]
        losses += [
            Line("past runs", _GREY, at, run.loss[late].tolist()),
            Line("law's fit", PALETTE[1], at, fitted.tolist()),
        ]
        rates.append(_rates("past runs", _GREY, run.rates))
    wanted = plan.rates()
    first = max(2, int(_FROM * len(wanted)))
    if begun is not None:
        own = points(begun, law.loss)
        late, first = own.steps >= min(first, own.length // 2), own.length
        losses.append(
            Line(
                "so far", PALETTE[2], own.steps[late].tolist(), own.loss[late].tolist(), strong=True
            )
        )
    ends = np.unique(np.geomspace(first, len(wanted), 24).astype(int))
    ahead = law.predict([wanted[:end] for end in ends], outside="allow", begun=begun)
    losses.append(
        Line(
            "plan",
            PALETTE[0],
            ends.tolist(),
            [one.loss for one in ahead],
            [one.low for one in ahead],
            [one.high for one in ahead],
            strong=True,
        )
    )
    rates.append(_rates("plan", PALETTE[0], wanted, strong=True))
    which = {"held_out": "held-out loss", "train": "training loss"}[law.loss]
    return [
        Panel(f"{which}, with a 90% band", "optimizer step", which, losses),
        Panel("learning rate", "optimizer step", "learning rate", rates),
    ]


def _rates(name: str, colour: str, rates: Floats, strong: bool = False) -> Line:
    """Return the line of a schedule, from where its rate is known on: before, it is 0."""
    first = int(np.flatnonzero(rates)[0])
    at = np.unique(np.linspace(first, len(rates) - 1, _POINTS).astype(int))
    return Line(name, colour, (at + 1).tolist(), rates[at].tolist(), strong=strong)


# -- what is listed -------------------------------------------------------------------------

_Table = tuple[str, list[str], list[list[str]]]


def _runs(law: LossLaw, seen: Sequence[Points]) -> _Table:
    """Return the table of the runs that were fitted: their ends, and what the law says of them."""
    rows = []
    for run in seen[:_RUNS]:
        end, fitted = float(run.loss[-1]), float(law.fitted.losses([run])[-1])
        rows.append(
            [
                shown(run.name, 60),
                f"{run.length:,}",
                f"{run.peak:.4g}",
                f"{end:.4f}",
                f"{fitted:.4f}",
                f"{fitted / end - 1:+.2%}",
            ]
        )
    more = f", {_RUNS} of {len(seen)}" if len(seen) > _RUNS else ""
    header = ["run", "steps", "highest rate", "loss at its end", "the law's", "off by"]
    return f"Past runs{more}", header, rows


def _knots(plan: Plan) -> _Table:
    """Return the table of the plan's knots, of which a long plan shows some."""
    knots = plan.knots
    at = np.unique(np.linspace(0, len(knots) - 1, _KNOTS).astype(int))
    rows = [[f"{knots[i][0]:,}", f"{knots[i][1]:.6g}"] for i in at]
    more = f", {len(at)} of {len(knots)} knots" if len(at) < len(knots) else ""
    return f"Plan {plan.digest}{more}", ["step", "learning rate"], rows


def _fenced(text: str) -> str:
    return f"```text\n{text.replace('```', '')}\n```"


def _markdown(title: str, header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    cells = ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
    return f"## {title}\n\n" + "\n".join(cells)


def _html(title: str, header: list[str], rows: list[list[str]]) -> str:
    def row(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(x)}</{tag}>" for x in cells) + "</tr>"

    body = row(header, "th") + "".join(row(cells, "td") for cells in rows)
    return f"<h2>{html.escape(title)}</h2><table>{body}</table>"
