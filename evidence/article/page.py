"""The page on the article's claims: which held, with every table behind the words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from evidence import page as pages
from evidence.article import numbers, plan, rivals
from evidence.article.claims import LARGER, claims, found, slope
from evidence.article.cost import Cost
from evidence.article.figures import draw_histories, draw_schedules
from evidence.article.numbers import Count, Judged, Study, parameters
from evidence.article.plan import FALL, GREEDY, OLD, OURS, Settings
from evidence.results import Results
from ratewise.compare.analysis import SHARES
from ratewise.compare.report.tables import number, ratio
from ratewise.compare.statistics import cell_interval

SCHEDULES, HISTORIES = "article-schedules.png", "article-histories.png"
Rows = list[list[str]]


def write(results: Results, settings: Settings, page: Path) -> None:
    """Write the page, and where anything is complete its figures beside it."""
    study = numbers.load(results, settings)
    figures = {
        SCHEDULES: partial(draw_schedules, study.judged, study.tasks),
        HISTORIES: partial(draw_histories, study.judged, study.clocks, settings.tasks),
    }
    pages.write(page, text(study), figures if study.has(plan.BEFORE) else {})


def text(study: Study) -> str:
    """Return the page."""
    settings, said = study.settings, found(study)
    judged, apart = study.of(study.tasks), study.of(study.tasks, developed=True)
    met = rivals.present(judged)
    there = [task for task in study.tasks if any(m.task == task for m in study.judged)]
    ours = [*(schedule.name for schedule in GREEDY), FALL]
    return pages.render(
        "article/page.md.j2",
        claims(said),
        settings=settings,
        study=study,
        found=said,
        parts=_parts(study),
        fall=FALL,
        beside={x: numbers.against(judged, x, settings.baselines).as_good for x in (OLD, FALL)},
        sets=len({plan.data_set(method.task) for method in judged}),
        schedules={name: _schedules(judged, name, settings) for name in ours if judged},
        apart=_schedules(apart, OURS, settings) if apart else [],
        by_optimizer=[
            _row(name, [numbers.against(part, OURS, settings.baselines, x) for x in SHARES])
            for name in (*settings.optimizers, *settings.others)
            if (part := {m: runs for m, runs in judged.items() if m.optimizer == name})
        ],
        by_task=[_task(study.judged, task, settings) for task in there],
        rivals={
            name: [
                _row(x, [rivals.against(judged, name, x, share) for share in SHARES]) for x in met
            ]
            for name in (OURS, OLD)
            if met
        },
        speed=[_speed(name, one.speed) for one in said.rivals for name in [one.name]],
        sizes=_sizes(study),
        tuned=_tuned(study),
        costs={
            device: _costs([cost for cost in study.costs if cost.device == device])
            for device in dict.fromkeys(cost.device for cost in study.costs)
        },
        judged_runs=sum(map(len, study.judged.values())),
        diverged={
            f"{m.optimizer} {m.schedule} on {m.task}": sum(x.status == "diverged" for x in runs)
            for m, runs in study.judged.items()
            if any(x.status == "diverged" for x in runs)
        },
    )


def _parts(study: Study) -> dict[str, list[str]]:
    """Return which parts are complete, under way, and not begun."""
    found: dict[str, list[str]] = {"Complete": [], "Under way": [], "Not begun": []}
    for part, (there, planned) in study.done.items():
        if study.has(part):
            found["Complete"].append(part)
        elif there:
            found["Under way"].append(f"{part} ({there} of {planned} tasks with an optimizer)")
        elif planned:
            found["Not begun"].append(part)
    return found


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f}%"


def _row(first: str, counts: Sequence[Count]) -> list[str]:
    """Return a line: cells, then at the end of the run, then as good after 10 and 50%."""
    end = counts[-1]
    words = map(end.share, ("better", "undecided", "worse"))
    shares = (end.as_good, *words, end.paper_as_good, end.lower)
    early = [f"{_percent(c.as_good)}/{_percent(c.paper_as_good)}" for c in counts[:-1]]
    typical = f"{end.typical:.3f}"
    return [first, str(end.cells), ratio(end.overall), typical, *map(_percent, shares), *early]


def _schedules(judged: Judged, ours: str, settings: Settings) -> Rows:
    """Return a row a usual schedule, one of all, and one each of those that are not usual."""

    def row(first: str, names: Sequence[str]) -> list[str]:
        return _row(first, [numbers.against(judged, ours, names, share) for share in SHARES])

    rows = [row(name, [name]) for name in settings.baselines]
    rows.append(row("all of these", settings.baselines))
    others = [FALL, *(schedule.name for schedule in GREEDY[1:])] if ours == OURS else []
    return [*rows, *(row(name, [name]) for name in others)]


def _task(judged: Judged, task: str, settings: Settings) -> list[str]:
    """Return geometric means over the optimizers that every task has, of the tuned losses."""
    part = {
        m: runs
        for m, runs in judged.items()
        if m.task == task and m.optimizer in settings.optimizers
    }
    steps = f"{plan.steps_of(settings, task):,}"
    each = [numbers.against(part, OURS, [name]).overall for name in ("cosine", "linear", FALL, OLD)]
    ratios = [f"{math.exp(x.estimate):.3f}" if x.n else "-" for x in each]
    return [task, steps, plan.look(task), *ratios]


def _speed(name: str, one: rivals.Speed) -> list[str]:
    counts = map(str, (one.pairs, one.ours, one.theirs))
    return [name, *counts, ratio(one.steps), ratio(one.seconds), f"{one.sooner} / {one.later}"]


def _sizes(study: Study) -> Rows:
    """Return a row a schedule and data set: ratios by size, and the slope; then all data sets'."""
    sized, rows = study.of(study.settings.sized), []
    columns = dict.fromkeys(name.split("-")[1] for name in study.settings.sized)
    for baseline in LARGER if sized else ():
        for source, cells in numbers.sizes(sized, baseline).items():
            by_size = dict(sorted(cells.items(), key=lambda pair: parameters(pair[0])))
            ratios = [ratio(by_size[x].interval) if x in by_size else "" for x in columns]
            one = cell_interval(numbers.slopes(by_size))
            rows.append([baseline, source, *ratios, _slope(one.estimate, one.low, one.high)])
        all_ = slope(sized, baseline)
        rows.append([baseline, "all", *[""] * len(columns), _slope(*all_[:3])])
    return rows


def _slope(estimate: float, low: float, high: float) -> str:
    return f"{estimate:+.4f} [{low:+.4f}, {high:+.4f}]"


def _tuned(study: Study) -> Rows:
    rows = []
    judged = study.of(study.settings.fine_tuned)
    for method, runs in judged.items():
        first, last = (np.median([run.test_loss[i] for run in runs]) for i in (0, -1))
        against = numbers.cell(judged, method._replace(schedule=OURS), method)
        said = ratio(against.interval) if against and method.schedule != OURS else ""
        losses = f"{first:.4f}", f"{last:.4f}"
        rows.append([method.task, method.schedule, number(runs[0].base_lr), *losses, said])
    return sorted(rows, key=lambda row: row[0])


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
