"""The page on GreedyLR's defaults: what was chosen, on what, and how it did."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evidence import page as pages
from evidence.cells import BEFORE, BEFORE_LR, Cell
from evidence.greedy_defaults import numbers as of
from evidence.greedy_defaults import plan
from evidence.greedy_defaults.claims import claims
from evidence.greedy_defaults.figures import draw
from evidence.greedy_defaults.numbers import CONDITIONS, Judged, Numbers, Score
from evidence.greedy_defaults.plan import CONTROL, FALL, OLD, OURS, SEVEN, Settings
from evidence.results import Results
from ratewise.compare.report.tables import ratio
from ratewise.compare.statistics import VERDICTS, cell_interval

#: Candidates that the page shows; the results have all.
SHOWN = 12
#: Half decades around tuned cosine's rate, and their names.
SHIFTS = {-1: "3 times too low", 0: "at its rate", 1: "3 times too high"}


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and where anything was judged its figure."""
    numbers, figure = of.load(results, settings), page.with_suffix(".png").name
    drawn = {figure: partial(draw, numbers)} if numbers.cells else {}
    pages.write(page, text(numbers, figure), drawn)


def text(numbers: Numbers, figure: str) -> str:
    """Return the page."""
    s, cells = numbers.settings, numbers.cells
    return pages.render(
        "greedy_defaults/page.md.j2",
        claims(numbers),
        n=numbers,
        settings=s,
        before=BEFORE,
        before_lr=BEFORE_LR,
        nano=plan.NANO,
        nano_ramp=plan.NANO_RAMP,
        nano_rate=plan.NANO_RATE,
        floor=of.FLOOR,
        conditions=CONDITIONS,
        candidates=len(s.candidates()),
        shown=SHOWN,
        develop=_sets(s.develop),
        judged=_sets(s.judged),
        seven=SEVEN,
        figure=figure,
        scores=_scores(numbers.scores, s),
        margins=_margins(numbers),
        against={ours: _against(numbers, ours) for ours in (OURS, OLD) if cells},
        verdicts=list(VERDICTS),
        shifts=list(SHIFTS.values()),
        parts=_parts(cells),
        cells=[_cell(cell) for cell in cells],
        edges=sum(
            k in (0, len(x) - 1) for c in cells for x in c.grid.values() for k in [of.best(x)]
        ),
        optima=sum(len(cell.grid) for cell in cells),
        extended=sum(len(cell.final[OURS]) > len(s.seeds) for cell in cells),
        given=[
            [
                name,
                f"{math.exp(x.mean()):.3f}",
                ratio(cell_interval((numbers.given[OURS] - x).tolist())),
            ]
            for name, x in numbers.given.items()
        ],
        old=OLD,
        fall=FALL,
        control=CONTROL,
    )


def _sets(cells: Sequence[Cell]) -> str:
    return ", ".join(dict.fromkeys(cell.data for cell in cells))


def _x(log: float) -> str:
    return "-" if math.isnan(log) else f"{math.exp(log):.3f}"


def _scores(ranked: Sequence[Score], settings: Settings) -> list[list[str]]:
    """Return the best candidates, the worst, and all that are none."""
    ours = {str(candidate) for candidate in settings.candidates()}
    mine = [x for x in ranked if x.name in ours]
    shown = mine[:SHOWN] + mine[SHOWN:][-1:] + [x for x in ranked if x.name not in ours]
    return [[x.name, *map(_x, (x.mean, *x.each, x.high))] for x in shown]


def _margins(numbers: Numbers) -> list[list[str]]:
    """Return what each value of a setting did, the mean over all candidates that have it."""
    by_name, rows = {x.name: x for x in numbers.scores}, []
    candidates = [c for c in numbers.settings.candidates() if str(c) in by_name]
    for place, field in enumerate(plan.Candidate._fields):
        for value in sorted({c[place] for c in candidates}):
            found = [by_name[str(c)] for c in candidates if c[place] == value]
            means = np.mean([(x.mean, *x.each, x.high) for x in found], 0)
            rows.append([field, str(value), *map(_x, means.tolist())])
    return rows


def _against(numbers: Numbers, ours: str) -> list[list[Any]]:
    """Return a row a rival: tuned, at the same rate, at rates that are off, and cells."""
    rows = []
    for name in (FALL, *SEVEN, "restarts", OLD, "transformers", CONTROL):
        if name == ours:
            continue
        tuned, same = (ratio(of(name, ours=ours)) for of in (numbers.ratio, numbers.same))
        shifted = [ratio(numbers.shifted(name, shift, ours=ours)) for shift in SHIFTS]
        words = numbers.verdicts((name,), ours)
        rows.append([name, tuned, same, *shifted, *map(words.count, VERDICTS)])
    return rows


def _parts(cells: Sequence[Judged]) -> list[list[str]]:
    """Return geometric means over the cells of each kind."""
    kinds: dict[str, Callable[[Cell], str]] = {
        "batch": lambda cell: str(cell.batch),
        "steps": lambda cell: str(cell.steps),
        "optimizer": lambda cell: cell.optimizer,
        "start": lambda cell: "further" if cell.further else "scratch",
        "data": lambda cell: cell.data,
    }
    rows = []
    for kind, of_cell in kinds.items():
        for value in dict.fromkeys(of_cell(x.cell) for x in cells):
            there = [x for x in cells if of_cell(x.cell) == value]
            tuned = [np.mean([x.ratio(name).mean() for x in there]) for name in _NARROW]
            same = np.mean([x.same("cosine").mean() for x in there])
            found = [x.shifted("cosine", 1) for x in there]
            high = np.mean([x for x in found if not math.isnan(x)] or [math.nan])
            rows.append([kind, value, str(len(there)), *map(_x, (*tuned, same, high))])
    return rows


_NARROW = ("cosine", "linear", FALL, OLD)


def _cell(one: Judged) -> list[str]:
    rates = one.cell.optimizer
    tuned = [ratio(cell_interval(one.ratio(name).tolist())) for name in _NARROW]
    rate = Settings(rates=len(one.grid[OURS])).grid(rates)[of.best(one.grid[OURS])]
    loss = f"{math.exp(float(one.final[OURS].mean())):.3g}"
    seeds = str(len(one.final[OURS]))
    return [
        str(one.cell),
        f"{rate:.3g}",
        loss,
        seeds,
        *tuned,
        *(_x(one.shifted("cosine", k)) for k in SHIFTS),
    ]
