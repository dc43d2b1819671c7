"""The figures of the study of learned schedules: rates, the schedules that are drawn, learning."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evidence.learned.kept import Run
from evidence.learned.numbers import COSINE, RATIO, SMOOTH, Numbers
from ratewise.plotting import PALETTE, Line, Panel, save_panels

_GREY = "#777777"
#: Ratios are drawn within these: beyond, only that they are bad is of interest.
LIMITS = (0.25, 8.0)


def compared(numbers: Numbers) -> dict[str, str]:
    """Return the methods of the pictures with their colours; ours is the first."""
    ours = next(iter(numbers.learned()), None)
    wanted = {ours: PALETTE[0], RATIO: PALETTE[2], COSINE: PALETTE[1], "greedy": _GREY}
    return {name: colour for name, colour in wanted.items() if name in numbers.methods and name}


def draw_rates(numbers: Numbers, path: Path) -> None:
    """Draw the held-out loss over tuned cosine's against the starting rate, a panel a family."""
    panels = []
    for family in numbers.families():
        keep = numbers.keep(family)
        lines = []
        for name, colour in compared(numbers).items():
            x, values = _by_rate(numbers, name, keep)
            quarters = np.clip(np.exp(np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)), *LIMITS)
            low, middle, high = quarters.tolist()
            strong = name in numbers.learned()
            lines.append(Line(name, colour, x.tolist(), middle, low, high, strong))
        lines.append(Line("tuned cosine", "#BBBBBB", [x[0], x[-1]], [1.0, 1.0]))
        title = f"{family}, tasks: {int(keep.sum())}"
        label = "held-out loss / tuned cosine's"
        start = "starting rate / lowest of the grid"
        panels.append(Panel(title, start, label, lines, True, True, plain_y=True))
    save_panels(panels, path, columns=3)


def _by_rate(numbers: Numbers, name: str, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rates over the lowest of cosine's grid, and log-ratios there, [task, rate].

    What needs no rate and was run at one alone has that value at every rate: it does not look.
    """
    runs, low = numbers.methods[name], numbers.methods[COSINE].rates[keep, :1]
    grid, loss = runs.rates[keep], runs.loss[1][keep]
    if grid.shape[1] == 1:
        grid = numbers.methods[COSINE].rates[keep]
        loss = loss.repeat(grid.shape[1], 1)
    there = ~np.isnan(grid).any(0)  # columns that all tasks have
    difference = loss[:, there] - numbers.at(COSINE, 1)[keep][:, None]
    return (grid[:, there] / low)[0], np.nanmean(difference, -1)


def schedule_panels(numbers: Numbers) -> list[Panel]:
    """Return the size of the updates on one task of vision and one of language, where there are."""
    vision = [t for t, f in zip(numbers.tasks, numbers.family, strict=True) if f == "convnet"]
    chosen = [_preferred(vision), _preferred([t for t in numbers.tasks if "shakespeare" in t])]
    panels = []
    for task in (task for task in chosen if task):
        lines = []
        for name, colour in compared(numbers).items():
            record = _shown(numbers, name, numbers.tasks.index(task))
            if record is not None:
                x, y = _steady(record)
                lines.append(Line(_label(numbers, name), colour, x, y, strong="learned" in name))
        if lines:
            label = "||change|| / ||parameters|| of a step"
            panels.append(Panel(task, "step", label, lines, log_y=True))
    return panels


def _preferred(tasks: Sequence[str]) -> str | None:
    """Return the first task that an Adam trains, or the first."""
    return next((task for task in tasks if "adamw" in task), next(iter(tasks), None))


def _label(numbers: Numbers, name: str) -> str:
    return f"{name}, tuned cosine's rate" if name in (COSINE, "greedy") else name


def _shown(numbers: Numbers, name: str, task: int) -> Run | None:
    """Return the first seed's run; of schedules with a rate, at cosine's best one."""
    runs = numbers.methods[name]
    tuned = numbers.methods[COSINE].best(1) if name in (COSINE, "greedy") else runs.middle()
    return next((run for run in runs.records[task, tuned[task]] if run is not None), None)


def _steady(record: Run) -> tuple[list[float], list[float]]:
    """Return steps and the running geometric mean of the updates' sizes."""
    size = np.asarray(record.sizes, float)
    good = np.isfinite(size) & (size > 0)
    steps, logs = np.asarray(record.at)[good], np.log(size[good])
    width = max(1, min(SMOOTH, len(logs)))
    mean = np.convolve(logs, np.full(width, 1 / width), "valid")
    return steps[width - 1 :].tolist(), np.exp(mean).tolist()


def curve_panels(paths: Sequence[Path], smooth: float = 0.1) -> list[Panel]:
    """Return the learning curves that files hold, a line each, in a panel if there are any.

    Args:
        paths: JSON with {"curve": [{"round": 1, "mean": 0.1}, ...]}; what is absent is left out.
        smooth: the share of the rounds that a point is the mean of.
    """
    lines = []
    for colour, path in zip(PALETTE, (path for path in paths if path.is_file()), strict=False):
        rounds, means = by_round(json.loads(path.read_text(encoding="utf-8"))["curve"])
        width = max(1, min(len(means), math.ceil(smooth * len(means))))
        kept = np.convolve(means, np.full(width, 1 / width), "valid")
        name = path.name.split(".")[0]
        lines.append(Line(name, colour, rounds[width - 1 :].tolist(), kept.tolist()))
    title = "ln(loss under the anchor / under the policy) while it learns"
    return [Panel(title, "round", "mean of a round, smoothed", lines)] if lines else []


def by_round(entries: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rounds and the mean score of each: one round may hold several settings.

    >>> rounds, means = by_round([{"round": 1, "mean": 1.0}, {"round": 1, "mean": 3.0}])
    >>> rounds.tolist(), means.tolist()
    ([1], [2.0])
    """
    rounds = np.array([entry["round"] for entry in entries], dtype=int)
    scores = np.array([entry["mean"] for entry in entries], dtype=float)
    each = np.unique(rounds)
    return each, np.array([scores[rounds == one].mean() for one in each])
