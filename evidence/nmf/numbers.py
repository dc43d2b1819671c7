"""What came out of learned and tuned rates of a factorisation, from what is kept of the runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evidence.nmf import plan
from evidence.nmf.plan import MISFIT, Chosen, Settings
from evidence.results import Results
from ratewise.compare import statistics
from ratewise.compare.statistics import Interval
from ratewise.learning.noisy_descent import log_share
from ratewise.nmf.learned import load


@dataclass(frozen=True)
class Result:
    """Final losses over first ones of all methods on one group of stacks."""

    group: str
    stacks: list[str]
    losses: dict[str, list[list[float]]]  #: method -> one list a stack
    outside: dict[str, float]  #: policy -> share of its decisions that fell back
    misfit: list[list[float]]  #: what `misfit` finds, one list a stack

    @property
    def problems(self) -> int:
        """How many problems there are."""
        return sum(map(len, self.misfit))

    def log_ratios(self, ours: str, theirs: str) -> list[np.ndarray]:
        """Return ln(ours / theirs), one array a stack."""
        pairs = zip(self.losses[ours], self.losses[theirs], strict=True)
        return [(_log(a) - _log(b)).numpy() for a, b in pairs]

    def free(self, theirs: str) -> list[np.ndarray]:
        """Return whether most of a method's final loss is no misfit, one array a stack."""
        pairs = zip(self.misfit, self.losses[theirs], strict=True)
        return [np.array(floor) < 0.5 * np.array(loss) for floor, loss in pairs]


def _log(losses: Sequence[float]) -> Tensor:
    return log_share(torch.tensor(losses, dtype=torch.float64))


@dataclass(frozen=True)
class Outcome:
    """All that was tuned and judged."""

    chosen: Chosen
    scores: dict[str, float]  #: mean ln loss on the tuning problems
    results: list[Result]
    provenance: dict[str, Any]  #: policy -> how it was learned
    #: |X - W H|^2 over cosine's, one a seed, by set and mode, then by schedule
    estimator: dict[str, dict[str, list[float]]]


def chosen_in(results: Results, settings: Settings) -> tuple[Chosen, dict[str, float]]:
    """Return each method's tuned setting, and its mean ln loss on the tuning problems.

    Raises:
        StoreError: a method has not been tuned.
    """
    rows = [results.of(digest)[0] for digest in plan.tuning_units(settings)]
    return (
        {row.method: json.loads(row.setting) for row in rows},
        {row.method: row.losses[0] for row in rows},
    )


def outcome(results: Results, settings: Settings) -> Outcome:
    """Return all that was tuned and judged; real sets whose data were absent are left out.

    Raises:
        StoreError: something has not been run.
    """
    policies = [load(name) for name in settings.policies]
    digests = [policy.digest for policy in policies]
    chosen, scores = chosen_in(results, settings)
    units = plan.judging_units(settings, chosen, digests)
    always = list(units)[:4]  # digits come with the packages; what follows them does not
    judged = [x for x in units if x in always or x in results]
    estimator: dict[str, dict[str, list[float]]] = {}
    for digest, name in plan.estimator_units(settings, digests).items():
        if name == "digits" or digest in results:
            for row in results.of(digest):
                ratios = estimator.setdefault(row.task, {})
                ratios.setdefault(row.method, []).append(row.losses[0])
    return Outcome(
        chosen,
        scores,
        [_judged(results, digest, units[digest]) for digest in judged],
        {policy.name: dict(policy.provenance) for policy in policies},
        estimator,
    )


def _judged(results: Results, digest: str, group: str) -> Result:
    losses: dict[str, dict[str, list[float]]] = {}
    outside: dict[str, list[float]] = {}
    for row in results.of(digest):
        losses.setdefault(row.method, {}).setdefault(row.setting, []).append(row.losses[0])
        if len(row.losses) > 1:
            outside.setdefault(row.method.removeprefix("learned "), []).append(row.losses[1])
    floors = losses.pop(MISFIT)
    return Result(
        group,
        [name.partition(": ")[2] for name in floors],
        {method: list(found.values()) for method, found in losses.items()},
        {name: float(np.mean(shares)) for name, shares in outside.items()},
        list(floors.values()),
    )


def median_interval(result: Result, ours: str, theirs: str) -> Interval:
    """Return the median of ln(ours / theirs), a stack of problems of one shape being one unit."""
    return statistics.median_interval(result.log_ratios(ours, theirs), over="stacks")


def mean_interval(result: Result, ours: str, theirs: str) -> Interval:
    """Return the mean of ln(ours / theirs), whose exponential is the geometric mean."""
    return statistics.mean_interval(result.log_ratios(ours, theirs), over="stacks")


def parts(result: Result, ours: str, theirs: str) -> dict[bool, list[np.ndarray]]:
    """Return ln(ours / theirs) where most of their loss can be removed, and where it cannot."""
    ratios, free = result.log_ratios(ours, theirs), result.free(theirs)
    return {
        wanted: [x[mask == wanted] for x, mask in zip(ratios, free, strict=True)]
        for wanted in (True, False)
    }


def tail(result: Result, ours: str, theirs: str) -> float:
    """Return the 95th percentile of ours / theirs."""
    return float(np.exp(np.quantile(np.concatenate(result.log_ratios(ours, theirs)), 0.95)))
