"""The article's sentences, each with what came out of testing it; no word without its number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evidence.article.claims import (
    against_rival,
    against_schedules,
    present,
    rival_speed,
    sizes,
)
from evidence.article.numbers import Count, Judged, Speed, cell, methods, slope
from ratewise.compare.report.tables import ratio

if TYPE_CHECKING:
    from evidence.article.plan import Parts, Settings

#: "in more than 90%" of comparisons.
GOAL = 0.9


def verdicts(parts: Parts, settings: Settings) -> list[str]:
    """Return one item a sentence.

    Args:
        parts: what was run.
        settings: the study's size.
    """
    judged = methods([*parts.schedules, *parts.rivals])
    return [
        _schedules(against_schedules(judged, "greedy", settings.baselines, 1.0)),
        *(_rival(judged, name) for name in present(judged)),
        *_size(methods(parts.sizes)),
        _lora(methods(parts.lora)),
    ]


def held(true: bool, decided: bool = True) -> str:
    """Return the word for a claim.

    >>> held(True), held(False), held(False, decided=False)
    ('**Held.**', '**Did not hold.**', '**Undecided.**')
    """
    return "**Held.**" if true else "**Did not hold.**" if decided else "**Undecided.**"


def _schedules(counts: Count) -> str:
    strict = counts.as_good > GOAL
    loose = counts.paper_as_good > GOAL
    return (
        f'- "As good or better than the usual schedules in more than 90% of comparisons." '
        f"By intervals: {held(strict)} {100 * counts.as_good:.0f}% of {counts.cells} comparisons "
        f"(better in {100 * counts.better:.0f}%, undecided in {100 * counts.undecided:.0f}%, worse "
        f"in {100 * counts.worse:.0f}%). By the paper's count, which forgives 0.1: {held(loose)} "
        f"{100 * counts.paper_as_good:.0f}%; and the median loss was not above the other's in "
        f"{100 * counts.lower:.0f}%."
    )


def _rival(judged: Judged, name: str) -> str:
    counts = against_rival(judged, "greedy", name, 1.0)
    _, low, high = counts.overall.ratio()
    if name.startswith("line-search"):
        return (
            f'- "Converges faster than stochastic line search" ({name}): '
            f"{_sooner(rival_speed(judged, 'greedy', name))} Final loss over its: "
            f"{ratio(counts.overall)}."
        )
    rates = {"element": "a rate a parameter", "tensor": "a rate a tensor"}
    kind = rates.get(name.split("-")[1], "a rate a group")
    word = held(high < 1.0, decided=low > 1.0)
    return (
        f'- "One global rate does better than hypergradient descent" ({name}, {kind}): {word} '
        f"Final loss over its: {ratio(counts.overall)}; better in {counts.verdicts['better']}, "
        f"worse in {counts.verdicts['worse']} of {counts.cells} tasks."
    )


def _sooner(found: Speed) -> str:
    """Say who is sooner at the loss that a tuned constant rate ends at."""
    word = held(
        found.seconds < 1.0 and found.sooner > found.later,
        decided=found.seconds > 1.0 and found.later > found.sooner,
    )
    time = "-" if math.isnan(found.seconds) else f"{found.seconds:.2f}"
    return (
        f"{word} To the loss that a tuned constant rate ends at, GreedyLR took {time} times its "
        f"training time ({found.steps:.2f} times its steps), medians of {found.pairs} pairs, "
        f"sooner in {found.sooner} and later in {found.later}; {found.ours} and {found.theirs} of "
        "the runs got there."
    )


def _size(judged: Judged) -> list[str]:
    fitted = slope(sizes(judged, "cosine"))
    word = held(fitted.high < 0.0, decided=fitted.low > 0.0)
    return [
        f'- "Especially for large models": {word} The log-ratio of its loss to cosine\'s changes '
        f"by {fitted.estimate:+.4f} [{fitted.low:+.4f}, {fitted.high:+.4f}] for each tenfold of "
        f"parameters."
    ]


def _lora(judged: Judged) -> str:
    ours = next(method for method in judged if method.schedule == "greedy")
    one = cell(judged, ours, ours._replace(schedule="cosine"))
    said = ratio(one.interval) if one else "-"
    word = one.verdict if one else "not measured"
    return f"- LoRA: GreedyLR's loss over tuned cosine's {said}: {word}."
