"""Which of the paper's claims on noise hold here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evidence.claims import Claim, outcome
from evidence.robustness.numbers import QUIET, WHERE, Condition, Numbers, as_in_the_paper, interval
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

    recovery: dict[str, float]  #: by schedule, ours first
    steps: dict[str, float]

    @property
    def further(self) -> bool:
        """Whether ours comes down further than every rival."""
        first, *rest = self.recovery
        return all(self.recovery[first] > self.recovery[name] for name in rest if name in RIVALS)

    @property
    def sooner(self) -> bool:
        """Whether ours does so in fewer steps."""
        first, *rest = self.steps
        return all(self.steps[first] < self.steps[name] for name in rest if name in RIVALS)


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
            middle, low, high = ratio.ratio()
            word = verdict(ratio)
            held = {"better": True, "worse": False, "tie": False}.get(word)
            title = f"noise on the loss: {one.ours} ends lower than {name}"
            span = f"[{low:.3f}, {high:.3f}]"
            found.append(Claim(title, "< 1", f"{middle:.3f}", span, outcome(held)))
    both = recovery(numbers)
    first = next(iter(both.recovery))
    rivals = [name for name in both.recovery if name in RIVALS]
    most, least = (max(both.recovery[x] for x in rivals), min(both.steps[x] for x in rivals))
    for title, wanted, value, held in (
        ("it recovers further", f"> {most:.3g}x", f"{both.recovery[first]:.3g}x", both.further),
        ("it recovers sooner", f"< {least:.3g} steps", f"{both.steps[first]:.3g}", both.sooner),
    ):
        found.append(Claim(title, wanted, value, "", outcome(held)))
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
    if "cosine" not in numbers.settings.schedules or numbers.settings.seeds == 1:
        return []
    return [
        Reason(
            ours,
            interval(numbers.log_ratios(ours, "cosine", as_in_the_paper)),
            interval(numbers.tuned_log_ratios(ours, "cosine", as_in_the_paper)),
        )
        for ours in OURS
        if ours in numbers.settings.schedules
    ]


def recovery(numbers: Numbers) -> Recovery:
    """Return how far and how soon the schedules come down."""
    names = [n for n in ("greedy-paper", "greedy", *RIVALS) if n in numbers.settings.schedules]
    return Recovery(
        {n: float(np.median(numbers.pooled("recovery", n, as_in_the_paper))) for n in names},
        {n: _middle(numbers, "steps", n) for n in names},
    )


def _middle(numbers: Numbers, measure: str, name: str) -> float:
    """Return a median without interpolating: some values are infinite."""
    values = numbers.pooled(measure, name, as_in_the_paper)
    return float(np.quantile(values, 0.5, method="nearest"))


def places(numbers: Numbers) -> dict[str, dict[str, tuple[Interval, Interval]]]:
    """Return ratios to cosine, same rate and tuned, where every schedule feels the noise."""
    found: dict[str, dict[str, tuple[Interval, Interval]]] = {}
    if "cosine" not in numbers.settings.schedules:
        return found
    for ours in (name for name in OURS if name in numbers.settings.schedules):
        for where in ("on the gradient", "on the data"):
            same = interval(numbers.log_ratios(ours, "cosine", WHERE[where]))
            tuned = interval(numbers.tuned_log_ratios(ours, "cosine", WHERE[where]))
            if same.n > 1:
                found.setdefault(ours, {})[where] = same, tuned
    return found


def threshold(numbers: Numbers) -> list[Threshold]:
    """Return what the factor's sweep shows, one a pair of bounds."""
    factors = numbers.settings.factors
    if not {0.25, 0.5} <= set(factors):
        return []

    def risen(name: str) -> float:
        return float(np.mean(numbers.pooled("score", name, _swept) > 0))

    return [
        Threshold(
            bounds,
            {f: risen(sweep_name(f, bounds)) for f in factors},
            {
                f: interval(
                    numbers.log_ratios(
                        sweep_name(f, bounds), sweep_name(factors[-1], bounds), _swept
                    )
                )
                for f in factors
            },
        )
        for bounds in SWEEP_BOUNDS
    ]


def _swept(condition: Condition) -> bool:
    return condition in (QUIET, ("gaussian", "loss"))
