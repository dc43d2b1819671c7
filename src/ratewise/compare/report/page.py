"""The tables of a comparison's page; `ratewise.plotting.interactive` has the rest of it."""

from __future__ import annotations

import html

from ratewise.compare.report.tables import Table


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
