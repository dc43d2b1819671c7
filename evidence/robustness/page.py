"""The page on noise: our numbers beside the paper's, and what follows from them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from evidence import page as pages
from evidence import simulated
from evidence.results import Results
from evidence.robustness import claims, plan
from evidence.robustness.figures import draw_forest, draw_heat
from evidence.robustness.numbers import QUIET, WHERE, Numbers, as_in_the_paper, interval, load
from evidence.robustness.plan import FULL, LATER, OURS, SWEEP_BOUNDS, Settings, sweep_name
from ratewise.compare.report.tables import ratio
from ratewise.compare.statistics import Interval, verdict

#: What the paper reports of its 8,100 runs: median final loss, median recovery, steps to recover.
PAPER = {
    "greedy-paper": ("0.148", "134x", "12"),
    "cosine": ("0.232", "", "45"),
    "restarts": ("0.226", "", ""),
    "exponential": ("0.249", "", ""),
}
_SIGNS = {"better": " +", "worse": " -", "tie": " =", "non-inferior": " =", "undecided": ""}


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and its figures beside it."""
    numbers = load(results, settings)
    heat, forest = (f"{page.stem}-{kind}.png" for kind in ("heat", "forest"))
    figures = {heat: partial(draw_heat, numbers), forest: partial(draw_forest, numbers)}
    units = plan.wanted(settings)
    earlier = simulated.earlier(results, units), len(units)
    pages.write(page, text(numbers, heat, forest, earlier), figures)


def text(numbers: Numbers, heat: str, forest: str, earlier: tuple[int, int] = (0, 0)) -> str:
    """Return the page.

    Args:
        numbers: what came out.
        heat, forest: names of the figures' files.
        earlier: units that an earlier version of the simulator made, of how many.
    """
    settings = numbers.settings
    return pages.render(
        "robustness/page.md.j2",
        claims.claims(numbers),
        settings=settings,
        full=settings.lrs == FULL.lrs and settings.seeds == FULL.seeds,
        optimizer=plan.OPTIMIZER,
        runs=plan.distinct(settings),
        cells=sum(int(np.isfinite(x).sum()) for x in numbers.measures["score"].values()),
        lower=claims.lower(numbers),
        reasons=claims.reasons(numbers),
        recovery=claims.recovery(numbers),
        places=claims.places(numbers),
        threshold=claims.threshold(numbers),
        changed=claims.changed(numbers),
        verdict=lambda found: {"worse": "higher", "better": "lower"}.get(
            verdict(found), verdict(found)
        ),
        where=list(WHERE),
        paired={name: _paired(numbers, name, tuned=False) for name in _ours(settings)},
        tuned={name: _paired(numbers, name, tuned=True) for name in _ours(settings)},
        pooled=[_pooled(numbers, name) for name in settings.schedules],
        cost=[
            [name, *(ratio(interval(numbers.costs(name, WHERE[x]))) for x in list(WHERE)[1:])]
            for name in settings.schedules
        ],
        factors=_factors(numbers),
        families=[_family(name) for name in settings.families],
        heat=heat,
        forest=forest,
        earlier=earlier,
    )


def _ours(settings: Settings) -> list[str]:
    return [name for name in OURS if name in settings.schedules]


def _family(name: str) -> str:
    options = plan.FAMILIES[name][1]
    inside = ", ".join(f"{key} {value}" for key, value in options.items() if key != "data")
    return name + (f" ({options.get('data', inside)})" if options else "")


def _paired(numbers: Numbers, ours: str, *, tuned: bool) -> list[list[str]]:
    """Return the rows of one of our schedules: a baseline, its ratios by place of the noise."""
    method = numbers.tuned_log_ratios if tuned else numbers.log_ratios
    return [
        [theirs, *(_short(interval(method(ours, theirs, keep))) for keep in WHERE.values())]
        for theirs in numbers.settings.schedules
        if theirs not in OURS or (ours in LATER and theirs == "greedy")
    ]


def _short(found: Interval) -> str:
    """Return a ratio, its interval and one sign for the verdict.

    >>> _short(Interval(-0.1, -0.2, -0.05, 5))
    '0.905 [0.82, 0.95] +'
    """
    if found.n <= 1:
        return "-"
    middle, low, high = found.ratio()
    return f"{middle:.3f} [{low:.2f}, {high:.2f}]{_SIGNS[verdict(found)]}"


def _pooled(numbers: Numbers, name: str) -> list[str]:
    last, recovery, steps = (
        numbers.pooled(measure, name, as_in_the_paper) for measure in ("last", "recovery", "steps")
    )
    paper = [f" ({value})" if value else "" for value in PAPER.get(name, ("", "", ""))]
    low, high = (_quantile(last, q) for q in (0.1, 0.9))
    return [
        name,
        str(len(last)),
        f"{np.median(last):.3g}{paper[0]}",
        f"{low:.2g} to {high:.2g}",
        f"{np.median(recovery):.3g}x{paper[1]}",
        f"{recovery.max():.3g}x",
        f"{_quantile(steps, 0.5):.3g}{paper[2]}",
    ]


def _quantile(values: np.ndarray, q: float) -> float:
    """Return a quantile without interpolating: some values are infinite."""
    return float(np.quantile(values, q, method="nearest"))


def _factors(numbers: Numbers) -> list[list[str]]:
    rows = []
    for bounds in SWEEP_BOUNDS:
        for factor in numbers.settings.factors:
            row = [bounds, f"{factor:g}"]
            for condition in (QUIET, ("gaussian", "loss")):
                ours, base = sweep_name(factor, bounds), sweep_name(0.95, bounds)
                keep = condition.__eq__
                row.append(ratio(interval(numbers.log_ratios(ours, base, keep))))
                above = numbers.pooled("score", ours, keep) > 0
                row.append(f"{above.mean():.1%}" if above.size else "-")
            rows.append(row)
    return rows
