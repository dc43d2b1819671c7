"""The page on the article's claims: which held, with every table behind the words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evidence.article.claims import (
    against_rival,
    against_schedules,
    present,
    rival_speed,
    sizes,
)
from evidence.article.cost import Cost
from evidence.article.figures import HISTORIES, SCHEDULES
from evidence.article.numbers import SHARES, Count, Judged, cell, methods, slope
from evidence.article.plan import OURS, SIZED, Parts, Settings
from evidence.article.words import verdicts
from ratewise.compare.report.tables import Table, number, ratio

#: What the paper (arXiv 2512.14527) and the article report; never ours.
PAPER = (
    "The paper: as good or better in 86.7% of 196 comparisons of 16 small models, final losses as "
    "good or better with the same optimizer in more than 91%. The article: in more than 90%."
)


def write_up(parts: Parts, settings: Settings) -> str:
    """Return the page.

    Args:
        parts: what was run.
        settings: the study's size.
    """
    judged = methods([*parts.schedules, *parts.rivals])
    sized, adapted = methods(parts.sizes), methods(parts.lora)
    rivals = present(judged)
    runs = [*parts.schedules, *parts.rivals, *parts.sizes, *parts.lora]
    lines = [
        "# The article's claims on GreedyLR, tested",
        "",
        "Made by `ratewise study article --data DATA`; the same command goes on after a kill.",
        f"{len(runs):,} trainings: {len(settings.tasks)} tasks ({', '.join(settings.tasks)}), "
        f"{_steps(parts)} steps, each method",
        f"tuned by {settings.rates} values on {settings.tuning_seeds} seeds (a grid whose optimum "
        "lies at its edge is extended), and judged by",
        f"{settings.seeds} fresh seeds on the test part. GreedyLR's defaults were chosen on other "
        "data. Time is processor",
        "time of one thread on one machine, without evaluations; a line search's extra forward "
        "passes are on the clock.",
        "",
        "## Which of the article's sentences held",
        "",
        *verdicts(parts, settings),
        "",
        f"![Schedules]({SCHEDULES})",
        "",
        "Figure 1. The rates that GreedyLR chose (red; median of the judged runs, band from lowest "
        "to highest), beside tuned linear, cosine and constant ones, AdamW.",
        "",
        f"![Loss histories]({HISTORIES})",
        "",
        "Figure 2. Validation loss of GreedyLR on SGD (black), SGD at a constant rate (red) and "
        "hypergradient descent with a rate a parameter (green) and a group (blue), each tuned; "
        "medians and ranges of the judged runs, by steps and by training time. A diverged run "
        "counts as 10 times the untrained model's loss.",
        "",
        "## As good or better: the schedules",
        "",
        "A cell is a task with an optimizer. By the interval: as good = better, a tie or "
        "non-inferior (below 1.02 with 95%); the rest is undecided or worse. By the paper's count: "
        "a loss not above the other's plus 0.1, which forgives much where losses are small; and "
        "how many medians are not above the other's by any margin.",
        "",
        PAPER,
        "",
        *_blocks([_schedule_table(judged, ours.name, settings) for ours in OURS]),
        "By optimizer, GreedyLR's default against all schedules at the end:",
        "",
        _optimizer_table(judged, settings).markdown(),
        "",
        "## Against methods that choose the rate themselves",
        "",
        "Hypergradient descent (Baydin et al. 2018) starts at the rate that a constant schedule "
        "was best with, a gift that cost as many runs again, and is tuned over its hyper-rate; the "
        "line search (Vaswani et al. 2019) over the largest rate that it may take.",
        "",
        *_blocks([_rival_table(judged, ours.name, rivals) for ours in OURS]),
        "How soon a run reaches the validation loss that a tuned constant rate ends at, plus 2% "
        "(never counts as infinite): GreedyLR's default over theirs, medians over pairs; below 1 "
        "GreedyLR is sooner.",
        "",
        _speed_table(judged, rivals).markdown(),
        "",
        "## Size",
        "",
        "Causal transformers on tiny Shakespeare, the same tokens, AdamW, each method tuned. Ratio "
        "of GreedyLR's test loss to the other's, and its slope in the logarithm for each tenfold "
        "of parameters, with the interval over seeds; below 0: the larger the model, the better "
        "for GreedyLR.",
        "",
        _size_table(sized).markdown(),
        "",
        "## LoRA",
        "",
        "A transformer of 100k parameters, pre-trained by the study on tiny Shakespeare (test loss "
        f"{parts.pretrained:.3f}), adapted to WikiText-2 by changes of rank 4 at its linear "
        "layers; AdamW, each tuned.",
        "",
        _lora_table(adapted).markdown(),
        "",
        "## What each method costs",
        "",
        "A causal transformer, 8 x 32 tokens, float32; what a step takes more than the plain "
        "optimizer's, medians over rounds of the ratio within a round, and the quartiles. Memory "
        "is what is kept between steps beyond the plain optimizer; while it searches, a line "
        "search holds a copy of the parameters and a direction besides.",
        "",
        *_blocks([_cost_table(parts.costs, device) for device in _devices(parts.costs)]),
        *([] if "cuda" in _devices(parts.costs) else ["On a GPU: not measured.", ""]),
        "## Runs that diverged, at tuned rates",
        "",
        _diverged(judged),
        "",
    ]
    return "\n".join(lines)


def _steps(parts: Parts) -> str:
    return ", ".join(str(n) for n in sorted({run.steps for run in parts.schedules}))


def _blocks(tables: Sequence[Table]) -> list[str]:
    return [text for table in tables for text in (f"**{table.caption}**", "", table.markdown(), "")]


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.0f}%"


def _row(first: str, counts: Sequence[Count]) -> list[str]:
    """Return a line: cells, then at the end of the run, then as good after 10 and 50%."""
    end = counts[-1]
    early = [f"{_percent(c.as_good)}/{_percent(c.paper_as_good)}" for c in counts[:-1]]
    return [
        first,
        str(end.cells),
        ratio(end.overall),
        _percent(end.as_good),
        _percent(end.better),
        _percent(end.undecided),
        _percent(end.worse),
        _percent(end.paper_as_good),
        _percent(end.lower),
        *early,
    ]


_HEADER = [
    "against",
    "cells",
    "ratio over all [95%]",
    "as good",
    "better",
    "undecided",
    "worse",
    "paper's count",
    "not above",
    "as good/paper at 10%",
    "at 50%",
]


def _schedule_table(judged: Judged, ours: str, settings: Settings) -> Table:
    rows = [
        _row(name, [against_schedules(judged, ours, [name], share) for share in SHARES])
        for name in settings.baselines
    ]
    total = [against_schedules(judged, ours, settings.baselines, share) for share in SHARES]
    return Table(f"{ours} against the schedules", _HEADER, [*rows, _row("all", total)])


def _optimizer_table(judged: Judged, settings: Settings) -> Table:
    rows = []
    for optimizer in settings.optimizers:
        part = {m: runs for m, runs in judged.items() if m.optimizer == optimizer}
        counts = [against_schedules(part, "greedy", settings.baselines, share) for share in SHARES]
        rows.append(_row(optimizer, counts))
    return Table("by optimizer", ["optimizer", *_HEADER[1:]], rows)


def _rival_table(judged: Judged, ours: str, rivals: Sequence[str]) -> Table:
    rows = [
        _row(name, [against_rival(judged, ours, name, share) for share in SHARES])
        for name in rivals
    ]
    return Table(f"{ours}, on the same base optimizer", _HEADER, rows)


def _speed_table(judged: Judged, rivals: Sequence[str]) -> Table:
    rows = []
    for name in rivals:
        found = rival_speed(judged, "greedy", name)
        rows.append(
            [
                name,
                str(found.pairs),
                str(found.ours),
                str(found.theirs),
                number(found.steps),
                number(found.seconds),
                f"{found.sooner} / {found.later}",
            ]
        )
    header = ["against", "pairs", "GreedyLR there", "they there", "steps", "training time"]
    header.append("sooner / later in time")
    return Table("speed", header, rows)


def _size_table(judged: Judged) -> Table:
    rows, header = [], ["GreedyLR against"]
    for baseline in SIZED[1:]:
        by_size = sizes(judged, baseline)
        header = ["GreedyLR against", *(f"{size:,} parameters" for size, _ in by_size)]
        fitted = slope(by_size)
        line = f"{fitted.estimate:+.4f} [{fitted.low:+.4f}, {fitted.high:+.4f}]"
        rows.append([baseline, *(ratio(one.interval) for _, one in by_size), line])
    return Table("size", [*header, "slope a tenfold [95%]"], rows)


def _lora_table(judged: Judged) -> Table:
    rows = []
    for method, runs in judged.items():
        losses = [run.test_loss[-1] for run in runs]
        against = cell(judged, method._replace(schedule="greedy"), method)
        said = ratio(against.interval) if against and method.schedule != "greedy" else ""
        rows.append([method.schedule, number(runs[0].base_lr), f"{np.median(losses):.4f}", said])
    return Table("LoRA", ["schedule", "tuned rate", "test loss", "GreedyLR over it [95%]"], rows)


def _devices(costs: Sequence[Cost]) -> list[str]:
    return list(dict.fromkeys(cost.device for cost in costs))


def _cost_table(costs: Sequence[Cost], device: str) -> Table:
    """Return rates and memory on the largest model, added time on each."""
    here = [cost for cost in costs if cost.device == device]
    models = list(dict.fromkeys(cost.model for cost in here))
    rows = []
    for method in dict.fromkeys(cost.method for cost in here):
        mine = {cost.model: cost for cost in here if cost.method == method}
        last = mine[models[-1]]
        plain = not last.base
        rows.append(
            [
                method,
                f"{last.rates:,}",
                "" if plain else f"{last.extra_bytes / 2**20:.1f} MiB",
                *(_plain(mine[m]) if plain else added(mine[m]) for m in models),
            ]
        )
    header = ["method", f"rates kept, {models[-1]}", "memory, the same", *models]
    return Table(f"On the {device}, by parameters", header, rows)


def _plain(cost: Cost) -> str:
    return f"{1000 * float(np.median(cost.seconds)):.3g} ms"


def added(cost: Cost) -> str:
    """Return the time a step takes more than the base's, in per cent, with its quartiles."""
    ratios = np.array(cost.seconds) / np.array(cost.base_seconds) - 1
    low, middle, high = 100 * np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:+.1f}% [{low:+.1f}, {high:+.1f}]"


def _diverged(judged: Judged) -> str:
    counts = {
        f"{m.optimizer} {m.schedule} on {m.task}": sum(run.status == "diverged" for run in runs)
        for m, runs in judged.items()
    }
    found = {name: n for name, n in counts.items() if n}
    total = sum(map(len, judged.values()))
    if not found:
        return f"None of {total}."
    return f"{sum(found.values())} of {total}: " + "; ".join(f"{k} {n}" for k, n in found.items())
