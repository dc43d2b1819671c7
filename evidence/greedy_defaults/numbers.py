"""How the candidates of a round did, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evidence.greedy_defaults.plan import FINALISTS, label
from ratewise.compare.statistics import CAP
from ratewise.compare.tuning import MethodOnTask, Tuned


@dataclass(frozen=True)
class Score:
    """How a candidate did in a round: its tuned validation loss relative to tuned cosine's."""

    name: str
    options: dict[str, Any]
    log_ratios: dict[tuple[str, str], float]  #: (task, optimizer) -> log(ours / cosine)

    @property
    def mean(self) -> float:
        """The mean log-ratio over the cells, by which a round is won."""
        return float(np.mean(list(self.log_ratios.values())))

    @property
    def median(self) -> float:
        """The median log-ratio over the cells."""
        return float(np.median(list(self.log_ratios.values())))


def scores(tuned: dict[MethodOnTask, Tuned], candidates: Sequence[dict[str, Any]]) -> list[Score]:
    """Return the candidates' scores against "cosine", best mean first."""
    found = []
    for options in candidates:
        name = label(options)
        ratios = {
            (method.task, method.optimizer): _log_ratio(
                optimum.validation_loss, tuned[method._replace(schedule="cosine")].validation_loss
            )
            for method, optimum in tuned.items()
            if method.schedule == name
        }
        found.append(Score(name, options, ratios))
    return sorted(found, key=lambda score: (score.mean, score.name))


def _log_ratio(ours: float, theirs: float) -> float:
    """Limited to a factor of 10 either way, so that one bad cell does not decide alone."""
    if math.isinf(ours) and math.isinf(theirs):
        return 0.0
    if math.isinf(ours) or math.isinf(theirs):
        return math.log(CAP) * (1 if math.isinf(ours) else -1)
    return min(math.log(CAP), max(-math.log(CAP), math.log(ours / theirs)))


def finalists(ranked: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the best candidates' options, those that differ in `plateau` alone counted once.

    What lies inside the threshold of 1e-4 is rarely met, so that such twins make the same runs.
    """
    chosen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for score in ranked:
        same = tuple(value for name, value in score.options.items() if name != "plateau")
        chosen.setdefault(same, score.options)
    return list(chosen.values())[:FINALISTS]
