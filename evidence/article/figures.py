"""The article's two figures, redrawn from runs: schedules, and loss histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evidence.article.numbers import Judged, seconds_a_step
from evidence.article.plan import OLD, OURS
from ratewise.compare.statistics import capped_loss
from ratewise.compare.tuning import MethodOnTask
from ratewise.plotting import Line, Panel, save_panels
from ratewise.runs import RunRecord

_RED, _BLACK, _GREEN = "#C62828", "#111111", "#2E7D32"
_BLUE, _GREY, _OCHRE, _ROSE = "#1F5FBF", "#8A8A8A", "#B8860B", "#E39A9A"
#: Figure 1, as the article draws it: GreedyLR in red.
DRAWN = {OLD: _ROSE, OURS: _RED, "linear": _BLUE, "cosine": _GREY, "constant": _OCHRE}
#: Figure 2: GreedyLR black, the plain optimizer red, hypergradient descent green and blue.
FOLLOWED = {
    ("sgd", OURS): ("GreedyLR", _BLACK),
    ("sgd", "constant"): ("SGD, constant", _RED),
    ("hypergradient-element", "none"): ("hypergradient, a rate a parameter", _GREEN),
    ("hypergradient", "none"): ("hypergradient, a rate a group", _BLUE),
}


def draw_schedules(judged: Judged, tasks: Sequence[str], path: Path) -> None:
    """Draw the rates that GreedyLR chose beside linear, cosine and constant ones, on AdamW."""
    panels = []
    for task in tasks:
        lines = []
        for schedule, colour in DRAWN.items():
            runs = judged.get(MethodOnTask(task, "adamw", schedule), [])
            runs = [run for run in runs if run.status == "finished"]  # else it has no rates
            if runs:
                x, (low, middle, high) = _band([(run.train_step, run.lr) for run in runs])
                label = {OURS: "GreedyLR", OLD: "GreedyLR, old default"}.get(schedule, schedule)
                lines.append(Line(label, colour, x, middle, low, high, schedule == OURS))
        if lines:
            panels.append(Panel(task, "optimizer step", "rate of adamw", lines))
    save_panels(panels, path, columns=4)


def draw_histories(
    judged: Judged, clocks: Mapping[tuple[str, str], float], tasks: Sequence[str], path: Path
) -> None:
    """Draw validation losses against steps (first) and against processor time."""
    panels = []
    for task in tasks:
        for over in ("steps", "seconds"):
            lines = []
            for (optimizer, schedule), (label, colour) in FOLLOWED.items():
                runs = judged.get(MethodOnTask(task, optimizer, schedule), [])
                if runs:
                    x, (low, middle, high) = _band([(run.eval_step, _capped(run)) for run in runs])
                    if over == "seconds":
                        clock = clocks.get((task, optimizer)) or seconds_a_step(runs)
                        x = [step * clock for step in x]
                    strong = colour == _BLACK
                    lines.append(Line(label, colour, x, middle, low, high, strong))
            axis = "optimizer step" if over == "steps" else "processor time (s, one thread)"
            if lines:
                panels.append(Panel(task, axis, "validation loss", lines))
    save_panels(panels, path, columns=4)


def _capped(run: RunRecord) -> list[float]:
    """A diverged run's loss counts as 10 times that of the untrained model."""
    return [capped_loss(loss, run.validation_loss[0]) for loss in run.validation_loss]


def _band(series: Sequence[tuple[list[int], list[float]]]) -> tuple[list[float], list[list[float]]]:
    """Return steps, and lowest, median and highest value there; runs share their steps."""
    values = np.array([values for _, values in series])
    quantiles = np.quantile(values, [0.0, 0.5, 1.0], axis=0)
    return [float(step) for step in series[0][0]], quantiles.tolist()
