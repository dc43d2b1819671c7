"""The pictures of a report as plain panels: schedules drawn, histories, rates, forest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ratewise.compare.analysis import Pair, Runs, sides
from ratewise.compare.outcomes import Curve, against_rate, drawn, history
from ratewise.compare.tuning import Method
from ratewise.plotting import PALETTE, Bar, Forest, Line, Panel


def colours(runs: Runs) -> dict[str, str]:
    """Return one colour a schedule, ours first, the same in every picture."""
    ours, baselines, _ = sides(runs.schedules)
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate([*ours, *baselines])}


def drawn_schedules(runs: Runs) -> list[Panel]:
    """Return the learning rate that each method drew, step by step, at its tuned rate."""
    return _panels(runs, drawn, "optimizer step", "learning rate", log_y=True)


def histories(runs: Runs) -> list[Panel]:
    """Return the validation loss of the judged runs."""
    return _panels(runs, history, "optimizer step", "validation loss", log_y=True)


def rates(runs: Runs) -> list[Panel]:
    """Return the final test loss against the base rate."""
    curves = _panels(runs, against_rate, "base learning rate", "final test loss", log_y=True)
    return [
        Panel(panel.title, panel.x_label, panel.y_label, panel.lines, log_x=True, log_y=True)
        for panel in curves
    ]


def forest(pairs: Sequence[Pair], palette: dict[str, str]) -> Forest:
    """Return one row a cell and a row for all cells, each of ours against each baseline."""
    bars = []
    for pair in pairs:
        if not pair.cells:
            continue
        name, colour = f"{pair.ours} / {pair.baseline}", palette[pair.ours]
        middle, low, high = pair.overall.ratio()
        bars.append(Bar(f"{name}: all cells", "#000000", middle, low, high))
        for cell in pair.cells:
            middle, low, high = cell.interval.ratio()
            bars.append(Bar(f"{cell.task}, {cell.optimizer}", colour, middle, low, high))
    return Forest(
        "Test loss of ours over the baseline's, both tuned",
        "ratio of test losses, 95% interval (below 1: ours is lower)",
        bars,
    )


def _panels(
    runs: Runs, curve: Callable[[Runs, Method], Curve], x_label: str, y_label: str, *, log_y: bool
) -> list[Panel]:
    palette = colours(runs)
    ours, _, _ = sides(runs.schedules)
    panels = []
    for task, optimizer in runs.cells():
        lines = []
        for schedule, colour in palette.items():
            found = curve(runs, Method(task, optimizer, schedule))
            if found.x:
                lines.append(
                    Line(
                        schedule,
                        colour,
                        found.x,
                        _positive(found.middle) if log_y else found.middle,
                        _positive(found.low) if log_y else found.low,
                        _positive(found.high) if log_y else found.high,
                        strong=schedule in ours,
                    )
                )
        if lines:
            panels.append(Panel(f"{task}, {optimizer}", x_label, y_label, lines, log_y=log_y))
    return panels


def _positive(values: Sequence[float]) -> list[float]:
    """A schedule may end at exactly 0, which a logarithmic axis cannot show: leave a gap."""
    return [value if value > 0 else float("nan") for value in values]
