"""The update-ratio study in numbers: losses against tuned cosine, and which rule is best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evidence.results import Results
from evidence.update_ratio import plan
from evidence.update_ratio.plan import Settings
from ratewise.compare.statistics import CAP, Interval, mean_interval
from ratewise.rules.ratio_law import DEFAULT, Horizon

MEASURES = ("training", "held-out")
#: Losses below this share of the first one count as it: nobody needs what lies below.
FLOOR = 0.01
#: The rules that are tried: (level, power), limited to the measured ratios.
LEVELS = (0.01, 0.012, 0.014, 0.017, 0.02, 0.024, 0.028, 0.034, 0.04)
POWERS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 1.0)
RULES = tuple(itertools.product(LEVELS, POWERS))
#: Rules whose criteria differ by no more are as good as each other.
FLAT = 0.01
#: What the names of tasks with few rows have in them.
SMALL = ("small", "regression", "breast cancer", "diabetes")


class Numbers(NamedTuple):
    """Logarithms of losses, means over seeds; [measure, unit, ratio] where nothing else is said."""

    settings: Settings
    tasks: np.ndarray  #: [unit]
    steps: np.ndarray  #: [unit]
    ours: np.ndarray  #: to tuned cosine
    cosine: np.ndarray  #: cosine's to tuned cosine, [measure, unit, rate]
    regret: np.ndarray  #: to the unit's best ratio, at most 1
    default: np.ndarray  #: ours at the package's ratio, [measure, unit]
    default_regret: np.ndarray  #: regret there, [measure, unit]
    failed: np.ndarray  #: runs that diverged, and that ended above their start, [2, ratio or rate]

    def groups(self) -> dict[str, np.ndarray]:
        """Return which units are looked at together, [unit] each; none is empty."""
        small = np.array([any(word in task for word in SMALL) for task in self.tasks])
        groups = {"all": np.ones_like(small), "large": ~small, "small": small}
        return {name: mask for name, mask in groups.items() if mask.any()}

    def interval(self, measure: int, keep: np.ndarray, most: float = 1.0) -> Interval:
        """Return the mean at the default, over tasks or data sets; its `p` is about a bound."""
        names = [x for x in self.settings.tasks if (keep & (self.tasks == x)).any()]
        groups = [self.default[measure, keep & (self.tasks == x)][:, None] for x in names]
        sets = [plan.data_set(name) for name in names]
        return mean_interval(groups, sets, null=math.log(most))


def load(results: Results, settings: Settings) -> Numbers:
    """Return the study's numbers from what is kept of its runs.

    Raises:
        StoreError: a run is missing.
    """
    kept = [run.losses for unit in plan.wanted(settings) for run in results.of(unit)]
    first, *last = np.array(kept).T.reshape(3, len(plan.units(settings)), -1, len(settings.seeds))
    losses = np.log(np.clip(last / first, FLOOR, CAP))
    return numbers_from(settings, losses.mean(-1), np.stack([np.isinf(last[0]), losses[0] > 0]))


def numbers_from(settings: Settings, losses: np.ndarray, failed: np.ndarray) -> Numbers:
    """Return the numbers from ln of losses.

    Args:
        settings: of the study.
        losses: [measure, unit, method], the ratios first, then cosine's rates.
        failed: bool, [diverged or risen, unit, method, seed].
    """
    units, count = plan.units(settings), len(settings.ratios)
    ours, cosine = losses[..., :count], losses[..., count:]
    tuned = cosine.min(-1, keepdims=True)
    regret = np.minimum(ours - ours.min(-1, keepdims=True), 1.0)
    weights = between([DEFAULT.ratio(unit.steps) for unit in units], settings.ratios)
    return Numbers(
        settings=settings,
        tasks=np.array([unit.task for unit in units]),
        steps=np.array([unit.steps for unit in units]),
        ours=ours - tuned,
        cosine=cosine - tuned,
        regret=regret,
        default=np.einsum("mur,ur->mu", ours - tuned, weights),
        default_regret=np.einsum("mur,ur->mu", regret, weights),
        failed=failed.sum((1, 3)),
    )


def between(wanted: Sequence[float] | np.ndarray, ratios: Sequence[float]) -> np.ndarray:
    """Return the weights of the measured ratios, [..., ratio]: linear in ln(ratio).

    >>> between([0.02, 0.5], [0.01, 0.04]).round(3).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    x, measured = np.log(wanted), np.log(ratios)
    return np.stack([np.interp(x, measured, row) for row in np.eye(len(ratios))], -1)


def scores(
    regret: np.ndarray,
    steps: Sequence[int] | np.ndarray,
    ratios: Sequence[float],
) -> np.ndarray:
    """Return what each of `RULES` regrets, [rule, measure, unit].

    Args:
        regret: [measure, unit, ratio].
        steps: [unit], the lengths.
        ratios: those that were measured, ascending.
    """
    rules = [horizon_of(rule, ratios) for rule in RULES]
    wanted = np.array([[rule.ratio(int(length)) for length in steps] for rule in rules])
    return np.einsum("mur,kur->kmu", regret, between(wanted, ratios))


def horizon_of(rule: tuple[float, float], ratios: Sequence[float]) -> Horizon:
    """Return a rule as the package has it, within the measured ratios."""
    return Horizon(*rule, least=ratios[0], most=ratios[-1], unknown=rule[0])


def criterion(found: np.ndarray) -> np.ndarray:
    """Return each rule's mean over units of the sum over measures; the least is the best."""
    return np.asarray(found.sum(1).mean(-1))


def left_out(found: np.ndarray, tasks: Sequence[str] | np.ndarray) -> tuple[float, list[int]]:
    """Choose the rule without each task in turn; return the mean regret there, and the rules.

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
