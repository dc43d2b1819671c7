"""What the robustness study found, as arrays: read from its results, nothing is run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evidence.results import Results
from evidence.robustness import plan
from evidence.robustness.plan import FAMILIES, OPEN_LOOP, Cell, Settings
from ratewise.compare.statistics import CAP, Interval, mean_interval, median_interval

#: Clean losses below this share of the initial one count as it: below lies rounding.
FLOOR = 1e-8
#: (kind, place) of noise; ("none", "") is none.
Condition = tuple[str, str]
QUIET: Condition = ("none", "")
MEASURES = ("score", "last", "recovery", "steps")
#: The noise of arXiv 2512.14527, all of it on the loss.
PAPER_KINDS = ("none", "gaussian", "periodic-spike", "random-spike", "adversarial")
Keep = Callable[[Condition], bool]
#: By family, an array each.
Groups = Mapping[str, np.ndarray]
#: Where noise was, in the words of the tables.
WHERE: dict[str, Keep] = {
    "no noise": lambda c: c == QUIET,
    "on the seen loss": lambda c: c[1] == "loss",
    "on the gradient": lambda c: c[1] == "gradient",
    "on the data": lambda c: c[1] == "data",
}


def as_in_the_paper(condition: Condition) -> bool:
    """Return whether the paper had runs of that kind."""
    return condition[0] in PAPER_KINDS and condition[1] in ("", "loss")


@dataclass(frozen=True)
class Numbers:
    """One array a family and measure, [rates, seeds, schedules, conditions]; NaN: no such run.

    The measures: `score`, log of the clean final loss over the initial one, within [1e-8, 10] (10
    where a run diverged); `last`, the mean training loss of the last ten steps; `recovery`, the
    greatest training loss over `last`; `steps`, optimizer steps from there until nine tenths of
    the way down to `last` are done.
    """

    settings: Settings
    conditions: list[Condition]
    schedules: list[str]
    measures: dict[str, dict[str, np.ndarray]]

    def of(self, measure: str, family: str, schedule: str) -> np.ndarray:
        """Return one schedule's values in a family, [rates, seeds, conditions]."""
        return self.measures[measure][family][:, :, self.schedules.index(schedule)]

    def pooled(self, measure: str, schedule: str, keep: Keep) -> np.ndarray:
        """Return all values of a schedule under the conditions kept, without the missing ones."""
        at = [i for i, condition in enumerate(self.conditions) if keep(condition)]
        parts = [self.of(measure, f, schedule)[..., at] for f in self.settings.families]
        values = np.concatenate([part.ravel() for part in parts])
        return values[~np.isnan(values)]

    def log_ratios(self, ours: str, theirs: str, keep: Keep) -> Groups:
        """Return paired log-ratios of the clean loss, by family, [rates x seeds, kinds].

        A family without any of the conditions is left out.
        """
        return self._compared(keep, ours, theirs, lambda score: score)

    def tuned_log_ratios(self, ours: str, theirs: str, keep: Keep) -> Groups:
        """Return the same with each schedule at its own best rate, [seeds, kinds] a family.

        The rate is chosen, for each family, condition and seed, on the other seeds: a run never
        chooses the rate that it is judged at.
        """
        return self._compared(keep, ours, theirs, _tuned)

    def _compared(
        self, keep: Keep, ours: str, theirs: str, of: Callable[[np.ndarray], np.ndarray]
    ) -> Groups:
        def difference(family: str, at: list[int]) -> np.ndarray:
            mine, other = (of(self.of("score", family, x)[..., at]) for x in (ours, theirs))
            return mine - other

        return self._by_family(keep, difference)

    def come_down(self, measure: str, ours: str, theirs: str, keep: Keep) -> Groups:
        """Return paired log-ratios of `recovery` or `steps`, shaped as `log_ratios`.

        Where neither comes down, or both at once, they are alike.
        """

        def difference(family: str, at: list[int]) -> np.ndarray:
            mine, other = (self.of(measure, family, x)[..., at] for x in (ours, theirs))
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.where(mine == other, 0.0, np.log(mine) - np.log(other))

        return self._by_family(keep, difference)

    def costs(self, schedule: str, keep: Keep) -> Groups:
        """Return log-ratios of noisy to quiet runs of one schedule, shaped as `log_ratios`."""

        def cost(family: str, at: list[int]) -> np.ndarray:
            score = self.of("score", family, schedule)
            return score[..., at] - score[..., :1]

        return self._by_family(keep, cost)

    def _by_family(self, keep: Keep, values: Callable[[str, list[int]], np.ndarray]) -> Groups:
        """Return families' values under the conditions kept, those that they have not left out."""
        at = [i for i, condition in enumerate(self.conditions) if keep(condition)]
        groups = {}
        for family in self.settings.families:
            x = values(family, at).reshape(-1, len(at))
            x = x[:, ~np.isnan(x).all(0)]
            if x.size:
                groups[family] = x
        return groups


def interval(groups: Groups) -> Interval:
    """Return the mean log-ratio with its interval, over families or over their data sets.

    >>> interval({"mlp": np.zeros((2, 1)), "gru": np.zeros((2, 1))}).ratio()
    (1.0, 1.0, 1.0)
    """
    return mean_interval(groups.values(), _data_sets(groups), over="families")


def middle(groups: Groups) -> Interval:
    """Return the median with its interval, likewise: of what may be infinite."""
    return median_interval(groups.values(), _data_sets(groups), over="families")


def _data_sets(families: Iterable[str]) -> list[str]:
    """Return what each family learns from; a function without data is one of its own."""
    return [str(FAMILIES[name][1].get("data", name)) for name in families]


def _tuned(score: np.ndarray) -> np.ndarray:
    """Return the score at the rate that is best on the other seeds, [seeds, conditions]."""
    _, seeds, conditions = score.shape
    if seeds == 1:
        return np.full((1, conditions), np.nan)
    found = np.empty((seeds, conditions))
    for seed in range(seeds):
        others = np.delete(score, seed, axis=1).mean(1)  # [rates, conditions]
        best = np.where(np.isnan(others), np.inf, others).argmin(0)
        found[seed] = score[best, seed, np.arange(conditions)]
    return found


def load(results: Results, settings: Settings) -> Numbers:
    """Return the study's numbers from what is kept of its runs.

    Raises:
        StoreError: a run is missing.
    """
    conditions = [QUIET] + [
        (kind, place) for place in settings.places for kind in settings.kinds if kind != "none"
    ]
    sweep = [
        plan.sweep_name(factor, bounds)
        for bounds in plan.SWEEP_BOUNDS
        for factor in settings.factors
    ]
    schedules = list(dict.fromkeys([*settings.schedules, *sweep]))
    shape = (len(settings.lrs), settings.seeds, len(schedules), len(conditions))
    measures: dict[str, dict[str, np.ndarray]] = {
        name: {family: np.full(shape, np.nan) for family in settings.families} for name in MEASURES
    }
    for name, unit in plan.wanted(settings).items():
        place = settings.lrs.index(unit.lr), unit.seed
        found = results.of(name)
        for cell, result in zip(plan.cells(settings, unit.family, unit.later), found, strict=True):
            values = summary(result.losses)
            for at in _positions(cell, schedules, conditions, unit.family):
                for measure, value in values.items():
                    measures[measure][unit.family][place + at] = value
    return Numbers(settings, conditions, schedules, measures)


def _positions(
    cell: Cell, schedules: list[str], conditions: list[Condition], family: str
) -> list[tuple[int, int]]:
    """Return where a run stands: an open-loop one stands for all noise on the seen loss."""
    row = schedules.index(cell.schedule)
    own: Condition = (cell.kind, cell.place)
    at = [(row, conditions.index(own))] if own in conditions else []
    if cell.schedule in OPEN_LOOP and own == QUIET:
        at += [(row, i) for i, (_, place) in enumerate(conditions) if place == "loss"]
    return at


def summary(marks: Sequence[float]) -> dict[str, float]:
    """Return one run's measures from its `plan.MARKS`.

    >>> found = summary([2.0, 0.02, 1.0, 8.0, 2.0])
    >>> [round(found[name], 3) for name in ("score", "last", "recovery", "steps")]
    [-4.605, 1.0, 8.0, 2.0]
    """
    initial, final, last, greatest, descent = marks
    if not math.isfinite(final):
        values = (math.log(CAP), math.inf, 0.0, math.inf)
    else:
        score = math.log(min(max(final / initial, FLOOR), CAP))
        values = (score, last, greatest / last if last > 0 else math.inf, descent)
    return dict(zip(MEASURES, values, strict=True))
