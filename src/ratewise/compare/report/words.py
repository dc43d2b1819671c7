"""What a comparison showed, in plain sentences; where ours lost comes first."""

from __future__ import annotations

from collections.abc import Sequence

from ratewise.compare.analysis import Pair, Runs, TaskComparison
from ratewise.compare.report.tables import chance, ratio, told
from ratewise.compare.statistics import (
    CAP,
    ENOUGH_SETS,
    FEW,
    LEVEL,
    LEVEL_OF_FEW,
    MARGIN,
    TIE,
    Interval,
    holm,
)

#: Losses named one by one; the table holds all.
_NAMED = 4


def best(pairs: Sequence[Pair]) -> str | None:
    """Return the schedule whose loss is the lowest over all cells, each at its tuned rate.

    Args:
        pairs: every schedule against one of them, the reference.
    """
    known = {pair.baseline: 0.0 for pair in pairs if pair.cells}  # first, where others equal it
    known |= {pair.ours: pair.overall.estimate for pair in pairs if pair.cells}
    return min(known, key=lambda name: known[name]) if known else None


def answer(chosen: str | None, others: Sequence[Pair]) -> str:
    """Return one sentence on which schedule to use, and how sure that is.

    Args:
        chosen: what ended lowest.
        others: every other schedule against it, each at its tuned rate.
    """
    compared = [pair for pair in others if pair.cells]
    if chosen is None or not compared:
        return "Which schedule to use cannot be said: no two of them share a seed."
    compared.sort(key=lambda pair: _interval(pair).estimate)
    corrected = holm([_interval(pair).p for pair in compared])
    alike: list[Pair] = []
    higher: list[Pair] = []
    for pair, p in zip(compared, corrected, strict=True):
        sure = _interval(pair).estimate > 0 and p <= 1 - LEVEL
        (higher if sure else alike).append(pair)
    said = [f"{pair.ours} ({ratio(_interval(pair))}" for pair in (*alike, *higher)]
    said = [f"{said[0]} times its test loss)", *(f"{one})" for one in said[1:])]
    near, far = said[: len(alike)], said[len(alike) :]
    cells = len(compared[0].cells)
    where = f"over all {cells} cells" if cells > 1 else "on this one task"
    if not alike:
        return (
            f"Use {chosen}: {where}, each schedule at its tuned rate, every other one ends higher, "
            f"{_listed(far)}."
        )
    if not higher:
        return (
            f"These runs do not tell the schedules apart, use the one that you have: {chosen} ends "
            f"lowest {where}, each at its tuned rate, but {_listed(near)} may be as good."
        )
    return (
        f"Use {chosen}, or {_listed(near, 'or')}, which these runs do not tell apart from it "
        f"{where}, each at its tuned rate; {_listed(far)} {'end' if far[1:] else 'ends'} higher."
    )


def _listed(names: Sequence[str], last: str = "and") -> str:
    """Return names as a sentence has them.

    >>> _listed(["a"]), _listed(["a", "b", "c"], "or")
    ('a', 'a, b or c')
    """
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _interval(pair: Pair) -> Interval:
    """Return the interval of a pair over all cells; of one cell that over its seeds."""
    return pair.overall if len(pair.cells) > 1 else pair.cells[0].interval


def losses(pairs: Sequence[Pair]) -> list[str]:
    """Return a sentence for each pair in which ours lost, or one that says that it lost nowhere."""
    said = [_lost(pair) for pair in pairs if pair.verdicts["worse"]]
    corrected = holm([pair.overall.p for pair in pairs])
    said += [
        f"{pair.ours} lost to {pair.baseline} over all cells, each at its tuned rate: "
        f"ratio of test losses {told(pair.overall)}."
        for pair, p in zip(pairs, corrected, strict=True)
        if pair.cells and pair.overall.estimate > 0 and p <= 1 - LEVEL
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
    said = f"{ratio(cell.interval)} times its test loss"
    if cell.alone:
        ours, theirs = cell.diverged
        said = f"diverged with {ours} of {len(cell.seeds)} seeds against {theirs}"
    return f"{cell.task} with {cell.optimizer}, {said}"


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
            f"in {undecided}; ratio of test losses over all {told(pair.overall)}."
        )
    return said


def methods(runs: Runs, reference: str) -> list[str]:
    """Return how the numbers were made, one sentence an entry."""
    asked = runs.asked
    tuning, judged = asked["tuning_seeds"], asked["judged_seeds"]
    budgets = sorted({tuned.runs for tuned in runs.tuned.values()})
    budget = f"{budgets[0]}" if len(budgets) == 1 else f"{budgets[0]} to {budgets[-1]}"
    edge = sum(tuned.at_edge != 0 for tuned in runs.tuned.values())
    how = (
        f"Every method ran the same grid of base rates on tuning seeds {_span(tuning)}",
        "an optimum at the grid's edge extended the grid",
    )
    if asked.get("tuner") == "advisor":
        how = (
            f"Every method began at the same base rate, on tuning seeds {_span(tuning)}, and what "
            "it ran next followed from its own losses so far (ratewise.curves.advice)",
            "where nothing was to be gained it stopped early",
        )
    return [
        f"{how[0]}. Its tuned rate has the lowest median validation loss, a diverged run counting "
        f"as infinite; {how[1]}. Budget: {budget} runs a method "
        f"({edge} of {len(runs.tuned)} optima still lie at an edge).",
        f"Judged on the test part with fresh seeds {_span(judged)}. The same seed means the same "
        "initial weights and batch order for every method, so that runs are paired.",
        "A ratio below 1 is a lower test loss than the baseline's, and ratios are geometric means. "
        "A cell (a task with an optimizer) has a paired t interval over its seeds, 95%, "
        f"uncorrected: {chance(len(runs.cells()))}. The ratio over all cells has a t interval over "
        f"tasks, of fewer than {FEW} at {LEVEL_OF_FEW:.1%}; where they share fewer than "
        f"{ENOUGH_SETS} data sets the one over data sets is made, too, and what is said follows "
        "the wider. That ours lost over all is said where Holm's correction for the number of "
        "baselines bears it.",
        f"better: the interval lies below 1. tie: within {TIE - 1:.0%}. non-inferior: below "
        f"{MARGIN}. worse: above 1. undecided: none of these.",
        f"A diverged run counts as {CAP:g} times the initial loss in ratios and means; "
        "none is dropped. A cell in which a run diverged and the other of its pair did not has no "
        "interval, for few seeds do not tell how often that happens: it is better or worse where "
        "the numbers of seeds that diverged differ by Fisher's exact test at 5%. IQM is "
        "the interquartile mean of the ratios, P(<) the chance that a run of ours ends lower than "
        "one of the baseline's.",
        "The first sentence compares every schedule with the one that ended lowest, by Holm's "
        "correction for their number. That one was picked because it ended lowest, which flatters "
        "it: a schedule that is not told apart from it may be as good or better.",
        f"Steps to target: to {MARGIN} times the median validation loss that {reference} ends "
        "at, with the number of runs that got there.",
    ]


def _span(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
