"""Plays the rounds of the study of GreedyLR's defaults, and writes the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evidence.greedy_defaults import page as pages
from evidence.greedy_defaults.numbers import Score, finalists, scores
from evidence.greedy_defaults.plan import OPTIMIZERS, Settings, label
from evidence.how import How
from ratewise.compare import plan as planning
from ratewise.compare import schedules, sweep
from ratewise.compare.schedules import Schedule
from ratewise.runs import Store

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> dict[str, Any]:
    """Play all rounds, write the page, and return the chosen settings; resumable."""
    settings = settings or Settings()
    how.check("round-1", "round-2", "round-3")
    first = play(0, settings, settings.candidates(), how.out / "round-1", how)
    best = finalists(first)
    anchored = [{**options, "schedule": "cosine"} for options in best]
    second = play(1, settings, [*best, *anchored], how.out / "round-2", how)
    chosen = next(score.options for score in second if "schedule" not in score.options)
    final = judge(settings, chosen, how.out / "round-3", how)
    pages.write(settings, first, second, chosen, final, how.page)
    return chosen


def play(
    number: int, settings: Settings, candidates: Sequence[dict[str, Any]], folder: Path, how: How
) -> list[Score]:
    """Tune every candidate and cosine on the tasks of round 0 or 1; return scores, best first."""
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
        data=how.data,
        steps=part.steps,
    )
    tuned = sweep.tune(plan, Store(folder), jobs=how.jobs, progress=how.progress)
    return scores(tuned, candidates)


def judge(settings: Settings, chosen: dict[str, Any], folder: Path, how: How) -> Store:
    """Judge the chosen settings, alone and on cosine, against every schedule, on fresh tasks."""
    part = settings.rounds[2]
    others = settings.judged or tuple(schedules.names())
    return sweep.run(
        part.tasks,
        optimizers=OPTIMIZERS,
        schedules=[
            Schedule("greedy", "greedy", chosen),
            Schedule("greedy-cosine", "greedy", {**chosen, "schedule": "cosine"}),
            *(name for name in others if name not in ("greedy", "greedy-cosine")),
        ],
        seeds=part.seeds,
        tuning_seeds=part.tuning_seeds,
        rates=settings.rates,
        out=folder,
        jobs=how.jobs,
        data=how.data,
        steps=part.steps,
        progress=how.progress,
    ).store
