"""Which of the paper's claims on noise hold here."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from evidence.claims import Claim, below, outcome
from evidence.robustness.numbers import (
    QUIET,
    WHERE,
    Condition,
    Keep,
    Numbers,
    as_in_the_paper,
    interval,
    middle,
)
from evidence.robustness.plan import OURS, SWEEP_BOUNDS, sweep_name
from ratewise.compare.statistics import Interval, verdict

#: The paper's baselines.
RIVALS = ("cosine", "restarts", "exponential")


class Lower(NamedTuple):
    """Claim: under noise on the loss GreedyLR ends lower than cosine, restarts, exponential."""

    ours: str
    found: dict[str, Interval]  #: by rival, paired on the clean loss
    median: float  #: of the training loss, pooled
    below: list[str]  #: rivals whose pooled median is higher
    control: Interval | None  #: against "constant", which reacts to nothing

    def with_verdict(self, word: str) -> list[str]:
        """Return the rivals against which the verdict is this."""
        return [name for name, found in self.found.items() if verdict(found) == word]


class Reason(NamedTuple):
    """A ratio to cosine at the same rate, and with each schedule at its own best rate."""

    ours: str
    same: Interval
    tuned: Interval

    @property
    def won(self) -> bool:
        """Whether it ends lower at the same rate."""
        return verdict(self.same) == "better"

    @property
    def kept(self) -> bool:
        """Whether it still does at its own best rate."""
        return self.won and verdict(self.tuned) == "better"


class Recovery(NamedTuple):
    """Claim: it recovers further (134x in the median) and sooner (12 steps, not 45)."""

    recovery: dict[str, float]  #: by schedule, ours first, pooled
    steps: dict[str, float]
    further: dict[str, Interval]  #: by rival, its recovery over ours, paired
    sooner: dict[str, Interval]  #: by rival, our steps over its

    def held(self, found: dict[str, Interval]) -> bool:
        """Whether it is so against every rival."""
        return all(verdict(one) == "better" for one in found.values())


class Changed(NamedTuple):
    """GreedyLR under significance, with a fall at the end, against its default of counts."""

    conditions: int  #: a kind of noise in a place, and none
    better: list[Condition]  #: those in which its interval lies below 1
    worse: list[Condition]
    above: list[Condition]  #: those in which the ratio is above 1


class Threshold(NamedTuple):
    """Claim: any F >= 0.5 is stable, 0.25 diverges."""

    bounds: str
    risen: dict[float, float]  #: by factor, the share of runs that ended above their start
    middle: dict[float, Interval]  #: the clean loss to that of the largest factor

    @property
    def jump(self) -> bool:
        """Whether there is a step between 0.25 and 0.5."""
        much = self.risen[0.25] > 2 * max(self.risen[0.5], 0.01)
        return much and self.middle[0.25].low > 0


def claims(numbers: Numbers) -> list[Claim]:
    """Return what the paper claims, judged."""
    found = []
    for one in lower(numbers):
        for name, ratio in one.found.items():
            found.append(below(f"noise on the loss: {one.ours} ends lower than {name}", ratio))
    both = recovery(numbers)
    for title, each in (
        ("it recovers further: how far {} does, over how far it does", both.further),
        ("it recovers sooner: its steps over those of {}", both.sooner),
    ):  # medians are too coarse to be corrected
        said = [below(title.format(name), ratio) for name, ratio in each.items()]
        found += [replace(claim, p=None) for claim in said]
    if (both_defaults := changed(numbers)) is not None:
        title = "in no condition significance ends higher than the default of counts"
        value = f"higher in {len(both_defaults.worse)}, above 1 in {len(both_defaults.above)}"
        value += f" of {both_defaults.conditions}"
        held = False if both_defaults.worse else None if both_defaults.above else True
        found.append(Claim(title, "0", value, "", outcome(held)))
    for sweep in threshold(numbers):
        title = f"F below 0.5 diverges, above it does not, in bounds {sweep.bounds}"
        value = f"{sweep.risen[0.25]:.1%} risen, {sweep.risen[0.5]:.1%} at 0.5"
        found.append(Claim(title, "a step", value, "", outcome(sweep.jump)))
    return found


def lower(numbers: Numbers) -> list[Lower]:
    """Return what is to be said of the final loss, for each of our schedules."""
    there = numbers.settings.schedules
    rivals = [name for name in RIVALS if name in there]
    found = []
    for ours in (name for name in OURS if name in there):
        medians = {name: _middle(numbers, "last", name) for name in (ours, *rivals)}

        def paired(name: str, ours: str = ours) -> Interval:
            return interval(numbers.log_ratios(ours, name, as_in_the_paper))

        found.append(
            Lower(
                ours,
                {name: paired(name) for name in rivals},
                medians[ours],
                [name for name in rivals if medians[ours] < medians[name]],
                paired("constant") if "constant" in there else None,
            )
        )
    return found


def reasons(numbers: Numbers) -> list[Reason]:
    """Return whether what was won at equal rates is left at each schedule's own best rate."""
    if numbers.settings.seeds == 1:
        return []
    return [Reason(ours, *_to_cosine(numbers, ours, as_in_the_paper)) for ours in _ours(numbers)]


def _ours(numbers: Numbers) -> list[str]:
    """Return our schedules that can be compared with cosine."""
    there = numbers.settings.schedules
    return [name for name in OURS if name in there and "cosine" in there]


def _to_cosine(numbers: Numbers, ours: str, keep: Keep) -> tuple[Interval, Interval]:
    """Return the ratio at the same rate, and with each schedule at its own best rate."""
    return (
        interval(numbers.log_ratios(ours, "cosine", keep)),
        interval(numbers.tuned_log_ratios(ours, "cosine", keep)),
    )


def recovery(numbers: Numbers) -> Recovery:
    """Return how far and how soon the schedules come down."""
    names = [n for n in ("greedy-paper", "greedy", *RIVALS) if n in numbers.settings.schedules]
    ours, rivals = names[0], [n for n in names if n in RIVALS]

    def paired(measure: str, mine: str, theirs: str) -> Interval:
        return middle(numbers.come_down(measure, mine, theirs, as_in_the_paper))

    return Recovery(
        {n: float(np.median(numbers.pooled("recovery", n, as_in_the_paper))) for n in names},
        {n: _middle(numbers, "steps", n) for n in names},
        {n: paired("recovery", n, ours) for n in rivals},
        {n: paired("steps", ours, n) for n in rivals},
    )


def _middle(numbers: Numbers, measure: str, name: str) -> float:
    """Return a median without interpolating: some values are infinite."""
    values = numbers.pooled(measure, name, as_in_the_paper)
    return float(np.quantile(values, 0.5, method="nearest"))


def places(numbers: Numbers) -> dict[str, dict[str, tuple[Interval, Interval]]]:
    """Return ratios to cosine, same rate and tuned, where every schedule feels the noise."""
    found: dict[str, dict[str, tuple[Interval, Interval]]] = {}
    for ours in _ours(numbers):
        for where in ("on the gradient", "on the data"):
            same, tuned = _to_cosine(numbers, ours, WHERE[where])
            if same.n > 1:
                found.setdefault(ours, {})[where] = same, tuned
    return found


def changed(numbers: Numbers) -> Changed | None:
    """Return how GreedyLR ends that waits for significance, against its default of counts."""
    if not {"significance", "greedy"} <= set(numbers.settings.schedules):
        return None
    found = {
        condition: interval(numbers.log_ratios("significance", "greedy", condition.__eq__))
        for condition in numbers.conditions
    }
    return Changed(
        len(found),
        [condition for condition, one in found.items() if verdict(one) == "better"],
        [condition for condition, one in found.items() if verdict(one) == "worse"],
        [condition for condition, one in found.items() if one.estimate > 0],
    )


def threshold(numbers: Numbers) -> list[Threshold]:
    """Return what the factor's sweep shows, one a pair of bounds."""
    factors = numbers.settings.factors
    if not {0.25, 0.5} <= set(factors):
        return []

    found = []
    for bounds in SWEEP_BOUNDS:
        names = {f: sweep_name(f, bounds) for f in factors}
        pooled = {f: numbers.pooled("score", name, _swept) for f, name in names.items()}
        ratios = {f: numbers.log_ratios(x, names[factors[-1]], _swept) for f, x in names.items()}
        risen = {f: float(np.mean(values > 0)) for f, values in pooled.items()}
        found.append(Threshold(bounds, risen, {f: interval(x) for f, x in ratios.items()}))
    return found


def _swept(condition: Condition) -> bool:
    return condition in (QUIET, ("gaussian", "loss"))
