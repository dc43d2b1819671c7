"""The pictures of a report as plain panels: schedules drawn, histories, rates, forest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ratewise.compare.analysis import Pair, Runs, sides
from ratewise.compare.outcomes import Curve, against_rate, drawn, history
from ratewise.compare.tuning import MethodOnTask
from ratewise.plotting import PALETTE, Bar, Forest, Line, Panel

#: Rows of a forest plot that a reader will look at.
MOST_BARS = 60


def colours(runs: Runs) -> dict[str, str]:
    """Return one colour a schedule, ours first, the same in every picture."""
    ours, baselines, _ = sides(runs.schedules)
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate([*ours, *baselines])}


def drawn_schedules(runs: Runs) -> list[Panel]:
    """Return the learning rate that each method drew, step by step, at its tuned rate."""
    return _panels(runs, drawn, "optimizer step", "learning rate", depth=1e3)


def histories(runs: Runs) -> list[Panel]:
    """Return the validation loss of the judged runs."""
    return _panels(runs, history, "optimizer step", "validation loss")


def rates(runs: Runs) -> list[Panel]:
    """Return the final test loss against the base rate."""
    curves = _panels(runs, against_rate, "base learning rate", "final test loss")
    return [
        Panel(panel.title, panel.x_label, panel.y_label, panel.lines, log_x=True, log_y=True)
        for panel in curves
    ]


def forest(pairs: Sequence[Pair], palette: dict[str, str], reference: str) -> Forest:
    """Return one row a cell and a row for all cells, each of ours against each baseline.

    Where that would be more than `MOST_BARS` rows, the cells are those against the reference.
    """
    shown = [pair for pair in pairs if pair.cells]
    few = sum(1 + len(pair.cells) for pair in shown) <= MOST_BARS
    bars = []
    for pair in shown:
        name, colour = f"{pair.ours} / {pair.baseline}", palette[pair.ours]
        middle, low, high = pair.overall.ratio()
        bars.append(Bar(f"{name}: all cells", "#000000", middle, low, high))
        for cell in pair.cells if few or pair.baseline == reference else ():
            middle, low, high = cell.interval.ratio()
            bars.append(Bar(f"{cell.task}, {cell.optimizer}", colour, middle, low, high))
    return Forest(
        "Test loss of ours over the baseline's, both tuned",
        "ratio of test losses, 95% interval (below 1: ours is lower)",
        bars,
    )


def _panels(
    runs: Runs,
    curve: Callable[[Runs, MethodOnTask], Curve],
    x_label: str,
    y_label: str,
    depth: float = math.inf,
) -> list[Panel]:
    """Return a panel a task and optimizer; values below a `depth`-th of the highest are gaps."""
    palette = colours(runs)
    ours, _, _ = sides(runs.schedules)
    panels = []
    for task, optimizer in runs.cells():
        found = {name: curve(runs, MethodOnTask(task, optimizer, name)) for name in palette}
        top = max((max(of.middle) for of in found.values() if of.x), default=1.0)
        lines = [
            Line(
                name,
                palette[name],
                of.x,
                _above(of.middle, top / depth),
                _above(of.low, top / depth),
                _above(of.high, top / depth),
                strong=name in ours,
            )
            for name, of in found.items()
            if of.x
        ]
        if lines:
            panels.append(Panel(f"{task}, {optimizer}", x_label, y_label, lines, log_y=True))
    return panels


def _above(values: Sequence[float], floor: float) -> list[float]:
    """Return values with those at or below the floor as NaN: a logarithmic axis cannot show 0."""
    return [value if value > floor else math.nan for value in values]
