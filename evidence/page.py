"""A page: a template with the words, numbers that are handed in; written whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from evidence import claims
from evidence.claims import Claim
from ratewise.compare.report.tables import Table, chance, number, ratio, told
from ratewise.compare.statistics import ENOUGH_SETS

#: Draws a figure into the file that it is given.
Draw = Callable[[Path], None]
#: How ratios over several tasks are made, in the words of every page.
HOW_POOLED = (
    f"where they share fewer than {ENOUGH_SETS} data sets there is also one over data sets, and "
    "the wider is printed and followed, or of a median as far as either reaches (`python -m "
    "evidence coverage`: how often they err)"
)


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown whose columns line up where it is read as text.

    >>> print(table(["method", "runs"], [["cosine", 3]]))
    | method | runs |
    | ------ | ---: |
    | cosine |    3 |
    """
    text = [[str(cell) for cell in row] for row in rows]
    # of three signs or more, for the line below needs room
    return Table("", [f"{cell!s:>3}" for cell in header], text).markdown()


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,  # a number that is not handed in is an error, no blank
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals |= {"table": table, "claims_table": claims.table, "titles": claims.titles}
    found.globals |= {"chance": chance, "how_pooled": HOW_POOLED}
    found.filters |= {
        "ratio": ratio,
        "told": told,
        "number": number,
        "g": lambda x, digits=6: f"{x:.{digits}g}",
        "f": lambda x, digits=3: f"{x:.{digits}f}",
        "percent": lambda x, digits=0: f"{x:.{digits}%}",
        "thousands": lambda x: f"{x:,}",
    }
    return found


def render(template: str, claimed: Sequence[Claim], /, **values: Any) -> str:
    """Return the page as Markdown.

    Args:
        template: its path below `evidence`; it extends `page.md.j2`.
        claimed: what the page begins with.
        values: what else the template asks for.

    Raises:
        jinja2.UndefinedError: the template asks for something that is not given.
    """
    text = _environment().get_template(template).render(claims=claims.corrected(claimed), **values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write(path: Path, text: str, figures: Mapping[str, Draw] | None = None) -> None:
    """Write a page and its figures beside it: all of them, or where something fails none.

    Args:
        path: the Markdown file.
        text: what `render` returned.
        figures: by file name, what draws it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".page-", dir=path.parent) as folder:
        for name, draw in (figures or {}).items():
            draw(Path(folder) / name)
        (Path(folder) / path.name).write_text(text, encoding="utf-8")
        for name in [*(figures or {}), path.name]:
            os.replace(Path(folder) / name, path.with_name(name))
