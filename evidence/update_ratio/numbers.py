"""The update-ratio study in numbers: losses against a tuned linear decay, and which law is best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evidence.results import Results
from evidence.update_ratio import pairs, plan
from evidence.update_ratio.plan import Settings, Unit
from ratewise.compare.statistics import CAP, Interval, mean_interval
from ratewise.rules.ratio_law import DEFAULT, FRESH, WITH_PASSES, Passes, default_ratio

MEASURES = ("training", "held-out")
#: Losses below this share of the first one count as it: nobody needs what lies below.
FLOOR = 0.01
#: The laws that are tried: (level, power, free passes, fall), limited to the measured ratios.
LEVELS = (0.01, 0.012, 0.014, 0.017, 0.02, 0.024, 0.028, 0.034)
POWERS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
FREE = (1.0, 2.0, 4.0, 8.0, 16.0)
FALLS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
Law = tuple[float, float, float, float]
WITHOUT: tuple[Law, ...] = tuple((*two, 1.0, 0.0) for two in itertools.product(LEVELS, POWERS))
WITH: tuple[Law, ...] = tuple(itertools.product(LEVELS, POWERS, FREE, FALLS))
#: Laws whose criteria differ by no more are as good as each other.
FLAT = 0.01
#: What training loss counts for on rows that are seen often, beside held-out loss.
BY_HEART = 0.5
#: Powers of the rows in a batch, over 32, that a law might have.
BATCH_POWERS = (0.1, 0.2, 0.3, 0.5)
#: What weights that were trained before might take of the ratio, of the law from scratch.
SHARES = (0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
#: What is looked at together beside fresh data and many passes.
TUNING, DEVELOP = "fine-tuning", "digits, not fitted on"


class Numbers(NamedTuple):
    """Logarithms of losses over tuned linear's, means over seeds."""

    units: list[Unit]
    passes: np.ndarray  #: [unit]
    ours: np.ndarray  #: [measure, unit, ratio]
    regret: np.ndarray  #: to the unit's best ratio, at most 1, the same
    named: dict[str, np.ndarray]  #: method -> [measure, unit], NaN where it was not run
    ratios: tuple[float, ...]
    runs: int

    @property
    def steps(self) -> np.ndarray:
        """The units' lengths, [unit]."""
        return np.array([unit.steps for unit in self.units])

    @property
    def batches(self) -> np.ndarray:
        """Rows in a batch, [unit]."""
        return np.array([plan.batch(unit.task) for unit in self.units])

    @property
    def fitted(self) -> np.ndarray:
        """Which units the law is fitted on, [unit]."""
        return ~self.tuning & np.array([unit.task not in plan.DEVELOP for unit in self.units])

    @property
    def tuning(self) -> np.ndarray:
        """Which units begin at weights that were trained before, [unit]."""
        return np.array([unit.task in pairs.PAIRS for unit in self.units])

    def groups(self) -> dict[str, np.ndarray]:
        """Return which units are looked at together, [unit] each; none is empty."""
        fresh, tuning, fitted = self.passes <= FRESH, self.tuning, self.fitted
        groups = {
            "fresh data": fresh & fitted,
            "many passes": ~fresh & fitted,
            TUNING: tuning,
            DEVELOP: ~tuning & ~fitted,
        }
        return {name: mask for name, mask in groups.items() if mask.any()}

    def at(self, wanted: Sequence[float] | np.ndarray, what: np.ndarray) -> np.ndarray:
        """Return `what` at a ratio for each unit, [measure, unit]: read between measured ones."""
        return np.asarray(np.einsum("mur,ur->mu", what, between(wanted, self.ratios)))

    def default(self, known: bool) -> np.ndarray:
        """Return the package's ratios, [unit], where passes are known or not."""
        return np.array(
            [
                default_ratio(u.steps, max(1, round(u.steps / p)) if known else None, tuning)
                for u, p, tuning in zip(self.units, self.passes, self.tuning, strict=True)
            ]
        )

    def earlier(self) -> np.ndarray:
        """Return the ratios of the law before this one, [unit], where passes are known."""
        law = law_of(EARLIER, self.ratios)
        sizes = zip(self.steps.tolist(), np.maximum(self.passes, 1.0).tolist(), strict=True)
        return np.array([law.ratio(*size) for size in sizes])

    def interval(self, values: np.ndarray, keep: np.ndarray, most: float = 1.0) -> Interval:
        """Return the mean of some units' values, over tasks or data sets; `p` is about a bound."""
        names = np.array([unit.task for unit in self.units])
        tasks = list(dict.fromkeys(names[keep]))
        groups = [values[keep & (names == name)][:, None] for name in tasks]
        sets = [plan.data_set(name) for name in tasks]
        return mean_interval(groups, sets, null=math.log(most))


def load(results: Results, settings: Settings) -> Numbers:
    """Return the study's numbers from what is there of its runs; it may go on later.

    Raises:
        StoreError: nothing is there.
    """
    wanted = plan.wanted(settings)
    units, found = [], []
    for name in [name for name in wanted if name in results] or list(wanted)[:1]:
        names = plan.names(settings, wanted[name])
        kept = np.array([run.losses for run in results.of(name)])
        kept = kept.reshape(len(names), len(settings.seeds), 3)
        found.append((names, np.log(np.clip(kept[..., 1:] / kept[..., :1], FLOOR, CAP)).mean(1)))
        units.append(wanted[name])
    return numbers_from(settings, units, found)


def numbers_from(
    settings: Settings, units: list[Unit], found: Sequence[tuple[Sequence[str], np.ndarray]]
) -> Numbers:
    """Return the numbers from ln of losses.

    Args:
        settings: of the study.
        units: what was trained.
        found: a unit each, the methods' names and their losses, [method, measure].
    """
    ours, named, runs = [], [], 0
    for names, losses in found:
        tuned = losses[[name == "linear" for name in names]].min(0)
        apart = losses - tuned
        ours.append(apart[[name == "update-ratio" for name in names]])
        several = ("linear", "update-ratio")
        named.append({n: x for n, x in zip(names, apart, strict=True) if n not in several})
        runs += len(names) * len(settings.seeds)
    stacked = np.stack(ours).transpose(2, 0, 1)
    missing = np.full(2, np.nan)
    every = dict.fromkeys(name for one in named for name in one)
    return Numbers(
        units=units,
        passes=np.array([unit.passes for unit in units]),
        ours=stacked,
        regret=np.minimum(stacked - stacked.min(-1, keepdims=True), 1.0),
        named={n: np.stack([one.get(n, missing) for one in named], 1) for n in every},
        ratios=settings.ratios,
        runs=runs,
    )


def between(wanted: Sequence[float] | np.ndarray, ratios: Sequence[float]) -> np.ndarray:
    """Return the weights of the measured ratios, [..., ratio]: linear in ln(ratio).

    >>> between([0.02, 0.5], [0.01, 0.04]).round(3).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    x, measured = np.log(wanted), np.log(ratios)
    return np.stack([np.interp(x, measured, row) for row in np.eye(len(ratios))], -1)


def law_of(law: Law, ratios: Sequence[float]) -> Passes:
    """Return a law as the package has it, within the measured ratios."""
    return Passes(*law, least=ratios[0], most=ratios[-1])


def scores(
    laws: Sequence[Law],
    regret: np.ndarray,
    steps: np.ndarray,
    passes: np.ndarray,
    ratios: Sequence[float],
    factors: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Return what each law regrets, [law, measure, unit].

    Args:
        laws: those that are tried.
        regret: [measure, unit, ratio].
        steps, passes: [unit].
        ratios: those that were measured, ascending.
        factors: what the law's ratios are multiplied by, [unit].
    """
    sizes = list(zip(steps.tolist(), np.maximum(passes, 1.0).tolist(), strict=True))
    made = [law_of(law, ratios) for law in laws]
    wanted = np.array([[law.ratio(*size) for size in sizes] for law in made]) * factors
    return np.asarray(np.einsum("mur,kur->kmu", regret, between(wanted, ratios)))


def paid(regret: np.ndarray, passes: np.ndarray) -> np.ndarray:
    """Return regrets, those in training loss on rows that are seen often at `BY_HEART`.

    A large ratio learns such rows by heart: where labels are noisy that costs held-out loss, and
    where they are not, a small ratio costs both. Passes alone do not tell which it is.
    """
    found = regret.copy()
    found[0, passes > FRESH] *= BY_HEART
    return found


def criterion(found: np.ndarray) -> np.ndarray:
    """Return each law's mean over units of the sum over measures; the least is the best."""
    return np.asarray(found.sum(1).mean(-1))


def left_out(found: np.ndarray, tasks: Sequence[str] | np.ndarray) -> tuple[float, list[int]]:
    """Choose the law without each task in turn; return the mean regret there, and the laws.

    Args:
        found: of `scores`.
        tasks: [unit], their names, two or more different ones.
    """
    chosen, regrets = [], []
    for name in dict.fromkeys(tasks):
        apart = np.array(tasks) == name
        chosen.append(int(criterion(found[..., ~apart]).argmin()))
        regrets += found[chosen[-1]].sum(0)[apart].tolist()
    return float(np.mean(regrets)), chosen


#: The law before this one: no training loss on rows that are seen often was paid.
EARLIER: Law = (0.024, 0.5, 2.0, 0.5)
#: The package's laws in the form of those that are tried.
OURS: Law = WITH_PASSES[:4]
OURS_WITHOUT: Law = (DEFAULT.level, DEFAULT.power, 1.0, 0.0)
