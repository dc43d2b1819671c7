"""What a comparison showed, in plain sentences; where ours lost comes first."""

from __future__ import annotations

from collections.abc import Sequence

from ratewise.compare.analysis import BOOTSTRAP_SEED, Pair, Runs, TaskComparison
from ratewise.compare.report.tables import ratio
from ratewise.compare.statistics import BOOTSTRAP_FROM, CAP, MARGIN, TIE

#: Losses named one by one; the table holds all.
_NAMED = 4


def losses(pairs: Sequence[Pair]) -> list[str]:
    """Return a sentence for each pair in which ours lost, or one that says that it lost nowhere."""
    said = [_lost(pair) for pair in pairs if pair.verdicts["worse"]]
    said += [
        f"{pair.ours} lost to {pair.baseline} over all cells, each at its tuned rate: "
        f"ratio of test losses {ratio(pair.overall)}."
        for pair in pairs
        if pair.cells and pair.overall.low > 0
    ]
    if said:
        return said
    names = sorted({pair.ours for pair in pairs})
    undecided = sum(pair.verdicts["undecided"] for pair in pairs)
    cells = sum(len(pair.cells) for pair in pairs)
    if not cells:
        return ["There is nothing to compare: no two methods share a seed."]
    who = " and ".join(names)
    if undecided == cells:
        return [
            f"Nothing is decided about {who}: every interval is too wide. More seeds would help."
        ]
    return [
        f"{who} lost to no baseline in any cell; {undecided} of {cells} comparisons are undecided."
    ]


def _lost(pair: Pair) -> str:
    worse = [cell for cell in pair.cells if cell.verdict == "worse"]
    worse.sort(key=lambda cell: -cell.interval.estimate)
    where = "; ".join(_where(cell) for cell in worse[:_NAMED])
    rest = f"; and {len(worse) - _NAMED} more" if len(worse) > _NAMED else ""
    at = "each at its tuned rate" if pair.condition == "tuned" else "at the same rate"
    return (
        f"{pair.ours} lost to {pair.baseline} in {len(worse)} of {len(pair.cells)} cells, {at}: "
        f"{where}{rest}."
    )


def _where(cell: TaskComparison) -> str:
    return f"{cell.task} with {cell.optimizer}, {ratio(cell.interval)} times its test loss"


def claims(pairs: Sequence[Pair]) -> list[str]:
    """Return a sentence a pair on non-inferiority, the claim that counts, and the overall ratio."""
    said = []
    for pair in pairs:
        if not pair.cells or pair.condition != "tuned":
            continue
        undecided = pair.verdicts["undecided"]
        said.append(
            f"{pair.ours} against {pair.baseline}, both tuned: non-inferior (at most "
            f"{MARGIN - 1:.0%} worse) in {pair.non_inferior} of {len(pair.cells)} cells, of which "
            f"better in {pair.verdicts['better']}; worse in {pair.verdicts['worse']}, undecided "
            f"in {undecided}; ratio of test losses over all {ratio(pair.overall)}."
        )
    return said


def methods(runs: Runs, reference: str) -> list[str]:
    """Return how the numbers were made, one sentence an entry."""
    asked = runs.asked
    tuning, judged = asked["tuning_seeds"], asked["judged_seeds"]
    budgets = sorted({tuned.runs for tuned in runs.tuned.values()})
    budget = f"{budgets[0]}" if len(budgets) == 1 else f"{budgets[0]} to {budgets[-1]}"
    edge = sum(tuned.at_edge != 0 for tuned in runs.tuned.values())
    return [
        f"Every method ran the same grid of base rates on tuning seeds {_span(tuning)}. Its tuned "
        "rate has the lowest median validation loss, a diverged run counting as infinite; an "
        f"optimum at the grid's edge extended the grid. Budget: {budget} runs a method "
        f"({edge} of {len(runs.tuned)} optima still lie at an edge).",
        f"Judged on the test part with fresh seeds {_span(judged)}. The same seed means the same "
        "initial weights and batch order for every method, so that runs are paired.",
        f"A ratio below 1 is a lower test loss than the baseline's. Cells with fewer than "
        f"{BOOTSTRAP_FROM} seeds get a paired t interval of the mean log-ratio, others a "
        "percentile bootstrap; the ratio over all cells is the median, bootstrapped over tasks "
        f"first, then seeds within tasks (seed {BOOTSTRAP_SEED}, 95%); below "
        f"{BOOTSTRAP_FROM} runs in all, the geometric mean with a t interval.",
        f"better: the interval lies below 1. tie: within {TIE - 1:.0%}. non-inferior: below "
        f"{MARGIN}. worse: above 1. undecided: none of these. Intervals are not corrected for "
        "the number of comparisons.",
        f"A diverged run counts as {CAP:g} times the initial loss in ratios and means; "
        "none is dropped. IQM is the interquartile mean of the ratios, P(<) the chance that a run "
        "of ours ends lower than one of the baseline's.",
        f"Steps to target: to {MARGIN} times the median validation loss that {reference} ends "
        "at, with the number of runs that got there.",
    ]


def _span(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
