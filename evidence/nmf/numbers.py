"""What came out of learned and tuned rates of a factorisation, from what is kept of the runs.

Three meanings of "tuned", each of a method of which several settings were tried:

- one setting for all: the lowest mean log loss over other problems, made for that;
- tuned per problem: the lowest median loss over the seeds of that problem that tune;
- in hindsight: the lowest loss on the seeds that judge, which nobody can choose beforehand.

Judged is always on the seeds that judge, by the mean log loss over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evidence.nmf import plan, real
from evidence.nmf.methods import METHODS
from evidence.nmf.plan import MISFIT, TUNED_ON, Settings, Unit
from evidence.results import Results
from ratewise.compare import statistics
from ratewise.compare.statistics import Interval
from ratewise.learning.noisy_descent import log_share
from ratewise.nmf.learned import load

ONE, PROBLEM, HINDSIGHT = "one setting for all", "tuned per problem", "in hindsight"
TUNED = (ONE, PROBLEM, HINDSIGHT)
#: Settings whose losses differ by less than this share tie: the one that was drawn first is taken.
TIE = 1e-4


@dataclass(frozen=True)
class Chosen:
    """The setting of a method that is one for all problems."""

    index: int  #: of those that were tried
    setting: dict[str, float]
    score: float  #: mean ln loss on the problems that tune
    tied: int  #: settings that are as good, itself among them


@dataclass(frozen=True)
class Group:
    """What every method made of one group of problems: ln of final losses over first ones."""

    name: str
    clusters: np.ndarray  #: [problems] what resembles each other: a stack's, a part's
    losses: dict[str, dict[str, np.ndarray]]  #: method -> how it was tuned -> [problems]
    learned: dict[str, np.ndarray]  #: policy -> [problems]
    outside: dict[str, float]  #: policy -> share of its decisions that fell back
    misfit: np.ndarray  #: [problems] what `runs.misfit` finds
    picked: dict[str, np.ndarray]  #: method -> index of the setting tuned per problem

    @property
    def problems(self) -> int:
        """How many problems there are."""
        return len(self.misfit)

    def ratios(self, policy: str, method: str, how: str = PROBLEM) -> np.ndarray:
        """Return ln(policy / method), [problems]."""
        return self.learned[policy] - self.losses[method][how]

    def free(self) -> np.ndarray:
        """Return on which problems the loss can still fall, [problems].

        There the misfit is less than half of the median of what all methods, tuned per problem,
        and all policies ended with: a rule that looks at all of them alike.
        """
        ends = [*(found[PROBLEM] for found in self.losses.values()), *self.learned.values()]
        return self.misfit < np.median(ends, axis=0) - np.log(2.0)


@dataclass(frozen=True)
class Outcome:
    """All that was tuned and judged."""

    chosen: dict[str, Chosen]
    groups: list[Group]
    provenance: dict[str, Any]  #: policy -> how it was learned
    #: |X - W H|^2 over cosine's, one a seed, by set and mode, then by schedule
    estimator: dict[str, dict[str, list[float]]]


def lowest(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, along the last axis, the first of the lowest ln losses that tie, and how many do.

    >>> [int(x) for x in lowest(np.array([0.1, 0.00005, 0.0]))]
    [1, 2]
    """
    best = scores <= scores.min(-1, keepdims=True) + TIE
    return best.argmax(-1)[()], best.sum(-1)[()]


def outcome(results: Results, settings: Settings) -> Outcome:
    """Return all that was tuned and judged; real sets whose data were absent are left out.

    Raises:
        StoreError: something has not been run.
    """
    units = plan.units(settings)
    by_unit = {unit: digest for digest, unit in units.items()}
    chosen = {}
    for number, (name, method) in enumerate(METHODS.items()):
        scores = _losses(results, by_unit[Unit(TUNED_ON, name)], 1)[:, 0].mean(0)
        index, tied = lowest(scores)
        setting = method.settings(settings.tried, number)[index]
        chosen[name] = Chosen(int(index), setting, float(scores[index]), int(tied))
    names = [name for name in plan.groups(settings, None) if name != TUNED_ON]
    there = [name for name in names if name not in real.SETS or name == "digits"]
    there += [x for x in names if x not in there and by_unit[Unit(x, MISFIT)] in results]
    estimator: dict[str, dict[str, list[float]]] = {}
    for digest, name in plan.estimator_units(settings).items():
        if name == "digits" or digest in results:
            for row in results.of(digest):
                ratios = estimator.setdefault(row.task, {})
                ratios.setdefault(row.method, []).append(row.losses[0])
    return Outcome(
        chosen,
        [_group(results, by_unit, settings, name, chosen) for name in there],
        {policy.name: dict(policy.provenance) for policy in map(load, settings.policies)},
        estimator,
    )


def _losses(results: Results, digest: str, seeds: int) -> np.ndarray:
    """Return ln of a unit's losses, [problems, seeds, settings]."""
    return _log([row.losses for row in results.of(digest)]).reshape(
        -1, seeds, len(results.of(digest)[0].losses)
    )


def _log(losses: Sequence[Any]) -> np.ndarray:
    return np.asarray(log_share(torch.tensor(losses, dtype=torch.float64)).numpy())


def _group(
    results: Results,
    by_unit: dict[Unit, str],
    settings: Settings,
    name: str,
    chosen: dict[str, Chosen],
) -> Group:
    methods = [unit.method for unit in by_unit if unit.group == name]
    losses, picked = {}, {}
    for method in (x for x in methods if x in METHODS):
        found = _losses(results, by_unit[Unit(name, method)], settings.seeds)
        losses[method], picked[method] = judged(found, settings, chosen[method].index)
    learned, outside = {}, {}
    for method in (x for x in methods if x.startswith("learned")):
        rows = results.of(by_unit[Unit(name, method)])
        ends = _log([row.losses[0] for row in rows]).reshape(-1, settings.seeds)
        policy = method.removeprefix("learned ")
        learned[policy] = ends[:, settings.tuning_seeds :].mean(1)
        outside[policy] = float(np.mean([row.losses[1] for row in rows]))
    floors = results.of(by_unit[Unit(name, MISFIT)])
    words = [row.setting.rpartition(", problem ") for row in floors]
    clusters = [part if name in real.SETS else stack for stack, _, part in words]
    return Group(
        name,
        np.array(clusters),
        losses,
        learned,
        outside,
        _log([row.losses[0] for row in floors]),
        picked,
    )


def judged(
    losses: np.ndarray, settings: Settings, one: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return a method's ln losses as it is tuned in each way, and what was chosen per problem.

    Args:
        losses: ln, [problems, seeds, settings]; the first seeds tune, the others judge.
        settings: how many of each.
        one: the setting that is one for all.
    """
    tune, judge = losses[:, : settings.tuning_seeds], losses[:, settings.tuning_seeds :].mean(1)
    picked = lowest(np.median(tune, 1))[0]
    ends = {
        ONE: judge[:, one],
        PROBLEM: np.take_along_axis(judge, picked[:, None], 1)[:, 0],
        HINDSIGHT: judge.min(1),
    }
    return ends, picked


def mean_interval(group: Group, ratios: np.ndarray, where: np.ndarray | None = None) -> Interval:
    """Return the mean of ln ratios, whose exponential is a geometric mean, with its t interval.

    Problems of one shape, or of one part of a real set, are one unit.

    Args:
        group: whose problems they are.
        ratios: [problems].
        where: on which problems; all of them if None.
    """
    kept = np.ones(group.problems, bool) if where is None else where
    clusters = dict.fromkeys(group.clusters[kept].tolist())
    units = [ratios[kept & (group.clusters == cluster)] for cluster in clusters]
    over = "parts" if group.name in real.SETS else "stacks"
    return statistics.mean_interval(units, over=over)


def middle(group: Group, method: str, how: str = PROBLEM) -> Interval:
    """Return the interval of the policy whose geometric mean is the middle one of the policies'."""
    found = [mean_interval(group, group.ratios(policy, method, how)) for policy in group.learned]
    return sorted(found, key=lambda one: one.estimate)[(len(found) - 1) // 2]
