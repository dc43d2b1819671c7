"""The page on GreedyLR's defaults: what was chosen, on what, and how it did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evidence import page as pages
from evidence.greedy_defaults.claims import GOAL, OURS, claims, reached
from evidence.greedy_defaults.numbers import Score
from evidence.greedy_defaults.plan import OPTIMIZERS, Settings
from ratewise.compare import analysis, report
from ratewise.compare.analysis import Pair
from ratewise.compare.report import tables
from ratewise.runs import Store

#: Rows of round 1 that the page shows; the store has all.
SHOWN = 12


def write(
    settings: Settings,
    first: Sequence[Score],
    second: Sequence[Score],
    chosen: dict[str, Any],
    final: Store,
    page: Path,
) -> None:
    """Write the page."""
    said = report.content(analysis.load(final))
    pairs = [pair for pair in said.tuned if pair.ours in OURS]
    text = pages.render(
        "greedy_defaults/page.md.j2",
        claims(pairs),
        settings=settings,
        optimizers=OPTIMIZERS,
        chosen=", ".join(f"{name}={value!r}" for name, value in chosen.items()),
        goal=GOAL,
        reached=[reached(name, pairs) for name in OURS],
        goals=[_goals(pair) for pair in pairs],
        undecided=sum(pair.verdicts["undecided"] for pair in pairs),
        cells=sum(len(pair.cells) for pair in pairs),
        rounds=settings.rounds,
        candidates=len(first),
        finalists=len(second) // 2,
        shown=SHOWN,
        scores=[_scores([*first[:SHOWN], *first[SHOWN:][-1:]]), _scores(second)],
        margins=_margins(first),
        said=said,
    )
    pages.write(page, text)


def _goals(pair: Pair) -> list[Any]:
    return [
        pair.ours,
        pair.baseline,
        f"{pair.non_inferior} of {len(pair.cells)}",
        f"{pair.non_inferior} of {pair.decided}",
        pair.verdicts["better"],
        pair.verdicts["worse"],
        tables.ratio(pair.overall),
    ]


def _scores(ranked: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the cells, and a row a candidate."""
    cells = list(ranked[0].log_ratios)
    rows = []
    for score in ranked:
        logs = (score.mean, score.median, *(score.log_ratios[cell] for cell in cells))
        rows.append([score.name, *(f"{math.exp(x):.3f}" for x in logs)])
    return [", ".join(cell) for cell in cells], rows


def _margins(ranked: Sequence[Score]) -> list[list[str]]:
    rows = []
    for name in ("factor", "patience", "window", "reference", "plateau"):
        for value in sorted({score.options[name] for score in ranked}):
            means = [score.mean for score in ranked if score.options[name] == value]
            rows.append([name, str(value), f"{math.exp(float(np.mean(means))):.3f}"])
    return rows
