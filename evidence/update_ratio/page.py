"""The page on UpdateRatioLR's ratio: losses, regret, and the rule that follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from evidence import page as pages
from evidence.results import Results
from evidence.update_ratio import numbers as of
from evidence.update_ratio.claims import claims, fit
from evidence.update_ratio.figures import draw
from evidence.update_ratio.numbers import MEASURES, RULES, Numbers
from evidence.update_ratio.plan import Settings
from ratewise.compare.statistics import CAP, TIE, Interval
from ratewise.rules.ratio_law import DEFAULT


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and its figure beside it."""
    numbers, figure = of.load(results, settings), page.with_suffix(".png").name
    pages.write(page, text(numbers, figure), {figure: partial(draw, numbers)})


def text(numbers: Numbers, figure: str) -> str:
    """Return the page."""
    s, found = numbers.settings, fit(numbers)
    failed = [f"{diverged}/{risen}" for diverged, risen in numbers.failed.T]
    count = len(s.ratios)
    usual = np.median(numbers.cosine, -1)
    return pages.render(
        "update_ratio/page.md.j2",
        claims(numbers, found),
        settings=s,
        runs=len(numbers.steps) * (count + s.rates) * len(s.seeds),
        runs_each=len(numbers.steps) * len(s.seeds),
        measures=MEASURES,
        groups=list(numbers.groups()),
        small=of.SMALL,
        floor=of.FLOOR,
        cap=CAP,
        flat=of.FLAT,
        rules=len(RULES),
        default=DEFAULT,
        fit=found,
        rule=lambda rule: f"{rule[0]:g} (300/T)^{rule[1]:g}",
        failed={f"{r:g}": x for r, x in zip(s.ratios, failed, strict=False) if x != "0/0"},
        failed_cosine=failed[count:],
        against=_against(numbers),
        by_task=_by_task(numbers),
        medians=_rows(numbers, _medians, numbers.ours, numbers.default, usual),
        regrets=_rows(numbers, _means, numbers.regret, numbers.default_regret),
        fits=_fits(numbers),
        figure=figure,
    )


def _against(numbers: Numbers) -> list[list[str]]:
    rows = []
    for length in (*numbers.settings.horizons, 0):
        keep = (numbers.steps == length) | (length == 0)
        for m, name in enumerate(MEASURES):
            x, tie = numbers.default[m, keep], math.log(TIE)
            counts = [(x < -tie).sum(), (abs(x) <= tie).sum(), (x > tie).sum()]
            parts = [_short(numbers.interval(m, keep & g)) for g in numbers.groups().values()]
            rows.append([f"{length or 'all'}", name, " / ".join(map(str, counts)), *parts])
    return rows


def _short(found: Interval) -> str:
    """Return a ratio with its interval in two digits.

    >>> _short(Interval(0.0, -0.0513, 0.0488, 5))
    '1.00 [0.95, 1.05]'
    """
    middle, low, high = found.ratio()
    return f"{middle:.2f}" if math.isinf(high) else f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _medians(values: np.ndarray) -> list[str]:
    return [f"{x:.3f}" if x < 10 else f"{x:.1f}" for x in np.exp(np.median(values, 0))]


def _means(values: np.ndarray) -> list[str]:
    return [f"{x:.3f}" for x in values.mean(0)]


def _rows(
    numbers: Numbers, shown: Callable[[np.ndarray], list[str]], *columns: np.ndarray
) -> dict[str, list[list[str]]]:
    """Return rows by measure; a row is a length and a group of units."""
    found = {}
    for m, name in enumerate(MEASURES):
        values = np.column_stack([column[m] for column in columns])
        found[name] = [
            [str(length), group, *shown(values[keep & (numbers.steps == length)])]
            for length in numbers.settings.horizons
            for group, keep in numbers.groups().items()
        ]
    return found


def _fits(numbers: Numbers) -> list[list[str]]:
    s, rows = numbers.settings, []
    found = of.scores(numbers.regret, numbers.steps, s.ratios)
    order = np.argsort(of.criterion(found), kind="stable")[:10]
    shown = [(of.horizon_of(RULES[k], s.ratios), found[k]) for k in order]
    for rule, regret in [*shown, (DEFAULT, numbers.default_regret)]:
        regrets = [f"{x:.3f}" for x in (regret.sum(0).mean(), *regret.mean(-1))]
        at = [f"{rule.ratio(length):.4f}" for length in s.horizons]
        rows.append([f"{rule.level:g}", f"{rule.power:g}", *regrets, *at])
    return rows


def _by_task(numbers: Numbers) -> list[list[str]]:
    rows = []
    for name in numbers.settings.tasks:
        keep = [(numbers.tasks == name) & (numbers.steps == n) for n in numbers.settings.horizons]
        means = [np.exp(numbers.default[:, units].mean(-1)) for units in keep]
        rows.append([name, *(" / ".join(f"{x:.2f}" for x in both) for both in means)])
    return rows
