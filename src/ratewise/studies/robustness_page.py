"""The page of evidence on noise: our numbers beside the paper's, and what follows from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ratewise.compare.report.tables import Table, ratio
from ratewise.compare.statistics import Interval, verdict
from ratewise.files import writing
from ratewise.plotting import PALETTE, Bar, Forest, Heat, save_forest, save_heat
from ratewise.runs import Store
from ratewise.studies import robustness, robustness_claims
from ratewise.studies.robustness import FULL, OURS, SWEEP_BOUNDS, Settings, Unit, sweep_name
from ratewise.studies.robustness_numbers import (
    QUIET,
    WHERE,
    Condition,
    Numbers,
    as_in_the_paper,
    interval,
    load,
)

#: What the paper reports of its 8,100 runs: median final loss, median recovery, steps to recover.
PAPER = {
    "greedy-paper": ("0.148", "134x", "12"),
    "cosine": ("0.232", "", "45"),
    "restarts": ("0.226", "", ""),
    "exponential": ("0.249", "", ""),
}


def write(store: Store, settings: Settings, wanted: dict[Unit, list[str]], page: Path) -> None:
    """Write the page, and its figures beside it."""
    numbers = load(store, settings, wanted)
    heat, forest = (page.with_name(f"{page.stem}-{kind}.png") for kind in ("heat", "forest"))
    _draw_heat(numbers, heat)
    _draw_forest(numbers, forest)
    writing.write(page, text(numbers, heat.name, forest.name))


def text(numbers: Numbers, heat: str, forest: str) -> str:
    """Return the page."""
    settings = numbers.settings
    full = settings.lrs == FULL.lrs and settings.seeds == FULL.seeds
    command = "ratewise study robustness" + (" --full" if full else "")
    runs = robustness.distinct(settings)
    seen = sum(int(np.isfinite(x).sum()) for x in numbers.measures["score"].values())
    return "\n".join(
        [
            "# How schedules bear noise",
            "",
            f"Made by `{command}`; the same command goes on after a kill. {runs:,} distinct",
            f"trajectories of {settings.steps} steps, {seen:,} compared cells: noise on the seen",
            "loss leaves a schedule that looks at nothing as it is, so such a run is made once and",
            f"shared. {len(settings.families)} families, {len(settings.lrs)} base rates "
            f"({settings.lrs[0]:g} to {settings.lrs[-1]:g}), {settings.seeds} seeds,",
            f"optimizer {robustness.OPTIMIZER}. Every schedule has the same families, rates and",
            "seeds, and with a seed the same initial weights, data order and noise.",
            "",
            "## What came out",
            "",
            *(f"- {line}" for line in robustness_claims.sentences(numbers)),
            "",
            "## The clean loss, paired",
            "",
            "Median ratio of the clean final loss (no noise, a fixed part of the training data), ",
            "same family, rate, seed and noise; below 1 the first is lower. Losses below 1e-8 of",
            "the initial one count as that, diverged runs as ten times it. 95% intervals from a",
            "bootstrap in which each family is one cluster.",
            "",
            "+ lower, - higher, = a tie or not above 1.02, nothing: undecided. No correction for",
            "the number of comparisons.",
            "",
            *_paired(numbers, tuned=False),
            "The same with each schedule at its own best rate, chosen on the other seeds:",
            "",
            *_paired(numbers, tuned=True),
            f"![Intervals of these ratios]({forest})",
            "",
            "## Family by noise",
            "",
            "Median ratio of the clean final loss, `greedy` to `cosine`, over rates and seeds:",
            "",
            f"![Family by noise]({heat})",
            "",
            "## The paper's pooled figures",
            "",
            "Over the paper's five kinds of noise, on the seen loss. Medians over all runs, which",
            "mixes families whose losses differ by orders of magnitude: shown because the paper",
            "shows it, no conclusion rests on it. Final: mean training loss of the last ten steps.",
            "Recovery: the greatest training loss over that. Steps: from there until nine tenths",
            "of the way down are done. In parentheses what arXiv 2512.14527 reports.",
            "",
            _pooled(numbers).markdown(),
            "",
            "## What noise costs each schedule",
            "",
            "Median ratio of a run's clean final loss to that of the same run without noise:",
            "",
            _cost(numbers).markdown(),
            "",
            "## The factor",
            "",
            "GreedyLR in the paper's setting (patience 10, window 50) with other factors, without",
            "noise and with gaussian noise on the seen loss: ratio of the clean final loss to that",
            "of F = 0.95 in the same bounds, and the share of runs that ended above where they",
            "began (diverged ones included).",
            "",
            _factors(numbers).markdown(),
            "",
            "## How it was made",
            "",
            f"- Schedules: {', '.join(f'`{name}`' for name in settings.schedules)}. `greedy-paper` "
            "is factor 0.95, patience 10, window 50; `greedy` the package's default, "
            "`greedy-cosine` the same riding on cosine. `plateau` halves the rate after 20 steps "
            "without a new best loss (torch's default of a tenth after 10 reads the noise of "
            "single batches as an end).",
            "- Noise n[t] about 1 in size; on the seen loss a tenth of the initial loss times n, "
            "on the gradient |g| times n in a random direction, on the data 30% times |n| of the "
            "targets swapped. `src/ratewise/simulate/noise.py` has each kind.",
            f"- Families and data: {', '.join(_families(settings))}. "
            "`src/ratewise/simulate/families` has each.",
            f"- {settings.chunk} runs are stacked at once, fixed, so that a machine's speed does "
            "not change a digit.",
            "",
        ]
    )


def _families(settings: Settings) -> list[str]:
    described = []
    for name in settings.families:
        options = robustness.FAMILIES[name][1]
        inside = ", ".join(f"{key} {value}" for key, value in options.items() if key != "data")
        described.append(name + (f" ({options.get('data', inside)})" if options else ""))
    return described


def _baselines(numbers: Numbers) -> list[str]:
    return [name for name in numbers.settings.schedules if name not in OURS]


def _ours(numbers: Numbers) -> list[str]:
    return [name for name in OURS if name in numbers.settings.schedules]


def _paired(numbers: Numbers, *, tuned: bool) -> list[str]:
    """Return a table for each of our schedules, with a heading."""
    method = numbers.tuned_log_ratios if tuned else numbers.log_ratios
    lines = []
    for ours in _ours(numbers):
        rows = []
        for theirs in _baselines(numbers):
            found = [interval(method(ours, theirs, keep)) for keep in WHERE.values()]
            rows.append([theirs, *map(_short, found)])
        table = Table("paired", [f"{ours} /", *WHERE], rows)
        lines += [table.markdown(), ""]
    return lines


def _short(found: Interval) -> str:
    """Return a ratio, its interval and one sign for the verdict.

    >>> _short(Interval(-0.1, -0.2, -0.05, 5, "t"))
    '0.905 [0.82, 0.95] +'
    """
    if found.n <= 1:
        return "-"
    middle, low, high = found.ratio()
    signs = {"better": " +", "worse": " -", "tie": " =", "non-inferior": " =", "undecided": ""}
    return f"{middle:.3f} [{low:.2f}, {high:.2f}]{signs[verdict(found)]}"


def _pooled(numbers: Numbers) -> Table:
    rows = []
    for name in numbers.settings.schedules:
        last, recovery, steps = (
            numbers.pooled(measure, name, as_in_the_paper)
            for measure in ("last", "recovery", "steps")
        )
        paper = PAPER.get(name, ("", "", ""))
        low, high = (_quantile(last, q) for q in (0.1, 0.9))
        rows.append(
            [
                name,
                str(len(last)),
                _beside(f"{np.median(last):.3g}", paper[0]),
                f"{low:.2g} to {high:.2g}",
                _beside(f"{np.median(recovery):.3g}x", paper[1]),
                f"{recovery.max():.3g}x",
                _beside(f"{_quantile(steps, 0.5):.3g}", paper[2]),
            ]
        )
    header = ["", "runs", "final", "10% to 90%", "recovery", "best", "steps"]
    return Table("pooled", header, rows)


def _quantile(values: np.ndarray, q: float) -> float:
    """Return a quantile without interpolating: some values are infinite."""
    return float(np.quantile(values, q, method="nearest"))


def _beside(ours: str, paper: str) -> str:
    return f"{ours} ({paper})" if paper else ours


def _cost(numbers: Numbers) -> Table:
    rows = []
    places = [where for where in WHERE if where != "no noise"]
    for name in numbers.settings.schedules:
        row = [name]
        for where in places:
            found = interval(numbers.costs(name, WHERE[where]))
            row.append(ratio(found))
        rows.append(row)
    return Table("cost", ["", *places], rows)


def _factors(numbers: Numbers) -> Table:
    rows = []
    noises: dict[str, Condition] = {"none": QUIET, "gaussian": ("gaussian", "loss")}
    for bounds in SWEEP_BOUNDS:
        for factor in numbers.settings.factors:
            row = [bounds, f"{factor:g}"]
            for condition in noises.values():
                ours, base = sweep_name(factor, bounds), sweep_name(0.95, bounds)
                keep = condition.__eq__
                row.append(ratio(interval(numbers.log_ratios(ours, base, keep))))
                above = numbers.pooled("score", ours, keep) > 0
                row.append(f"{above.mean():.1%}" if above.size else "-")
            rows.append(row)
    header = ["bounds", "F", "clean: ratio", "risen", "gaussian: ratio", "risen"]
    return Table("factors", header, rows)


def _draw_heat(numbers: Numbers, path: Path) -> None:
    families = list(numbers.settings.families)
    panels = []
    for where, keep in WHERE.items():
        if where == "no noise":
            continue
        columns = [QUIET, *(c for c in numbers.conditions if keep(c))]
        at = [numbers.conditions.index(c) for c in columns]
        values = []
        for family in families:
            x = numbers.of("score", family, "greedy") - numbers.of("score", family, "cosine")
            with np.errstate(all="ignore"):
                middle = [_median(x[..., i]) for i in at]
            values.append([math.exp(m) for m in middle])
        panels.append(Heat(f"noise {where}", families, [kind for kind, _ in columns], values))
    save_heat(panels, path, "clean final loss, greedy / cosine")


def _median(x: np.ndarray) -> float:
    x = x[~np.isnan(x)]
    return float(np.median(x)) if x.size else math.nan


def _draw_forest(numbers: Numbers, path: Path) -> None:
    bars = []
    for n, ours in enumerate(_ours(numbers)):
        for theirs in (name for name in ("cosine", "constant") if name in _baselines(numbers)):
            for where, keep in WHERE.items():
                found = interval(numbers.log_ratios(ours, theirs, keep))
                if found.n > 1:
                    middle, low, high = found.ratio()
                    label = f"{ours} / {theirs}, {where}"
                    bars.append(Bar(label, PALETTE[n], middle, low, high))
    title = "Clean final loss at the same rate: median ratio, 95% interval"
    save_forest(Forest(title, "ratio of losses", bars), path)
