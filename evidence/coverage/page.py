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
from ratewise.compare.statistics import ENOUGH_SETS, FEW, LEVEL_OF_FEW


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page."""
    pages.write(page, text(numbers.load(results, settings), settings))


def text(found: Sequence[Found], settings: Settings) -> str:
    """Return the page."""
    own = [one for one in found if one.unit.printed]
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
        without=[[*_where(x), f"{x.without:.1%}", f"{x.false:.1%}"] for x in own if x.without],
        tried=_tried(found),
        few=FEW,
        level=LEVEL_OF_FEW,
        enough=ENOUGH_SETS,
        resamples=draws.RESAMPLES,
        controls=[[*_where(x), f"{x.missed:.1%}"] for x in found if x.unit.way == plan.BOOTSTRAP],
    )


def _where(one: Found) -> list[str]:
    return [one.unit.design.name, one.unit.world.name]


def _tried(found: Sequence[Found]) -> list[list[str]]:
    """Return errors and widths of what was tried over few units, beside what is printed."""
    pairs = {
        (x.unit.design, x.unit.world) for x in found if x.unit.way in (plan.PLAIN, plan.SKEWED)
    }
    shown = [x for x in found if (x.unit.design, x.unit.world) in pairs]
    return [
        [*_where(x), x.unit.way or "printed", f"{x.missed:.1%}", f"{x.width:.3f}"]
        for x in sorted(shown, key=lambda x: (*_where(x), x.missed))
    ]


def _table(own: Sequence[Found], measure: str) -> list[list[str]]:
    """Return a row a design: its name, where it is printed, a share a world."""
    rows: dict[plan.Design, list[str]] = {}
    for one in own:
        design = one.unit.design
        row = rows.setdefault(design, [design.name, design.printed])
        row.append(f"{getattr(one, measure):.1%}")
    return list(rows.values())
