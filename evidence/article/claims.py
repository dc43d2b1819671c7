"""What the article claims, counted over the study's runs."""

from __future__ import annotations

from collections.abc import Sequence

from evidence.article.numbers import (
    Cell,
    Count,
    Judged,
    Speed,
    cell,
    count,
    speed,
    targets,
)
from evidence.article.plan import RIVALS
from ratewise.compare.tuning import Method


def present(judged: Judged) -> list[str]:
    """Return the methods that choose the rate themselves, of those that were run."""
    return [name for name in RIVALS if any(method.optimizer == name for method in judged)]


def against_rival(judged: Judged, ours: str, rival: str, share: float) -> Count:
    """Return GreedyLR, on the rival's base optimizer, counted against it."""
    return count(
        [one for pair in _rivals(judged, ours, rival) if (one := cell(judged, *pair, share))]
    )


def _rivals(judged: Judged, ours: str, rival: str) -> list[tuple[Method, Method]]:
    return [
        (Method(method.task, RIVALS[rival], ours), method)
        for method in judged
        if method.optimizer == rival
    ]


def rival_speed(judged: Judged, ours: str, rival: str) -> Speed:
    """Return how soon each reaches the loss that a tuned constant rate ends at, plus 2%."""
    pairs = [pair for pair in _rivals(judged, ours, rival) if pair[0] in judged]
    return speed(judged, pairs, targets(judged, RIVALS[rival]))


def against_schedules(judged: Judged, ours: str, baselines: Sequence[str], share: float) -> Count:
    """Return GreedyLR counted against schedules, optimizer by optimizer and task by task."""
    cells: list[Cell] = []
    for baseline in baselines:
        for method in judged:
            if method.schedule == ours:
                one = cell(judged, method, method._replace(schedule=baseline), share)
                cells += [one] if one else []
    return count(cells)


def sizes(judged: Judged, baseline: str) -> list[tuple[int, Cell]]:
    """Return parameters and the cell of GreedyLR against a schedule, smallest model first."""
    found = []
    for method in judged:
        if method.schedule == "greedy":
            one = cell(judged, method, method._replace(schedule=baseline))
            if one:
                found.append((_parameters(method.task), one))
    return sorted(found, key=lambda pair: pair[0])


def _parameters(task: str) -> int:
    """Return the size that a task's name tells.

    >>> _parameters("transformer-100k")
    100000
    """
    return int(task.split("-")[-1].replace("k", "000").replace("M", "000000"))
