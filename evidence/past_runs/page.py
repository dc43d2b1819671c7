"""The page on past runs: what laws, forecasts and suggestions are worth on published curves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evidence import page as pages
from evidence.past_runs import advised, advised_numbers, importing, plan, ways
from evidence.past_runs import cost as costs
from evidence.past_runs import numbers as of
from evidence.past_runs.advised import Advice
from evidence.past_runs.claims import DEFAULT, claims, regrets
from evidence.past_runs.figures import draw
from evidence.past_runs.numbers import Numbers
from evidence.past_runs.plan import Settings
from evidence.past_runs.tried import Trials
from evidence.results import Results
from ratewise.curves.laws import LAWS


class Besides(NamedTuple):
    """What other ways gave."""

    fits: list[list[str]]
    choices: list[list[str]]
    authors: dict[str, tuple[float, float, float]]
    tried: advised_numbers.Numbers
    cost: costs.Cost | None


def write(
    results: Results,
    settings: Settings,
    page: Path,
    advice: Advice,
    timed: dict[str, importing.Unit],
    trials: Trials,
    fitted: dict[str, costs.Unit],
) -> None:
    """Write the page, and its figure beside it."""
    numbers, figure = of.load(results, settings), page.with_suffix(".png").name
    judged = advised_numbers.load(results, advice)
    said = text(
        numbers,
        settings,
        figure,
        judged,
        advice,
        importing.load(results, timed),
        Besides(
            *ways.rows(results, settings),
            ways.authors(results, settings),
            advised_numbers.tried_out(results, trials),
            costs.load(results, fitted),
        ),
    )
    pages.write(page, said, {figure: partial(draw, numbers)})


def text(
    numbers: Numbers,
    settings: Settings,
    figure: str,
    judged: advised_numbers.Numbers,
    advice: Advice,
    cost: importing.Cost,
    besides: Besides,
) -> str:
    """Return the page."""
    drawn, begun = numbers.suggestions, numbers.begun
    return pages.render(
        "past_runs/page.md.j2",
        [
            *claims(numbers, besides.authors),
            *importing.claims(cost),
            *costs.claims(besides.cost),
            *advised_numbers.claims(judged),
        ],
        cost=cost,
        besides=besides,
        costs=costs,
        tried=advised_numbers.rows(besides.tried) if besides.tried.cells else [],
        fit_columns=[x for name in settings.sets for x in (f"{name}: mean", "mean worst", "worst")],
        first=ways.FIRST,
        importing=importing,
        settings=settings,
        advice=advice,
        advised=advised,
        judged=judged,
        methods=advised_numbers.rows(judged) if judged.cells else [],
        by_cell=advised_numbers.by_cell(judged),
        plan=plan,
        default=DEFAULT,
        laws=LAWS,
        shapes=[
            [one.name, one.law, *(f"{x:.3%}" for x in (one.mean, one.mean_worst, one.worst))]
            for one in numbers.shapes
        ],
        curves=[
            [one.name, one.law, name, *(f"{x:.3%}" for x in errors)]
            for one in numbers.shapes
            for name, errors in one.curves.items()
        ],
        lengths=[
            [one.law, f"{one.mean(True):.3%}", f"{one.mean(False):.3%}",
             f"{np.abs(one.error).max():.2%}", f"{one.covered.mean():.1%}",
             f"{len(one.refused)} of {len(one.refused) + len(one.names)}"]
            for one in numbers.lengths
        ],
        trivial=float(np.nanmean(np.abs(numbers.lengths[0].trivial))),
        refused=[f"{name.rpartition('/')[2]} ({end:.3f})"
                 for name, end in numbers.lengths[0].refused],
        twice=int(numbers.lengths[0].twice.sum()),
        others=int((~numbers.lengths[0].twice.astype(bool)).sum()),
        drawn=[
            ["suggested", *regrets(drawn.ours)],
            ["best of the three as it is", *regrets(drawn.as_it_is)],
            ["chance", *regrets(drawn.chance)],
        ],
        few=[
            [one.law, str(one.runs), str(one.draws), f"{one.covered:.1%}", f"{one.error:.2%}",
             f"{one.half:.2%}"]
            for one in numbers.few
        ],
        begun=[
            ["from the first 30%", *regrets(begun.error)],
            ["best match's end", *regrets(begun.match)],
        ],
        begun_covered=float(begun.covered.mean()),
        begun_refused=begun.refused,
        seconds=max(one.seconds for one in numbers.lengths),
        figure=figure,
    )  # fmt: skip
