"""The page of evidence on GreedyLR's defaults: what was chosen, on what, and how it did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from evidence.greedy_defaults.plan import OPTIMIZERS, Score, Settings
from ratewise.compare import analysis, report
from ratewise.compare.analysis import Pair
from ratewise.compare.report import tables
from ratewise.compare.report.tables import Table
from ratewise.compare.sweep import Comparison

#: Rows of round 1 that the page shows; the store has all.
SHOWN = 12
#: Share of the cells that should be non-inferior.
GOAL = 0.9


def write_up(
    settings: Settings,
    first: Sequence[Score],
    second: Sequence[Score],
    chosen: dict[str, Any],
    final: Comparison,
) -> str:
    """Return the page of evidence."""
    said = report.content(analysis.load(final.store))
    ours = [pair for pair in said.tuned if pair.ours in ("greedy", "greedy-cosine")]
    undecided = sum(pair.verdicts["undecided"] for pair in ours)
    rounds = settings.rounds
    return "\n".join(
        [
            "# The defaults of GreedyLR, chosen by measurement",
            "",
            "Made by `ratewise study greedy-defaults --data DATA`; the same command goes on after",
            f"a kill. Small presets, optimizers {' and '.join(OPTIMIZERS)}, {settings.rates} base",
            "rates over three decades, extended where an optimum lies at the edge.",
            "",
            f"Chosen: **{', '.join(f'{k}={v!r}' for k, v in chosen.items())}**.",
            "",
            "## What came out",
            "",
            f"The goal: non-inferior to each schedule in at least {GOAL:.0%} of the cells (a task "
            "with an",
            "optimizer), and a ratio to cosine whose interval reaches 1.00 or less. Judged once "
            "(round 3):",
            "",
            *(f"- {_reached(name, ours)}" for name in ("greedy", "greedy-cosine")),
            "",
            _goals(ours).markdown(),
            "",
            f"{undecided} of {sum(len(pair.cells) for pair in ours)} comparisons of cells are "
            "undecided and stand apart.",
            "",
            "## What was used for what",
            "",
            f"1. {len(first)} candidates on {', '.join(rounds[0].tasks)}; "
            f"{rounds[0].tuning_seeds} seeds.",
            f"2. {len(second) // 2} of them, each alone and on cosine, on "
            f"{', '.join(rounds[1].tasks)}; {rounds[1].tuning_seeds} seeds.",
            f"3. The chosen one, judged once on {', '.join(rounds[2].tasks)}: "
            f"{rounds[2].tuning_seeds} tuning seeds, {rounds[2].seeds} fresh seeds, the test part.",
            "",
            "Rounds 1 and 2 rank by the mean log-ratio of the tuned validation loss to tuned",
            "cosine's, over tasks and optimizers, a cell limited to a factor of 10. Candidates",
            "that differ in `plateau` alone count once: within a threshold of 1e-4 they make the",
            "same runs.",
            "",
            "## Round 1",
            "",
            f"The best {SHOWN} and the worst, ratio to tuned cosine (below 1: lower loss).",
            "",
            _scores_table([*first[:SHOWN], *first[SHOWN:][-1:]]).markdown(),
            "",
            "What each setting did, as the geometric mean over all candidates that have it:",
            "",
            _margins(first).markdown(),
            "",
            "## Round 2",
            "",
            _scores_table(second).markdown(),
            "",
            "## Round 3: judged once",
            "",
            *(f"- {line}" for line in said.lost),
            "",
            *(
                f"### {table.caption}\n\n{table.markdown()}\n"
                for table in (said.verdicts, said.cells, said.detail, said.paper)
            ),
            "## How the last round was made",
            "",
            *(f"- {line}" for line in said.methods),
            "",
        ]
    )


def _goals(pairs: Sequence[Pair]) -> Table:
    rows = [
        [
            pair.ours,
            pair.baseline,
            f"{pair.non_inferior} of {len(pair.cells)}",
            f"{pair.non_inferior} of {pair.decided}",
            str(pair.verdicts["better"]),
            str(pair.verdicts["worse"]),
            tables.ratio(pair.overall),
        ]
        for pair in pairs
    ]
    header = [
        "",
        "against",
        "non-inferior",
        "of decided",
        "better",
        "worse",
        "ratio over all [95%]",
    ]
    return Table("goals", header, rows)


def _reached(name: str, pairs: Sequence[Pair]) -> str:
    """Say in words whether the goals are met; the last peer is no standard schedule."""
    mine = [p for p in pairs if p.ours == name and p.baseline != "transformers-greedy"]
    met = [p.baseline for p in mine if p.cells and p.non_inferior >= GOAL * len(p.cells)]
    cosine = next((p for p in mine if p.baseline == "cosine"), None)
    reaches = cosine is not None and math.exp(cosine.overall.low) <= 1.0
    against = f"{len(met)} of {len(mine)} schedules" + (f" ({', '.join(met)})" if met else "")
    ratio = tables.ratio(cosine.overall) if cosine else "-"
    verb = "reaches" if reaches else "does not reach"
    return (
        f"`{name}`: the first goal is met against {against}; the ratio to cosine, {ratio}, "
        f"{verb} 1.00."
    )


def _scores_table(ranked: Sequence[Score]) -> Table:
    cells = list(ranked[0].log_ratios)
    rows = [
        [
            score.name,
            f"{math.exp(score.mean):.3f}",
            f"{math.exp(score.median):.3f}",
            *(f"{math.exp(score.log_ratios[cell]):.3f}" for cell in cells),
        ]
        for score in ranked
    ]
    header = ["factor/patience/window reference plateau", "mean", "median", *map(", ".join, cells)]
    return Table("scores", header, rows)


def _margins(ranked: Sequence[Score]) -> Table:
    rows = []
    for name in ("factor", "patience", "window", "reference", "plateau"):
        values = sorted({score.options[name] for score in ranked})
        for value in values:
            means = [score.mean for score in ranked if score.options[name] == value]
            rows.append([name, str(value), f"{math.exp(float(np.mean(means))):.3f}"])
    return Table("margins", ["setting", "value", "mean ratio to cosine"], rows)
