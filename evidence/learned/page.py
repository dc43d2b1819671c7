"""The page on what needs no rate: every table, from the numbers that are there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evidence import page as pages
from evidence.learned import numbers as of
from evidence.learned import rules, unseen
from evidence.learned.claims import claims
from evidence.learned.figures import draw
from evidence.learned.numbers import Judged, Numbers
from evidence.learned.plan import Settings
from evidence.learned.rules import KINDS, LINEAR, ONLINE, OTHER, OURS, POLICY, RANDOM, UNKNOWN
from evidence.learned.runs import FLOOR, MEASURES
from evidence.results import Results
from ratewise.compare.report.tables import ratio
from ratewise.compare.statistics import CAP, Interval, cell_interval
from ratewise.rules import learned

Rows = list[list[str]]
#: The columns of the table of cells, and the rows of that by kind.
NARROW = (OURS, UNKNOWN, POLICY, rules.COSINE)


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page."""
    numbers, figure = of.load(results, settings), page.with_suffix(".png").name
    drawn = {figure: partial(draw, numbers)} if numbers.cells else {}
    pages.write(page, text(numbers, figure), drawn)


def text(numbers: Numbers, figure: str) -> str:
    """Return the page."""
    cells = numbers.cells
    kinds = Counter(cell.unit.kind for cell in cells)
    return pages.render(
        "learned/page.md.j2",
        claims(numbers),
        settings=numbers.settings,
        cells=cells,
        trainings=numbers.trainings,
        kinds=", ".join(f"{count} of {kind}" for kind, count in kinds.items()),
        sets=", ".join(dict.fromkeys(cell.unit.cell.data for cell in cells)),
        floor=FLOOR,
        cap=CAP,
        longer=rules.LONGER,
        names={
            "unknown": UNKNOWN,
            "batch": rules.BATCH,
            "online": ONLINE,
            "random": RANDOM,
            "other": OTHER,
        },
        overall=_overall(numbers.keep(), numbers),
        looks=[
            [look, *row]
            for look, first in (("first", True), ("second", False))
            for row in _overall(numbers.look(first), numbers, NARROW)
        ],
        first=", ".join(unseen.SETS),
        figure=figure,
        lengths=learned.load("default").lengths,
        parts=_parts(numbers),
        prodigy=_prodigy(numbers),
        nano=_nano(numbers),
        failed={
            name: sum(cell.failed.get(name, 0) for cell in cells if cell.survives)
            for name in numbers.methods()
        },
        edges=sum(cell.edge for cell in cells),
        columns=list(NARROW),
        each=[_cell(cell) for cell in cells],
    )


def _both(cells: Sequence[Judged], ours: str, theirs: str = LINEAR) -> list[str]:
    """Return the mean with its interval and nine tenths, for each loss."""
    found = []
    for m in range(len(MEASURES)):
        tenth = of.tenth(cells, ours, theirs, m)
        mean = ratio(of.against(cells, ours, theirs, m))
        found.append("-" if math.isnan(tenth) else f"{mean}; {tenth:.2f}")
    return found


def _count(cells: Sequence[Judged], *names: str) -> str:
    return str(sum(cell.has(*names) for cell in cells))


def _overall(cells: Sequence[Judged], numbers: Numbers, of: Sequence[str] = ()) -> Rows:
    names = [name for name in of or numbers.methods() if name != LINEAR]
    return [[name, _count(cells, name), *_both(cells, name)] for name in names]


def _parts(numbers: Numbers) -> Rows:
    rows = []
    for kind in numbers.kinds():
        for length in (*numbers.lengths(kind), None):
            cells = numbers.keep(kind, length)
            for name in NARROW:
                if any(cell.has(name) for cell in cells):
                    size = "all" if length is None else f"{length:,}"
                    shares = ratio(of.steps(cells, name))
                    row = [kind, size, _count(cells, name), name, *_both(cells, name), shares]
                    rows.append(row)
    return rows


def _prodigy(numbers: Numbers) -> Rows:
    rows = []
    for length in numbers.lengths():
        cells = [cell for cell in numbers.keep(steps=length) if cell.has("prodigy")]
        for name in (OURS, POLICY):
            if cells:
                both = _both(cells, name, "prodigy")
                rows.append([f"{length:,}", str(len(cells)), name, *both])
    return rows


def _nano(numbers: Numbers) -> Rows:
    found = []
    for cell in numbers.keep(KINDS[3]):
        for name in numbers.methods():
            if cell.has(name) and name != LINEAR:
                both = [_over(cell, name, m) for m in range(len(MEASURES))]
                found.append([name, *map(ratio, both)])
    return found


def _over(cell: Judged, name: str, measure: int) -> Interval:
    return cell_interval(cell.ratio(name, LINEAR, measure).tolist())


def _cell(cell: Judged) -> list[str]:
    shown = []
    for name in NARROW:
        both = [math.exp(cell.ratio(name, LINEAR, m).mean()) for m in range(len(MEASURES))]
        shown.append(" / ".join(f"{x:.3f}" for x in both))
    return [str(cell.unit), *shown]
