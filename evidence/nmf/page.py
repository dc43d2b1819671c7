"""The page on learned rates of a factorisation: who wins, on what, by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from evidence import page as pages
from evidence.nmf import estimator, numbers
from evidence.nmf.claims import claims
from evidence.nmf.figures import panels
from evidence.nmf.methods import METHODS
from evidence.nmf.numbers import TUNED, Group, Outcome, mean_interval, middle
from evidence.nmf.plan import Settings
from evidence.results import Results
from ratewise.compare.report.tables import ratio
from ratewise.nmf.learned import load
from ratewise.plotting import save_panels

RATES, HISTORIES = "nmf-rates.png", "nmf-histories.png"


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and its figures beside it."""
    found = numbers.outcome(results, settings)
    rates, histories = panels(found, settings, load(settings.policies[0]))
    figures = {RATES: partial(save_panels, rates), HISTORIES: partial(save_panels, histories)}
    pages.write(page, text(found, settings), figures)


def text(found: Outcome, settings: Settings) -> str:
    """Return the page."""
    held = found.groups[0]
    return pages.render(
        "nmf/page.md.j2",
        claims(found.groups),
        settings=settings,
        learned_runs=_learned_runs(found),
        methods=len(METHODS),
        tie=numbers.TIE,
        policies=list(held.learned),
        groups=[(group, _ways(group), _policies(group)) for group in found.groups],
        misfit_header=[
            "against, tuned per problem",
            *(f"{name}, {words}" for words in ("can fall", "misfit") for name in held.learned),
        ],
        misfit=[_parts(held, name) for name in held.losses],
        free=int(held.free().sum()),
        estimator=estimator,
        as_schedules=[_schedules(found, mode) for mode in estimator.MODES],
        tuned=[
            [
                name,
                ", ".join(f"{key} {value:.3g}" for key, value in one.setting.items()),
                f"{math.exp(one.score):.4f}",
                str(one.tied),
            ]
            for name, one in found.chosen.items()
        ],
    )


def _learned_runs(found: Outcome) -> str:
    """Return how much experience the policies had, as their files say."""
    counts = set()
    for made in found.provenance.values():
        if "settings" in made:
            s = made["settings"]
            at_once = s["stacks"] * s["problems"] * s["copies"]
            counts.add(f"{s['decisions']:,} decisions, {made['rounds'] * at_once:,} runs")
    return "; ".join(sorted(counts)) or "as its file says"


def _ways(group: Group) -> list[list[str]]:
    """Return a row a method: against it as it is tuned in each way, the middle policy."""
    return [[name, *(ratio(middle(group, name, how)) for how in TUNED)] for name in group.losses]


def _policies(group: Group) -> list[list[str]]:
    """Return a row a method, tuned per problem: each policy's mean, median, and worst twentieth."""
    rows = []
    for name in group.losses:
        cells = []
        for policy in group.learned:
            ratios = group.ratios(policy, name)
            middle_one, tail = np.exp(np.quantile(ratios, [0.5, 0.95]))
            mean = ratio(mean_interval(group, ratios))
            cells.append(f"{mean}; {middle_one:.3f}; {tail:.2f}")
        rows.append([name, *cells])
    return rows


def _parts(held: Group, name: str) -> list[str]:
    """Return a row: each policy where the loss can still fall, and where it cannot."""
    free = held.free()
    cells = [
        ratio(mean_interval(held, held.ratios(policy, name), where)) if where.any() else "-"
        for where in (free, ~free)
        for policy in held.learned
    ]
    return [name, *cells]


def _schedules(found: Outcome, mode: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of StochasticNMF's schedules in one mode of its statistics."""
    sets = [name for name in found.estimator if name.endswith(f", {mode}")]
    schedules = [name for name in found.estimator[sets[0]] if name != "cosine"]
    rows = [[name, *(_spread(found.estimator[x][name]) for x in sets)] for name in schedules]
    return ["schedule", *sets], rows


def _spread(ratios: Sequence[float]) -> str:
    return f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
