"""What tuning with a few runs came to, over the cells that were judged."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from evidence.cells import Cell
from evidence.claims import Claim, below, outcome
from evidence.past_runs import advised, tried
from evidence.past_runs.advised import (
    ADVISOR,
    FLOOR,
    KNOWING,
    LINEAR,
    LOSSES,
    PILOTS,
    RANDOM,
    TPE,
    Advice,
)
from evidence.past_runs.tried import Trials
from evidence.results import Result, Results
from ratewise.compare.report.tables import ratio
from ratewise.compare.statistics import Interval, mean_interval

#: What was asked for: the ratio over a rival, and the worst cell's.
MOST, WORST = 0.98, 1.10
NAMES = {"held_out": "held-out loss", "train": "training loss"}
#: Ours, and over whom.
_ASKED = ((ADVISOR, LINEAR), (PILOTS, LINEAR), (KNOWING, LINEAR), (ADVISOR, TPE), (ADVISOR, RANDOM))


class Judged(NamedTuple):
    """A cell: ln of the judged loss by method and loss, [repeats], and the mean runs spent."""

    cell: Cell
    logs: dict[tuple[str, str], np.ndarray]
    runs: dict[tuple[str, str], float]


class Numbers(NamedTuple):
    """The cells that are there, of those that are planned."""

    cells: list[Judged]
    planned: int
    methods: tuple[str, ...]
    earlier: int  #: of the cells, how many an earlier version of the code made

    def over(self, ours: str, rival: str, loss: str, most: float = 1.0) -> Interval:
        """Return the ratio of two methods' losses over the cells."""
        groups = [one.logs[ours, loss] - one.logs[rival, loss] for one in self.cells]
        sets = [one.cell.data for one in self.cells]
        return mean_interval(groups, sets, null=math.log(most), over="cells")

    def worst(self, ours: str, rival: str, loss: str) -> tuple[float, str]:
        """Return the cell whose ratio is the highest, and that ratio."""
        found = [
            (float(np.exp((one.logs[ours, loss] - one.logs[rival, loss]).mean())), str(one.cell))
            for one in self.cells
        ]
        return max(found)

    def runs(self, method: str, loss: str) -> float:
        """Return the mean number of tuning runs that a method made."""
        return float(np.mean([one.runs[method, loss] for one in self.cells]))


def load(results: Results, advice: Advice) -> Numbers:
    """Return the numbers of the cells that are there."""
    units = advised.units(advice, "advised")
    there = {name: unit.cell for name, unit in units.items() if name in results}
    return _numbers(results, there, len(units), advice.methods)


def tried_out(results: Results, trials: Trials) -> Numbers:
    """Return the numbers of the other ways, on the cells that are there."""
    units = tried.units(trials)
    there = {name: cell for name, cell in units.items() if name in results}
    return _numbers(results, there, len(units), tried.METHODS)


def _numbers(
    results: Results, there: dict[str, Cell], planned: int, methods: tuple[str, ...]
) -> Numbers:
    cells = [_judged(cell, results.of(name), methods) for name, cell in there.items()]
    return Numbers(cells, planned, methods, advised.earlier(results, there))


def _judged(cell: Cell, rows: list[Result], methods: tuple[str, ...]) -> Judged:
    logs: dict[tuple[str, str], np.ndarray] = {}
    runs: dict[tuple[str, str], float] = {}
    for method in methods:
        for loss, at in (("train", 1), ("held_out", 2)):
            mine = [x for x in rows if x.method == method and x.setting.startswith(f"{loss},")]
            mine.sort(key=lambda x: x.seed)
            # a run that diverged counts as ten times the loss that it began with
            ends = [x.losses[at] if math.isfinite(x.losses[at]) else 10 * x.losses[0] for x in mine]
            logs[method, loss] = np.log(np.maximum(ends, FLOOR))
            runs[method, loss] = float(np.mean([int(x.setting.split()[1]) for x in mine]))
    return Judged(cell, logs, runs)


def claims(numbers: Numbers) -> list[Claim]:
    """Return the claims; none before there are two cells."""
    if len(numbers.cells) < 2:
        return []
    found = []
    for ours, rival in _ASKED:
        if not {ours, rival} <= set(numbers.methods):
            continue
        for loss in LOSSES:
            of = f"{ours}, over {rival}: {NAMES[loss]}"
            interval = numbers.over(ours, rival, loss)
            middle = interval.ratio()[0]
            low_enough = below(of, interval)
            held = middle <= MOST and low_enough.outcome == "held"
            missed = middle > MOST and interval.low > math.log(MOST)
            title = f"{of}, at most {MOST:g} and its interval below 1"
            value, _, span = ratio(interval).partition(" ")
            word = outcome(True if held else False if missed else None)
            found.append(Claim(title, f"<= {MOST:g}", value, span, word))
            worst, where = numbers.worst(ours, rival, loss)
            title = f"{of}, worst cell ({where})"
            found.append(Claim(title, f"<= {WORST:g}", f"{worst:.3f}", "", outcome(worst <= WORST)))
    return found


def rows(numbers: Numbers) -> list[list[str]]:
    """Return a row a method: tuning runs, and both losses over tuned linear's."""
    found = []
    for method in numbers.methods:
        row = [method]
        for loss in LOSSES:
            row.append(f"{numbers.runs(method, loss):.1f}")
            row.append(ratio(numbers.over(method, LINEAR, loss)) if method != LINEAR else "1")
            row.append(f"{numbers.worst(method, LINEAR, loss)[0]:.3f}")
        found.append(row)
    return found


def by_cell(numbers: Numbers) -> list[list[str]]:
    """Return a row a cell: methods' held-out and training losses over tuned linear's."""
    shown = [x for x in (ADVISOR, PILOTS, KNOWING, TPE) if x in numbers.methods]
    return [
        [
            str(one.cell),
            *(
                f"{math.exp((one.logs[method, loss] - one.logs[LINEAR, loss]).mean()):.3f}"
                for loss in LOSSES
                for method in shown
            ),
        ]
        for one in numbers.cells
    ]
