"""The page on learned schedules of a factorisation's rate: who wins, on what, by how much."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from evidence.nmf import estimator as nmf_estimator
from evidence.nmf.figures import HISTORIES, RATES
from evidence.nmf.methods import METHODS
from evidence.nmf.numbers import (
    TAIL,
    WANTED,
    mean_interval,
    median_interval,
    parts,
    reached,
    tail,
    transferred,
)
from ratewise.compare import statistics
from ratewise.compare.analysis import BOOTSTRAP_SEED
from ratewise.compare.report.tables import Table, ratio

if TYPE_CHECKING:
    from evidence.nmf.plan import Outcome, Result, Settings

#: What happened before these numbers; it cannot be made again from them.
HISTORY = (
    "These are the second policies. The first were trained without wide problems (up to 200 rows "
    "and columns, 90% zeros, 8 k",
    "components), and were judged on the same problems: as good on those held out (default 0.933 "
    "[0.890, 0.959] against tuned cosine),",
    "but with medians up to 1.015 on digits and 1.005 on gene expression, and 95% of the faces "
    "below 1.27. What was changed then was",
    "chosen on parts of Fashion-MNIST, CIFAR-10 and WikiText-2 and on other random problems, none "
    "of which judge here. The default is",
    "seed 0, settled before any of the three was judged.",
)


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
            "Made by `ratewise study nmf --data DATA`. The policies are those that ship, made by",
            "`ratewise learn --tasks nmf --seed S --out FILE`; default is S = 0.",
            "",
            "A run makes 40 to 300 noisy, balanced, projected gradient steps of W and H in turn",
            "(`ratewise.nmf.noisy`); every method chooses the multiple c of 1/L, cut to [0.001, "
            "1.9] (the bound",
            "is 2), and its final loss is compared. Noise is isotropic (0.03 to 1 times the first "
            "gradient) or",
            "comes from samples of rows and columns; problems are 20 to 80 by 20 to 80. Each "
            f"method was tuned by {settings.tried}",
            f"random settings on {settings.tuning[0] * settings.tuning[1]} problems ({runs:,} "
            f"runs; a policy had {_learned_runs(outcome)}),",
            f"by the mean logarithm of the loss, and all were judged on {problems} other problems "
            "with the same starts and",
            "noise. Ratios below 1: the policy's loss is lower. Intervals: 95%, resampled over "
            "stacks of one shape",
            "and problems within them.",
            "",
            "## What was wanted and what came out",
            "",
            _verdicts(held, policies).markdown(),
            "",
            "Against the best tuned cosine on what no policy was trained on: the median, and what "
            f"95% of the problems lie below (wanted: 1 and {TAIL}).",
            "",
            _transfers(outcome.results[1:], policies).markdown(),
            "",
            *HISTORY,
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
            *_by_misfit(held, policies, settings.clean),
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


def _short(policies: list[str]) -> list[str]:
    return [name.removeprefix("learned ") for name in policies]


def _all(results: list[bool]) -> str:
    return "all" if all(results) else f"{sum(results)} of {len(results)}"


def _verdicts(held: Result, policies: list[str]) -> Table:
    rows = []
    for name, wanted in WANTED.items():
        found = [median_interval(held, policy, name) for policy in policies]
        goal = "interval < 1" if wanted is None else f"<= {wanted:.2f}, interval < 1"
        by = _all([reached(name, interval) for interval in found])
        rows.append([f"{name}, median", goal, *map(ratio, found), by])
        if wanted is None:
            found = [mean_interval(held, policy, name) for policy in policies]
            by = _all([interval.high < 0.0 for interval in found])
            rows.append([f"{name}, geometric mean", goal, *map(ratio, found), by])
    return Table("wanted", ["against tuned", "wanted", *_short(policies), "reached by"], rows)


def _transfers(results: list[Result], policies: list[str]) -> Table:
    rows = [
        [
            result.group,
            *(
                f"{ratio(median_interval(result, policy, 'cosine'))}, "
                f"{tail(result, policy, 'cosine'):.2f}"
                for policy in policies
            ),
            _all([transferred(result, policy) for policy in policies]),
        ]
        for result in results
    ]
    return Table("transfer", ["problems", *_short(policies), "reached by"], rows)


def _section(result: Result, policies: list[str]) -> list[str]:
    count = sum(len(stack) for stack in next(iter(result.losses.values())))
    statistic: dict[str, Callable[[str, str], str]] = {
        "median": lambda ours, theirs: ratio(median_interval(result, ours, theirs)),
        "geometric mean": lambda ours, theirs: ratio(mean_interval(result, ours, theirs)),
        "95% below": lambda ours, theirs: f"{tail(result, ours, theirs):.2f}",
    }
    lines = [f"## {result.group}: {count} problems", ""]
    for name, of in statistic.items():
        rows = [[method, *(of(policy, method) for policy in policies)] for method in METHODS]
        header = [f"{name}, against tuned", *_short(policies)]
        lines += [Table(result.group, header, rows).markdown(), ""]
    fallen = ", ".join(f"{name} {100 * share:.1f}%" for name, share in result.outside.items())
    return [
        *lines,
        f"Decisions that fell back, since a feature left the range seen in training: {fallen}.",
        "",
    ]


def _by_misfit(held: Result, policies: list[str], clean: int) -> list[str]:
    """Return where the ratios come from: problems whose loss can still fall, and the others."""
    lines = [
        "## Where the loss can still fall, and where it cannot",
        "",
        "Noise of the data, and components that are missing, leave a loss that no rate removes: "
        f"about what {clean}",
        "steps at c = 1 without noise end with, the misfit. Medians of the ratios, apart: where "
        "that is less than",
        "half of the other method's final loss, and where it is more, so that a ratio says little "
        "of the rate.",
        "",
    ]
    for free, words in ((True, "can fall"), (False, "misfit")):
        rows = []
        for name in WANTED:
            each = [parts(held, policy, name)[free] for policy in policies]
            rows.append([name, str(sum(len(x) for x in each[0]))])
            for values in each:
                kept = [x[:, None] for x in values if len(x)]
                found = statistics.bootstrap_interval(kept, seed=BOOTSTRAP_SEED) if kept else None
                rows[-1].append(ratio(found) if found else "-")
        header = [f"{words}, against tuned", "problems", *_short(policies)]
        lines += [Table(words, header, rows).markdown(), ""]
    return lines


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
