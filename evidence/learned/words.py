"""What the page on learned schedules says in sentences, made from the numbers and the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evidence.learned.claims import Finding, ratio, shown
from evidence.learned.numbers import (
    COSINE,
    LOSS,
    MEASURES,
    RATIO,
    WIN,
    Numbers,
    counts,
    interval,
    steps_interval,
)
from ratewise.rules.learned import load

#: What the numbers of `Finding.title` stand for.
QUESTIONS = (
    "against cosine at the same rate, at every rate: perceptrons",
    "untuned against tuned cosine, by family: the median, what nine tenths of the tasks lie "
    "below, and runs that blew up",
    "each at its best against tuned cosine, all families; what has no rate as it is",
    "runs that failed where cosine survives",
    "against the anchor without a network: UpdateRatioLR at its default, at each task's best "
    "ratio, and as the policies have it where that differs; the whole interval below 1",
    "long runs",
    "steps, and seconds, to tuned cosine's final training loss over those of its one run, or of "
    "its whole grid",
    "against optimizers that need no rate: the median, and on how many tasks ours is lower",
)


def sentences(numbers: Numbers, found: list[list[Finding]]) -> list[str]:
    """Return what the page says first, misses included.

    Args:
        numbers: of the study.
        found: `findings` of each measure.
    """
    lines = []
    policies = numbers.learned()
    if len(policies) > 1:
        parts = []
        for measure, each in zip(MEASURES, found, strict=True):
            results = [{finding.cells[name].reached for name in policies} for finding in each]
            every = sum(result == {True} for result in results)
            none = [f.title for f, result in zip(each, results, strict=True) if result == {False}]
            missed = f"; **missed by all: {'; '.join(none)}**" if none else ""
            parts.append(f"{every} of {len(each)} in {measure} loss{missed}")
        lines.append(f"Reached by all {len(policies)} policies: {'. '.join(parts)}.")
    for name in [*policies, RATIO]:
        if name not in numbers.methods:
            continue
        parts = [
            f"{measure} loss {_reached(each, name)}"
            for measure, each in zip(MEASURES, found, strict=True)
        ]
        lines.append(f"`{name}`: in {'. In '.join(parts)}.")
    return lines + _comparisons(numbers)


def _reached(found: list[Finding], name: str) -> str:
    """Return how many values a method reaches, and those that it misses."""
    cells = [(finding.title, finding.cells[name]) for finding in found]
    judged = [x for x in cells if x[1].reached is not None]
    missed = [f"{title} {cell.shown}{cell.detail}" for title, cell in judged if not cell.reached]
    reached = f"{len(judged) - len(missed)} of {len(judged)} reached"
    return reached + (f"; **missed: {'; '.join(missed)}**" if missed else "")


def _comparisons(numbers: Numbers) -> list[str]:
    """Return the first policy against what a user would otherwise do, with intervals."""
    ours = next(iter(numbers.free()), None)
    if ours is None:
        return []
    lines = []
    for measure, name in enumerate(MEASURES):
        keep = numbers.keep()
        tuned = interval(numbers.against(ours, COSINE, measure, keep))
        groups = numbers.same_rate(ours, measure, keep)
        won, tie, lost = counts(groups)
        lines.append(
            f"Over all families, `{ours}` ends in {name} loss at {ratio(tuned)} times tuned "
            f"cosine, and at {ratio(interval(groups))} times cosine at the same rate (below "
            f"{WIN:g} of it {won:.0%}, between {tie:.0%}, above {LOSS:g} {lost:.0%})."
        )
    own = shown(steps_interval(numbers.shares(COSINE)).ratio()[0])
    lines.append(
        f"To (7): tuned cosine itself first comes to its own last smoothed loss after {own} of its "
        "steps, in the median: batches are noisy."
    )
    ends = [f"{numbers.at_an_end(COSINE, m)} ({name})" for m, name in enumerate(MEASURES)]
    lines.append(
        f"Cosine's best rate is the lowest or highest of its grid on {' and '.join(ends)} of "
        f"{len(numbers.tasks)} tasks: there its tuning might go further."
    )
    return lines


def provenance(policies: Sequence[str]) -> list[str]:
    """Return how each policy was made, a line each, from what its file says."""
    return [f"`{load(name).name}`: {_told(load(name).provenance)}." for name in policies]


def _told(about: Any) -> str:
    """Return in words what a file says of how it was made.

    >>> _told({"settings": {"seed": 1, "decisions": 1000}, "rounds": 3, "tasks": ["a", "b"]})
    'seed 1, 1,000 decisions, 3 rounds, tasks: a, b'
    """
    flat = {**about.get("settings", {}), **{k: v for k, v in about.items() if k != "settings"}}
    words: dict[str, Callable[[Any], str]] = {
        "seed": lambda x: f"seed {x}",
        "decisions": lambda x: f"{x:,} decisions",
        "rounds": lambda x: f"{x} rounds",
        "tasks": lambda x: f"tasks: {x if isinstance(x, str | int) else ', '.join(map(str, x))}",
        "seeds": lambda x: f"training seeds {x}",
        "data": lambda x: f"data: {x if isinstance(x, str) else ', '.join(map(str, x))}",
        "version": lambda x: f"ratewise {x}",
    }
    told = [say(flat[key]) for key, say in words.items() if flat.get(key) not in (None, [], "")]
    return ", ".join(told) or "its file does not say how it was made"
