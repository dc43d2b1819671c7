"""Which rule of the ratio is best, and what is claimed of the one that the package has."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from evidence.claims import Claim, below, outcome
from evidence.update_ratio import numbers as of
from evidence.update_ratio.numbers import FLAT, MEASURES, RULES, Numbers, criterion, scores
from ratewise.compare.statistics import MARGIN
from ratewise.rules.ratio_law import DEFAULT

#: The limits on a regret that are tried beside 1.
LIMITS = (0.2, 0.5, 2.0, math.inf)
Rule = tuple[float, float]  #: level, power


class Best(NamedTuple):
    """A rule, and what it costs beside the package's."""

    name: str
    rule: Rule
    regret: float
    default: float


class Part(NamedTuple):
    """The same on a part of the data, and which ratios the longest runs there ask for."""

    best: Best
    wanted: list[float]  #: by measure
    apart: bool  #: whether no ratio suits both


class Fit(NamedTuple):
    """What the fit of the rule shows."""

    regret: float  #: of the package's rule, both measures added
    each: list[float]  #: by measure
    better: int  #: rules that regret less
    best: Best
    flat: list[Rule]  #: those within `FLAT` of the best
    limited: list[Best]  #: with other limits on a regret
    constant: Best  #: one ratio for all lengths
    alone: list[tuple[Rule, list[float]]]  #: by measure: the best by it alone, its regrets
    parts: list[Part]  #: on large data alone, and on small
    left_out: tuple[float, list[tuple[Rule, int]]] | None  #: regret, and rules chosen so often
    below: list[float]  #: share of cosine's rates that the default ends below, by measure


def fit(numbers: Numbers) -> Fit:
    """Return what the fit shows."""
    found = scores(numbers.regret, numbers.steps, numbers.settings.ratios)
    ours = numbers.default_regret
    values, mine = criterion(found), float(ours.sum(0).mean())
    best = int(values.argmin())
    same = min((k for k, rule in enumerate(RULES) if rule[1] == 0), key=lambda k: float(values[k]))
    alone = [int(found[:, m].mean(-1).argmin()) for m in range(len(MEASURES))]
    apart = None
    if len(numbers.settings.tasks) > 1:
        regret, chosen = of.left_out(found, numbers.tasks)
        apart = regret, [(RULES[k], chosen.count(k)) for k in dict.fromkeys(chosen)]
    return Fit(
        regret=mine,
        each=[float(x) for x in ours.mean(-1)],
        better=int((values < mine - 1e-12).sum()),
        best=Best("all", RULES[best], float(values[best]), mine),
        flat=[RULES[k] for k in np.flatnonzero(values <= values[best] + FLAT)],
        limited=[_limited(numbers, limit) for limit in LIMITS],
        constant=Best("constant", RULES[same], float(values[same]), mine),
        alone=[(RULES[k], [float(x) for x in found[k].mean(-1)]) for k in alone],
        parts=[_part(numbers, found, name) for name in list(numbers.groups())[1:]],
        left_out=apart,
        below=(numbers.default[:, :, None] < numbers.cosine).mean((1, 2)).tolist(),
    )


def _limited(numbers: Numbers, limit: float) -> Best:
    """Return the best rule, and what the default costs, if one regret may be another size."""
    s = numbers.settings
    weights = of.between([DEFAULT.ratio(int(n)) for n in numbers.steps], s.ratios)
    regret = np.minimum(numbers.ours - numbers.ours.min(-1, keepdims=True), limit)
    values = criterion(scores(regret, numbers.steps, s.ratios))
    mine = float(criterion(np.einsum("mur,ur->mu", regret, weights)[None])[0])
    best = int(values.argmin())
    name = f"at {limit:g}" if limit < math.inf else "without one"
    return Best(name, RULES[best], float(values[best]), mine)


def _part(numbers: Numbers, found: np.ndarray, name: str) -> Part:
    keep = numbers.groups()[name]
    value, last = criterion(found[..., keep]), max(numbers.settings.horizons)
    default = float(criterion(numbers.default_regret[None][..., keep])[0])
    wanted = numbers.regret[:, keep & (numbers.steps == last)].mean(1).argmin(-1)
    best = int(value.argmin())
    return Part(
        Best(name, RULES[best], float(value[best]), default),
        [numbers.settings.ratios[k] for k in wanted],
        bool(abs(wanted[0] - wanted[1]) > 1),
    )


def claims(numbers: Numbers, found: Fit) -> list[Claim]:
    """Return what is claimed of the package's rule."""
    rank, least = found.better + 1, found.best.regret
    said = [
        Claim(
            f"the default is one of the best rules: within {FLAT:g} of the least regret",
            f"<= {least + FLAT:.3f}",
            f"{found.regret:.3f}",
            "",
            outcome(found.regret <= least + FLAT),
        ),
        Claim(
            "it is the best of those tried",
            "rank 1",
            f"{rank} of {len(RULES)}",
            "",
            outcome(rank == 1),
        ),
        Claim(
            "the length of a run matters: one ratio for all regrets more",
            f"> {least:.3f}",
            f"{found.constant.regret:.3f}",
            "",
            outcome(found.constant.regret > least),
        ),
    ]
    for m, name in enumerate(MEASURES):
        found_there = numbers.interval(m, np.ones_like(numbers.steps, bool), MARGIN)
        title = f"the default ends no higher than tuned cosine, {name} loss"
        said.append(below(title, found_there, MARGIN))
    return said
