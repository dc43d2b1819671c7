"""What was claimed of learning from past runs before it was measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evidence.claims import Claim, outcome
from evidence.past_runs.numbers import Numbers
from evidence.past_runs.plan import PEAKS, REPORTED
from ratewise.curves.curve import Floats

#: The law that a user gets who names none.
DEFAULT = "functional"
#: A run that ends above it has diverged.
DIVERGED = 5.0


def claims(
    numbers: Numbers, authors: Mapping[str, tuple[float, float, float]] | None = None
) -> list[Claim]:
    """Return the claims, and whether they held.

    Args:
        numbers: what was measured.
        authors: by set, what the authors' own constants err by: mean, mean of each curve's worst
            point (which is what they report), worst point of all.
    """
    found = []
    for shape in numbers.shapes:
        if shape.law == DEFAULT:
            mean, worst = REPORTED[shape.name]
            of = f"{shape.name}, six unseen curves"
            found += [
                _at_most(f"{of}: mean relative error", shape.mean, mean),
                _at_most(f"{of}: each curve's worst point, mean", shape.mean_worst, worst),
            ]
            if authors and shape.name in authors:
                most = authors[shape.name][2]
                title = f"{of}: worst point of all, at most the authors'"
                found.append(_at_most(title, shape.worst, most))
    ours = next(one for one in numbers.lengths if one.law == DEFAULT)
    covered, wild = float(ours.covered.mean()), [x for x in ours.refused if x[1] > DIVERGED]
    missed = [name for name, off in zip(ours.names, ours.error, strict=True) if off < -0.3]
    twice = ours.twice.astype(bool)
    trivial = float(np.abs(ours.trivial[twice]).mean())
    of = f"{PEAKS}, longer runs"
    found += [
        _at_most(f"{of}, settings seen at two lengths: mean error", ours.mean(True), 0.0013),
        _at_most(f"{of}, same: mean error, below the fit of T^-1/2", ours.mean(True), trivial),
        _at_most(f"{of}, other settings: mean error", ours.mean(False), 0.005),
        Claim(
            f"{of}: 90% intervals cover", "85% to 95%", f"{covered:.1%}", "",
            outcome(0.85 <= covered <= 0.95),
        ),
        _at_most(f"{of}: share refused", ours.share_refused, 0.15, 1),
        Claim(
            f"{of}: those that diverged are refused", "all", f"{len(wild)} refused", "",
            outcome(not missed),
        ),
    ]  # fmt: skip
    drawn = numbers.suggestions
    of = "next run from three past ones"
    found += [
        _at_most(f"{of}: median regret", float(np.median(drawn.ours)), 0.0015),
        _at_most(f"{of}: regret at nine tenths", float(np.quantile(drawn.ours, 0.9)), 0.006),
        _better(
            f"{of}: less regret than the best of the three as it is", drawn.better(drawn.as_it_is)
        ),
        _better(f"{of}: less regret than chance", drawn.better(drawn.chance)),
    ]
    few = [one for one in numbers.few if one.law == DEFAULT]
    least = min(one.covered for one in few)
    counts = f"{few[0].runs} to {few[-1].runs}"
    found.append(
        Claim(
            f"{PEAKS}, from {counts} past runs: 90% intervals cover, least", ">= 85%",
            f"{least:.1%}", "", outcome(least >= 0.85),
        )
    )  # fmt: skip
    begun = numbers.begun
    middle, match = float(np.median(begun.error)), float(np.median(begun.match))
    of = "end of a run from its first 30%"
    return [
        *found,
        _at_most(f"{of}: median error", middle, 0.005),
        _at_most(f"{of}: median error, below the best match's", middle, match),
        Claim(
            f"{of}, one curve alone",
            "refused",
            "refused" if begun.alone_refused else "not",
            "",
            outcome(begun.alone_refused),
        ),
    ]


def _at_most(title: str, value: float, limit: float, digits: int = 3) -> Claim:
    return Claim(
        title, f"<= {limit:.{digits}%}", f"{value:.{digits}%}", "", outcome(value <= limit)
    )


def _better(title: str, found: tuple[float, float, float]) -> Claim:
    mean, low, high = found
    held = True if high < 0 else False if low > 0 else None
    return Claim(title, "< 0 [95%]", f"{mean:.3%}", f"[{low:.3%}, {high:.3%}]", outcome(held))


def regrets(values: Floats) -> list[str]:
    """Return a row of quantiles, as the page shows them."""
    return [f"{x:.2%}" for x in (*np.quantile(values, [0.5, 0.75, 0.9]), values.max())]
