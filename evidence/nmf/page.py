"""The page on learned rates of a factorisation: who wins, on what, by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from evidence import page as pages
from evidence.nmf import estimator, numbers
from evidence.nmf.claims import WANTED, claims
from evidence.nmf.figures import panels
from evidence.nmf.methods import METHODS
from evidence.nmf.numbers import Outcome, Result, mean_interval, median_interval, tail
from evidence.nmf.plan import Settings
from evidence.results import Results
from ratewise.compare import statistics
from ratewise.compare.report.tables import ratio
from ratewise.nmf.learned import load
from ratewise.plotting import save_panels

RATES, HISTORIES = "nmf-rates.png", "nmf-histories.png"


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and its figures beside it."""
    found = numbers.outcome(results, settings)
    rates, histories = panels(found, [load(name) for name in settings.policies])
    figures = {RATES: partial(save_panels, rates), HISTORIES: partial(save_panels, histories)}
    pages.write(page, text(found, settings), figures)


def text(found: Outcome, settings: Settings) -> str:
    """Return the page."""
    held = found.results[0]
    policies = [name for name in held.losses if name.startswith("learned")]
    return pages.render(
        "nmf/page.md.j2",
        claims(found.results, policies),
        settings=settings,
        learned_runs=_learned_runs(found),
        policies=[name.removeprefix("learned ") for name in policies],
        results=[(result, _statistics(result, policies)) for result in found.results],
        misfit={
            words: [_part(held, name, policies, free) for name in WANTED]
            for free, words in ((True, "can fall"), (False, "misfit"))
        },
        estimator=estimator,
        as_schedules=[_schedules(found, mode) for mode in estimator.MODES],
        tuned=[
            [
                name,
                ", ".join(f"{key} {value:.3g}" for key, value in setting.items()),
                f"{math.exp(found.scores[name]):.4f}",
            ]
            for name, setting in found.chosen.items()
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


def _statistics(result: Result, policies: list[str]) -> dict[str, list[list[str]]]:
    """Return rows, a method each, by statistic."""
    of: dict[str, Callable[[str, str], str]] = {
        "median": lambda ours, theirs: ratio(median_interval(result, ours, theirs)),
        "geometric mean": lambda ours, theirs: ratio(mean_interval(result, ours, theirs)),
        "95% below": lambda ours, theirs: f"{tail(result, ours, theirs):.2f}",
    }
    return {
        name: [[method, *(shown(ours, method) for ours in policies)] for method in METHODS]
        for name, shown in of.items()
    }


def _part(held: Result, name: str, policies: list[str], free: bool) -> list[str]:
    """Return a row: where the loss can still fall, or where it cannot."""
    each = [numbers.parts(held, policy, name)[free] for policy in policies]
    row = [name, str(sum(len(x) for x in each[0]))]
    for values in each:
        row.append(ratio(statistics.median_interval(values, over="stacks")))
    return row


def _schedules(found: Outcome, mode: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of StochasticNMF's schedules in one mode of its statistics."""
    sets = [name for name in found.estimator if name.endswith(f", {mode}")]
    schedules = [name for name in found.estimator[sets[0]] if name != "cosine"]
    rows = [[name, *(_spread(found.estimator[x][name]) for x in sets)] for name in schedules]
    return ["schedule", *sets], rows


def _spread(ratios: Sequence[float]) -> str:
    return f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
