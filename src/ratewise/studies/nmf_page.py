"""The page on learned schedules of a factorisation's rate: who wins, on what, by how much."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ratewise.compare import statistics
from ratewise.compare.analysis import BOOTSTRAP_SEED
from ratewise.compare.report.tables import Table, ratio
from ratewise.compare.statistics import Interval
from ratewise.studies import nmf_estimator
from ratewise.studies.nmf_figures import HISTORIES, RATES
from ratewise.studies.nmf_methods import METHODS

if TYPE_CHECKING:
    from ratewise.studies.nmf import Outcome, Result, Settings

#: method -> the median ratio that was wanted on problems held out; None: below 1 with the interval.
WANTED: dict[str, float | None] = {
    "cosine": 0.95,
    "step": 0.95,
    "GreedyLR": 0.90,
    "warmup-hold-decay": None,
}


def median_interval(result: Result, ours: str, theirs: str) -> Interval:
    """Return the median of ln(ours / theirs), resampled over stacks and problems within them."""
    return statistics.bootstrap_interval(_columns(result, ours, theirs), seed=BOOTSTRAP_SEED)


def mean_interval(result: Result, ours: str, theirs: str) -> Interval:
    """Return the mean of ln(ours / theirs), whose exponential is the geometric mean."""
    groups = _columns(result, ours, theirs)
    return statistics.bootstrap_interval(groups, seed=BOOTSTRAP_SEED, statistic=np.mean)


def _columns(result: Result, ours: str, theirs: str) -> list[np.ndarray]:
    return [x[:, None] for x in result.log_ratios(ours, theirs)]


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


def reached(name: str, interval: Interval) -> bool:
    """Return whether what was wanted against a method was reached.

    >>> reached("cosine", Interval(-0.2, -0.3, -0.1, 99, "bootstrap"))
    True
    >>> reached("cosine", Interval(-0.02, -0.03, -0.01, 99, "bootstrap"))
    False
    """
    wanted = WANTED[name]
    below = interval.high < 0.0
    return below if wanted is None else below and interval.estimate <= math.log(wanted)


def write_up(outcome: Outcome, settings: Settings) -> str:
    """Return the page.

    Args:
        outcome: what was tuned and judged.
        settings: the study's size.
    """
    held = outcome.results[0]
    policies = [name for name in held.losses if name.startswith("learned")]
    runs = settings.tuning[0] * settings.tuning[1] * settings.tried
    problems = sum(len(stack) for stack in next(iter(held.losses.values())))
    return "\n".join(
        [
            "# Learned schedules of a factorisation's rate",
            "",
            "Made by `ratewise study nmf --data DATA`. The policies are those that ship: "
            "`ratewise learn --tasks nmf",
            "--seed S --out FILE`, with S as in their names.",
            "",
            "A run makes 40 to 300 noisy, balanced, projected gradient steps of W and H in turn "
            "(`ratewise.nmf.noisy`); every",
            "method chooses the multiple c of 1/L, cut to [0.001, 1.9] (the bound is 2), and its "
            "final loss is compared. Noise is",
            "isotropic (0.03 to 1 times the first gradient) or comes from samples of rows and "
            "columns; problems are 20 to 80 by 20 to 80.",
            f"Each method was tuned by {settings.tried} random settings on "
            f"{settings.tuning[0] * settings.tuning[1]} problems ({runs:,} runs; a policy had "
            f"{_learned_runs(outcome)}), by the mean",
            f"logarithm of the loss, and all were judged on {problems} other problems with the "
            "same starts and noise. Ratios below 1: the policy's loss is lower.",
            "Intervals: 95%, resampled over stacks of one shape and problems within them.",
            "",
            "## What was wanted and what came out",
            "",
            *_verdicts(outcome, policies),
            "",
            f"![Rates]({RATES})",
            "",
            "The rates of the first policy (median and quartiles over 16 problems) and of tuned "
            "schedules (medians), against the bound.",
            "",
            f"![Losses]({HISTORIES})",
            "",
            "The losses that they make, without noise.",
            "",
            *(line for result in outcome.results for line in _section(result, policies)),
            *_by_misfit(held, policies),
            *nmf_estimator.section(outcome.estimator, settings.starts),
            "## What each method was tuned to",
            "",
            _tuned(outcome).markdown(),
            "",
        ]
    )


def _learned_runs(outcome: Outcome) -> str:
    counts = sorted(
        {
            f"{made['settings']['decisions']:,} decisions, "
            f"{made['rounds'] * _at_once(made['settings']):,} runs"
            for made in outcome.provenance.values()
            if "settings" in made
        }
    )
    return "; ".join(counts) or "as its file says"


def _at_once(settings: dict[str, int]) -> int:
    return settings["stacks"] * settings["problems"] * settings["copies"]


def _verdicts(outcome: Outcome, policies: list[str]) -> list[str]:
    held = outcome.results[0]
    lines = []
    for name, wanted in WANTED.items():
        parts = []
        for policy in policies:
            found = median_interval(held, policy, name)
            word = "reached" if reached(name, found) else "missed"
            parts.append(f"{policy.removeprefix('learned ')} {ratio(found)} {word}")
        goal = "the interval below 1" if wanted is None else f"at most {wanted:g}"
        lines.append(f"- against tuned {name}, median {goal}: {'; '.join(parts)}.")
        if wanted is None:
            means = "; ".join(
                f"{policy.removeprefix('learned ')} {ratio(mean_interval(held, policy, name))}"
                for policy in policies
            )
            lines.append(f"  Its geometric mean: {means}.")
    for result in outcome.results[1:]:
        parts = []
        for policy in policies:
            found, worst = median_interval(result, policy, "cosine"), tail(result, policy, "cosine")
            good = found.estimate <= 0.0 and worst <= 1.2
            word = "reached" if good else "missed"
            parts.append(
                f"{policy.removeprefix('learned ')} {ratio(found)}, 95% of the problems below "
                f"{worst:.2f}, {word}"
            )
        lines.append(
            f"- {result.group}, median no worse than tuned cosine and 95th percentile at most "
            f"1.2: {'; '.join(parts)}."
        )
    return lines


def _section(result: Result, policies: list[str]) -> list[str]:
    count = sum(len(stack) for stack in next(iter(result.losses.values())))
    rows = []
    for name in METHODS:
        row = [name]
        for policy in policies:
            row += [
                ratio(median_interval(result, policy, name)),
                ratio(mean_interval(result, policy, name)),
                f"{tail(result, policy, name):.2f}",
            ]
        rows.append(row)
    header = ["against tuned"]
    for policy in policies:
        short = policy.removeprefix("learned ")
        header += [f"{short}: median", "geometric mean", "95%"]
    fallen = ", ".join(f"{name} {100 * share:.1f}%" for name, share in result.outside.items())
    return [
        f"## {result.group}: {count} problems",
        "",
        Table(result.group, header, rows).markdown(),
        "",
        f"Decisions that fell back, since a feature left the range seen in training: {fallen}.",
        "",
    ]


def _by_misfit(held: Result, policies: list[str]) -> list[str]:
    """Return where the ratios come from: problems whose loss can still fall, and the others."""
    rows = []
    for name in WANTED:
        row = [name]
        for policy in policies:
            for values in parts(held, policy, name).values():
                kept = [x[:, None] for x in values if len(x)]
                if not kept:
                    row += ["0", "-"]
                    continue
                found = statistics.bootstrap_interval(kept, seed=BOOTSTRAP_SEED)
                row += [str(sum(len(x) for x in kept)), ratio(found)]
        rows.append(row)
    header = ["against tuned"]
    for policy in policies:
        short = policy.removeprefix("learned ")
        header += ["n", f"{short}: can fall", "n", f"{short}: misfit"]
    return [
        "## Where the loss can still fall, and where it cannot",
        "",
        "Noise of the data, and components that are missing, leave a loss that no rate removes: "
        "about what 1000 steps at c = 1",
        "without noise end with. Medians of the ratios of the problems held out, apart: "
        "where that is less than half of the other",
        "method's final loss (can fall), and where it is more (misfit), so that a ratio says "
        "little of the rate.",
        "",
        Table("misfit", header, rows).markdown(),
        "",
    ]


def _tuned(outcome: Outcome) -> Table:
    rows = [
        [
            name,
            ", ".join(f"{key} {value:.3g}" for key, value in setting.items()),
            f"{math.exp(outcome.scores[name]):.4f}",
        ]
        for name, setting in outcome.chosen.items()
    ]
    return Table("tuned", ["method", "setting", "loss / first (geometric mean)"], rows)
