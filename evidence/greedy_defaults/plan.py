"""Which settings GreedyLR should have by default, chosen in three rounds.

Nothing is tuned on what judges it: all candidates meet on cheap tasks, the best four on three
more, and the one that is chosen is judged once, on tasks that nothing was chosen on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ratewise.compare import plan as planning
from ratewise.compare import schedules, sweep
from ratewise.compare.schedules import Schedule
from ratewise.compare.statistics import CAP
from ratewise.compare.sweep import Comparison
from ratewise.compare.tuning import Method, Tuned
from ratewise.runs import Store, files

OPTIMIZERS = ("sgd", "adamw")
RATES = 5
#: Four candidates go on to round 2.
FINALISTS = 4


@dataclass(frozen=True)
class Round:
    """Where and how thoroughly the candidates of a round meet."""

    tasks: tuple[str, ...]
    tuning_seeds: int
    seeds: int = 1
    steps: int | None = None


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    windows: Sequence[int] = (1, 10, 20, 50)
    paces: Sequence[tuple[float, int]] = ((0.95, 10), (0.9, 3), (0.9, 10), (0.8, 5), (0.7, 3))
    rounds: tuple[Round, Round, Round] = (
        Round(("digits-mlp", "diabetes-mlp", "breast-cancer-mlp"), tuning_seeds=2),
        Round(("digits-cnn", "pydoc-gru", "housing-mlp"), tuning_seeds=3),
        Round(
            ("fashion-cnn", "cifar-resnet", "shakespeare-transformer", "polarity-text"),
            tuning_seeds=2,
            seeds=8,
        ),
    )
    rates: int = RATES
    judged: tuple[str, ...] = ()  #: schedules of the last round beside ours; () is all there are

    def candidates(self) -> list[dict[str, Any]]:
        """Return every combination of the settings under study."""
        return [
            {
                "factor": factor,
                "patience": patience,
                "window": window,
                "reference": reference,
                "plateau": plateau,
            }
            for (factor, patience), window, reference, plateau in itertools.product(
                self.paces, self.windows, ("best", "previous"), ("bad", "neutral")
            )
        ]


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


def label(options: dict[str, Any]) -> str:
    """Return a short name of a candidate.

    >>> label({"factor": 0.9, "patience": 3, "window": 20, "reference": "best", "plateau": "bad"})
    '0.9/3/20 best bad'
    """
    name = "{factor:g}/{patience}/{window} {reference} {plateau}".format(**options)
    return name + (f" on {options['anchor']}" if options.get("anchor") else "")


def play(
    number: int,
    settings: Settings,
    candidates: Sequence[dict[str, Any]],
    folder: Path,
    *,
    data: str | None,
    jobs: int,
    progress: bool = True,
) -> list[Score]:
    """Tune every candidate and cosine on a round's tasks; return the scores, best first.

    Args:
        number: 0 or 1.
        settings: the study's size.
        candidates: options of GreedyLR.
        folder: where the round's runs are kept.
        data: folder with the data sets.
        jobs: processes.
        progress: show bars.
    """
    part = settings.rounds[number]
    contenders = [Schedule(label(options), "greedy", options) for options in candidates]
    plan = planning.make(
        part.tasks,
        OPTIMIZERS,
        [*contenders, schedules.named("cosine")],
        seeds=part.seeds,
        tuning_seeds=part.tuning_seeds,
        rates=settings.rates,
        preset="small",
        data=data,
        steps=part.steps,
    )
    tuned = sweep.tune(plan, Store(folder), jobs=jobs, progress=progress)
    return scores(tuned, candidates)


def scores(tuned: dict[Method, Tuned], candidates: Sequence[dict[str, Any]]) -> list[Score]:
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
    limit = math.log(CAP)
    return (
        limit
        if math.isinf(ours)
        else -limit
        if math.isinf(theirs)
        else min(limit, max(-limit, math.log(ours / theirs)))
    )


def finalists(ranked: Sequence[Score]) -> list[dict[str, Any]]:
    """Return the best candidates' options, those that differ in `plateau` alone counted once.

    What lies inside the threshold of 1e-4 is rarely met, so that such twins make the same runs.
    """
    chosen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for score in ranked:
        same = tuple(value for name, value in score.options.items() if name != "plateau")
        chosen.setdefault(same, score.options)
    return list(chosen.values())[:FINALISTS]


def judge(
    settings: Settings,
    chosen: dict[str, Any],
    folder: Path,
    *,
    data: str | None,
    jobs: int,
    progress: bool = True,
) -> Comparison:
    """Judge the chosen settings, alone and on cosine, against every schedule, on fresh tasks."""
    part = settings.rounds[2]
    others = settings.judged or tuple(schedules.names())
    return sweep.run(
        part.tasks,
        optimizers=OPTIMIZERS,
        schedules=[
            Schedule("greedy", "greedy", chosen),
            Schedule("greedy-cosine", "greedy", {**chosen, "anchor": "cosine"}),
            *(name for name in others if name not in ("greedy", "greedy-cosine")),
        ],
        seeds=part.seeds,
        tuning_seeds=part.tuning_seeds,
        rates=settings.rates,
        out=folder,
        jobs=jobs,
        data=data,
        steps=part.steps,
        progress=progress,
    )


def run(
    out: Path,
    page: Path,
    *,
    data: str | None,
    jobs: int = 1,
    settings: Settings | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Play all rounds, write the page, and return the chosen settings; resumable.

    Args:
        out: folder for the runs, one store a round.
        page: the Markdown file to write.
        data: folder with the data sets.
        jobs: processes.
        settings: the study's size.
        progress: show bars.
    """
    settings = settings or Settings()
    first = play(
        0, settings, settings.candidates(), out / "round-1", data=data, jobs=jobs, progress=progress
    )
    best = finalists(first)
    anchored = [{**options, "anchor": "cosine"} for options in best]
    second = play(
        1,
        settings,
        [*best, *anchored],
        out / "round-2",
        data=data,
        jobs=jobs,
        progress=progress,
    )
    chosen = next(score.options for score in second if "anchor" not in score.options)
    final = judge(settings, chosen, out / "round-3", data=data, jobs=jobs, progress=progress)

    from evidence.greedy_defaults.page import write_up

    page.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(page, write_up(settings, first, second, chosen, final).encode())
    return chosen
