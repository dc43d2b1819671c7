"""The page on UpdateRatioLR's ratio: losses, regret, the law, fine-tuning, online corrections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from evidence import page as pages
from evidence.results import Results
from evidence.update_ratio import corrections, plan
from evidence.update_ratio import numbers as of
from evidence.update_ratio.claims import HARM, against_alone, claims, fit
from evidence.update_ratio.figures import draw
from evidence.update_ratio.numbers import MEASURES, SHARES, WITH, Law, Numbers
from evidence.update_ratio.plan import Settings, Unit
from ratewise.compare.statistics import CAP, Interval
from ratewise.rules import online
from ratewise.rules.ratio_law import DEFAULT, FRESH, PRETRAINED, WITH_PASSES

Rows = list[list[str]]


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and its figure beside it."""
    numbers, figure = of.load(results, settings), page.with_suffix(".png").name
    tried = corrections.there(results) if settings.forms else []
    forms = corrections.rows(results, tried)
    said = text(numbers, settings, figure, forms, tried)
    pages.write(page, said, {figure: partial(draw, numbers)})


def text(
    numbers: Numbers, settings: Settings, figure: str, forms: Rows, tried: Sequence[Unit]
) -> str:
    """Return the page."""
    found = fit(numbers)
    return pages.render(
        "update_ratio/page.md.j2",
        claims(numbers, found),
        settings=settings,
        runs=numbers.runs,
        units=len(numbers.units),
        planned=len(plan.units(settings)),
        lengths=sorted(set(numbers.steps.tolist())),
        floor=of.FLOOR,
        cap=CAP,
        flat=of.FLAT,
        fresh=FRESH,
        by_heart=of.BY_HEART,
        powers=len(of.BATCH_POWERS),
        batches=sorted(set(numbers.batches.tolist())),
        laws=len(WITH),
        law=WITH_PASSES,
        default=DEFAULT,
        pretrained=PRETRAINED,
        before=plan.BEFORE,
        earlier=of.EARLIER,
        reference=plan.ONLINE,
        online=online,
        harm=HARM,
        fit=found,
        words=_words,
        against=_against(numbers),
        shares=[f"{x:g}" for x in SHARES],
        tuning=[[n, *(f"{x:.3f}" for x in row)] for n, row in found.shares.items()],
        corrected=_corrected(numbers),
        forms=forms,
        every=corrections.EVERY,
        tried=len(tried),
        untried=len(corrections.UNITS) - len(tried),
        steps=sorted({unit.steps for unit in tried}),
        by_unit=_by_unit(numbers),
        regrets=_regrets(numbers),
        figure=figure,
    )


def _words(law: Law) -> str:
    """Return a law as it is written.

    >>> _words((0.02, 0.2, 4.0, 0.3)), _words((0.02, 0.6, 1.0, 0.0))
    ('0.02 (300/T)^0.2 min(1, (4/E)^0.3)', '0.02 (300/T)^0.6')
    """
    level, power, free, fall = law
    passes = f" min(1, ({free:g}/E)^{fall:g})" if fall else ""
    return f"{level:g} (300/T)^{power:g}{passes}"


def _short(found: Interval) -> str:
    """Return a ratio with its interval in two digits.

    >>> _short(Interval(0.0, -0.0513, 0.0488, 5))
    '1.00 [0.95, 1.05]'
    """
    middle, low, high = found.ratio()
    return f"{middle:.2f}" if math.isinf(high) else f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _against(numbers: Numbers) -> Rows:
    """Return a row a group and loss: the law, the compromise, what came before; over linear."""
    rows = []
    ratios = (numbers.default(True), numbers.default(False), numbers.earlier())
    columns = [numbers.at(wanted, numbers.ours) for wanted in ratios]
    columns.append(numbers.named["before"])
    for name, keep in numbers.groups().items():
        for m, measure in enumerate(MEASURES):
            means = [_short(numbers.interval(column[m], keep)) for column in columns]
            tenth = [f"{math.exp(np.quantile(column[m, keep], 0.9)):.2f}" for column in columns]
            both = [f"{mean}; {most}" for mean, most in zip(means, tenth, strict=True)]
            rows.append([name, measure, *both])
    return rows


def _corrected(numbers: Numbers) -> Rows:
    """Return a row a correction and group: geometric means and largest, over the same alone."""
    rows = []
    for method in numbers.named:
        if not method.startswith(("online", "random")):
            continue
        found = against_alone(numbers, method)
        for name, keep in numbers.groups().items():
            those = keep & np.isfinite(found[1])
            if those.any():
                cells = [
                    f"{math.exp(x[those].mean()):.3f} ({math.exp(x[those].max()):.3f})"
                    for x in found
                ]
                rows.append([method, name, str(int(those.sum())), *cells])
    return rows


def _regrets(numbers: Numbers) -> dict[str, Rows]:
    """Return rows by measure; a row is a group and a length."""
    found = {}
    for m, measure in enumerate(MEASURES):
        rows = []
        for name, group in numbers.groups().items():
            for length in sorted(set(numbers.steps[group].tolist())):
                values = numbers.regret[m, group & (numbers.steps == length)].mean(0)
                rows.append([name, str(length), *(f"{x:.3f}" for x in values)])
        found[measure] = rows
    return found


def _by_unit(numbers: Numbers) -> Rows:
    """Return a row a unit: the best ratio and the law's, and what it ends at over tuned linear."""
    law, wanted = numbers.at(numbers.default(True), numbers.ours), numbers.default(True)
    rows = []
    for k, unit in enumerate(numbers.units):
        best = [f"{numbers.ratios[int(numbers.ours[m, k].argmin())]:g}" for m in (0, 1)]
        least = [f"{math.exp(numbers.ours[m, k].min()):.3f}" for m in (0, 1)]
        at = [f"{math.exp(law[m, k]):.3f}" for m in (0, 1)]
        size = [str(unit.steps), f"{numbers.passes[k]:.3g}"]
        both = [" / ".join(x) for x in (best, least, at)]
        row = [unit.task, unit.optimizer, *size, *both[:2], f"{wanted[k]:.4f}", both[2]]
        rows.append(row)
    return rows
