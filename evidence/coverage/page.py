"""The page on intervals: where they miss, where they are wider than they need be, all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evidence import page as pages
from evidence.coverage import draws, numbers, plan
from evidence.coverage.claims import claims
from evidence.coverage.numbers import Found
from evidence.coverage.plan import Settings
from evidence.results import Results


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page."""
    pages.write(page, text(numbers.load(results, settings), settings))


def text(found: Sequence[Found], settings: Settings) -> str:
    """Return the page."""
    own = [one for one in found if not one.unit.control]
    missed = sorted((one for one in own if one.errs), key=lambda one: -one.missed)
    return pages.render(
        "coverage/page.md.j2",
        claims(found),
        plan=plan,
        settings=settings,
        misses=[[*_where(one), f"{one.missed:.1%}", f"{one.false:.1%}"] for one in missed],
        cautious=[[*_where(one), f"{one.missed:.1%}"] for one in own if one.cautious],
        worlds=[world.name for world in settings.worlds],
        errors=_table(own, "missed"),
        opposite=_table(own, "false"),
        resamples=draws.RESAMPLES,
        controls=[[*_where(x), f"{x.missed:.1%}"] for x in found if x.unit.control],
    )


def _where(one: Found) -> list[str]:
    return [one.unit.design.name, one.unit.world.name]


def _table(own: Sequence[Found], measure: str) -> list[list[str]]:
    """Return a row a design: its name, where it is printed, a share a world."""
    rows: dict[plan.Design, list[str]] = {}
    for one in own:
        design = one.unit.design
        row = rows.setdefault(design, [design.name, design.printed])
        row.append(f"{getattr(one, measure):.1%}")
    return list(rows.values())
