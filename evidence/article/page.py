"""The page on the article's claims: which held, with every table behind the words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from evidence import page as pages
from evidence.article import numbers
from evidence.article.claims import claims, found
from evidence.article.cost import Cost
from evidence.article.figures import draw_histories, draw_schedules
from evidence.article.numbers import SHARES, Count, Judged, Parts, cell, methods
from evidence.article.plan import OURS, SIZED, Settings
from ratewise.compare.report.tables import number, ratio

SCHEDULES, HISTORIES = "article-schedules.png", "article-histories.png"
Rows = list[list[str]]


def write(parts: Parts, settings: Settings, page: Path) -> None:
    """Write the page, and its figures beside it."""
    judged = methods([*parts.schedules, *parts.rivals])
    figures = {
        SCHEDULES: partial(draw_schedules, judged, settings.tasks),
        HISTORIES: partial(draw_histories, judged, settings.tasks),
    }
    pages.write(page, text(parts, settings), figures)


def text(parts: Parts, settings: Settings) -> str:
    """Return the page."""
    judged = methods([*parts.schedules, *parts.rivals])
    said, rivals = found(parts, settings), numbers.present(judged)
    diverged = {
        f"{m.optimizer} {m.schedule} on {m.task}": sum(run.status == "diverged" for run in runs)
        for m, runs in judged.items()
    }
    return pages.render(
        "article/page.md.j2",
        claims(said),
        settings=settings,
        found=said,
        runs=len([*parts.schedules, *parts.rivals, *parts.sizes, *parts.lora]),
        steps=sorted({run.steps for run in parts.schedules}),
        ours=[schedule.name for schedule in OURS],
        schedules={s.name: _schedules(judged, s.name, settings) for s in OURS},
        by_optimizer=[_optimizer(judged, name, settings) for name in settings.optimizers],
        rivals={s.name: [_rival(judged, s.name, name) for name in rivals] for s in OURS},
        speed=[_speed(judged, name) for name in rivals],
        sizes=[size for size, _ in numbers.sizes(methods(parts.sizes), SIZED[1])],
        by_size=_sizes(methods(parts.sizes)),
        lora=_lora(methods(parts.lora)),
        pretrained=parts.pretrained,
        costs={
            device: _costs([cost for cost in parts.costs if cost.device == device])
            for device in dict.fromkeys(cost.device for cost in parts.costs)
        },
        judged_runs=sum(map(len, judged.values())),
        diverged={name: n for name, n in diverged.items() if n},
    )


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f}%"


def _row(first: str, counts: Sequence[Count]) -> list[str]:
    """Return a line: cells, then at the end of the run, then as good after 10 and 50%."""
    end = counts[-1]
    words = map(end.share, ("better", "undecided", "worse"))
    shares = (end.as_good, *words, end.paper_as_good, end.lower)
    early = [f"{_percent(c.as_good)}/{_percent(c.paper_as_good)}" for c in counts[:-1]]
    return [first, str(end.cells), ratio(end.overall), *map(_percent, shares), *early]


def _schedules(judged: Judged, ours: str, settings: Settings) -> Rows:
    def counts(names: Sequence[str]) -> list[Count]:
        return [numbers.against_schedules(judged, ours, names, share) for share in SHARES]

    rows = [_row(name, counts([name])) for name in settings.baselines]
    return [*rows, _row("all", counts(settings.baselines))]


def _optimizer(judged: Judged, optimizer: str, settings: Settings) -> list[str]:
    part = {m: runs for m, runs in judged.items() if m.optimizer == optimizer}
    against = partial(numbers.against_schedules, part, "greedy", settings.baselines)
    return _row(optimizer, [against(share) for share in SHARES])


def _rival(judged: Judged, ours: str, name: str) -> list[str]:
    return _row(name, [numbers.against_rival(judged, ours, name, share) for share in SHARES])


def _speed(judged: Judged, name: str) -> list[str]:
    found = numbers.rival_speed(judged, "greedy", name)
    counts = map(str, (found.pairs, found.ours, found.theirs))
    times = ratio(found.steps), ratio(found.seconds)
    return [name, *counts, *times, f"{found.sooner} / {found.later}"]


def _sizes(judged: Judged) -> Rows:
    rows = []
    for baseline in SIZED[1:]:
        by_size = numbers.sizes(judged, baseline)
        fitted = numbers.slope(by_size)
        line = f"{fitted.estimate:+.4f} [{fitted.low:+.4f}, {fitted.high:+.4f}]"
        rows.append([baseline, *(ratio(one.interval) for _, one in by_size), line])
    return rows


def _lora(judged: Judged) -> Rows:
    rows = []
    for method, runs in judged.items():
        losses = [run.test_loss[-1] for run in runs]
        against = cell(judged, method._replace(schedule="greedy"), method)
        said = ratio(against.interval) if against and method.schedule != "greedy" else ""
        rows.append([method.schedule, number(runs[0].base_lr), f"{np.median(losses):.4f}", said])
    return rows


def _costs(costs: Sequence[Cost]) -> tuple[list[str], Rows]:
    """Return the models, and rates and memory on the largest, added time on each."""
    models = list(dict.fromkeys(cost.model for cost in costs))
    rows = []
    for method in dict.fromkeys(cost.method for cost in costs):
        mine = {cost.model: cost for cost in costs if cost.method == method}
        last = mine[models[-1]]
        memory = f"{last.extra_bytes / 2**20:.1f} MiB" if last.base else ""
        rows.append([method, f"{last.rates:,}", memory, *(_time(mine[m]) for m in models)])
    return models, rows


def _time(cost: Cost) -> str:
    """Return the time of a step, or what it takes more than the base's with its quartiles."""
    if not cost.base:
        return f"{1000 * float(np.median(cost.seconds)):.3g} ms"
    middle, low, high = cost.added
    return f"{middle:+.1f}% [{low:+.1f}, {high:+.1f}]"
