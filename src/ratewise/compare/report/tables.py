"""The tables of a report, as rows of text that the page, the file and the terminal share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ratewise.compare.analysis import Pair, TaskComparison
from ratewise.compare.outcomes import Outcome
from ratewise.compare.statistics import LEVEL, VERDICTS, Interval


class Table(NamedTuple):
    """A caption, a header and rows."""

    caption: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Return a Markdown table whose columns line up."""
        return self._map(escaped)._markdown()

    def _map(self, change: Callable[[str], str]) -> Table:
        rows = [list(map(change, row)) for row in self.rows]
        return Table(self.caption, list(map(change, self.header)), rows)

    def _markdown(self) -> str:
        widths, numeric = self._widths(), self._numeric()
        rule = [
            "-" * (width - 1) + (":" if right else "-")
            for width, right in zip(widths, numeric, strict=True)
        ]
        lines = [self._aligned(self.header), rule, *map(self._aligned, self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def terminal(self, keys: int) -> str:
        """Return the rows under a heading for each value of the first `keys` columns."""
        lines, heading = [], None
        for row in self.rows:
            if row[:keys] != heading:
                heading = row[:keys]
                lines += ["", ", ".join(heading), "  ".join(self._aligned(self.header)[keys:])]
            lines.append("  ".join(self._aligned(row)[keys:]))
        return "\n".join(line.rstrip() for line in [self.caption, *lines])

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]

    def _numeric(self) -> list[bool]:
        columns = range(len(self.header))
        return [all(row[i][:1] in "0123456789-+" for row in self.rows if row[i]) for i in columns]

    def _aligned(self, line: list[str]) -> list[str]:
        return [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, self._widths(), self._numeric(), strict=True)
        ]


def escaped(text: str) -> str:
    r"""Return text escaped for Markdown: a name may hold characters with a meaning there.

    Characters without a meaning in their place are kept, such as those of <= 0.9 [0.8, 1.0].

    >>> print(escaped("P(<) a|b <c> `d` ![e](f)"))
    P(<) a\|b &lt;c> \`d\` !\[e]\(f)
    """
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    text = re.sub(r"[\\|`]|(?<=!)\[|(?<=\])\(", r"\\\g<0>", text)
    return " ".join(text.splitlines())


def ratio(interval: Interval) -> str:
    """Return a ratio with its interval.

    >>> ratio(Interval(0.0, -0.0513, 0.0488, 5)), ratio(Interval(0, -math.inf, math.inf, 1))
    ('1.000 [0.950, 1.050]', '1.000 (no interval)')
    """
    middle, low, high = interval.ratio()
    if math.isinf(interval.high):
        return f"{middle:.3f} (no interval)" if interval.n else "-"
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def told(interval: Interval) -> str:
    """Return a ratio with its interval, its units, and the narrower interval beside it.

    >>> told(Interval(0.0, -0.0513, 0.0488, 4, "data sets", 1.0, Interval(0, -0.01, 0.01, 8)))
    '1.000 [0.950, 1.050] over 4 data sets (1.000 [0.990, 1.010] over 8 seeds)'
    """
    said = f"{ratio(interval)} over {interval.n} {interval.over}"
    return f"{said} ({told(interval.beside)})" if interval.beside else said


def chance(cells: int) -> str:
    """Return how many false decisions a table of uncorrected intervals is to be expected to have.

    >>> chance(56)
    'of 56 cells without a difference about 2.8 would be called better or worse'
    """
    said = f"of {cells} cells without a difference about {(1 - LEVEL) * cells:.2g}"
    return f"{said} would be called better or worse"


def number(value: float) -> str:
    """Return three significant digits; what is infinite diverged or was not reached.

    >>> number(0.012345), number(math.inf), number(1234.5)
    ('0.0123', '-', '1234')
    """
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def verdict_table(pairs: Sequence[Pair]) -> Table:
    """Return one row a pair: cells by verdict, the ratio over all, the chance to be better."""
    header = [
        "method",
        "against",
        "rate",
        "cells",
        *VERDICTS,
        "ratio over all [95%]",
        "units",
        "IQM",
        "P(<)",
    ]
    rows = [
        [
            pair.ours,
            pair.baseline,
            pair.condition,
            str(len(pair.cells)),
            *(str(pair.verdicts[name]) for name in VERDICTS),
            ratio(pair.overall),
            f"{pair.overall.n} {pair.overall.over}",
            f"{math.exp(pair.interquartile):.3f}" if pair.cells else "-",
            f"{pair.improvement:.2f}" if pair.cells else "-",
        ]
        for pair in pairs
    ]
    return Table("Verdicts over all tasks and optimizers", header, rows)


def cell_table(outcomes: Sequence[Outcome], against: Sequence[Pair], reference: str) -> Table:
    """Return one row a method: tuned rate, test loss and ratio to the reference: for terminals.

    Args:
        outcomes: what each method reached.
        against: each schedule compared with the reference, tuned.
        reference: its name.
    """
    found = {
        (cell.task, cell.optimizer, pair.ours): cell for pair in against for cell in pair.cells
    }
    rows = []
    for outcome in outcomes:
        cell = found.get(outcome.method)
        rows.append(
            [
                outcome.method.task,
                outcome.method.optimizer,
                outcome.method.schedule,
                number(outcome.tuned.base_lr) + ("!" if outcome.tuned.at_edge else ""),
                number(outcome.losses[-1]),
                ratio(cell.interval) if cell else "-",
                _said(cell, outcome),
            ]
        )
    ratios = f"/ {reference} [95%]"
    header = ["task", "optimizer", "schedule", "lr", "test loss", ratios, "verdict"]
    return Table(
        f"Each method at its tuned rate; ratio of test losses to {reference}", header, rows
    )


def _said(cell: TaskComparison | None, outcome: Outcome) -> str:
    """Return a cell's verdict, and how many runs diverged."""
    if cell and cell.alone:
        return "{}, {} diverged against {}".format(cell.verdict, *cell.diverged)
    said = [cell.verdict] if cell else []
    return ", ".join(said + ([f"{outcome.diverged} diverged"] if outcome.diverged else []))


def detail_table(outcomes: Sequence[Outcome]) -> Table:
    """Return one row a method: budget, losses on the way, metric, steps to a target, seconds."""
    header = [
        "task",
        "optimizer",
        "schedule",
        "tuned lr",
        "runs to tune",
        "diverged",
        "loss at 10%",
        "50%",
        "100%",
        "metric",
        "steps to target",
        "seconds",
    ]
    rows = [
        [
            *o.method,
            number(o.tuned.base_lr) + (" (edge)" if o.tuned.at_edge else ""),
            str(o.tuned.runs),
            f"{o.diverged}/{o.runs}",
            *(number(loss) for loss in o.losses),
            f"{number(o.metric)} {o.metric_name}" if o.metric_name else "-",
            f"{number(o.steps_to_target)} ({o.reached}/{o.runs})",
            number(o.seconds),
        ]
        for o in outcomes
    ]
    return Table("What each method cost and reached", header, rows)


def paper_table(pairs: Sequence[Pair]) -> Table:
    """Return the paper's count of cells, with the share in which it cannot find anything worse."""
    names = ["better", "insignificantly better", "insignificantly worse", "worse"]
    rows = [
        [
            pair.ours,
            pair.baseline,
            pair.condition,
            *(str(pair.paper_count()[name]) for name in names),
            f"{pair.below_margin():.0%}",
        ]
        for pair in pairs
        if pair.cells
    ]
    header = ["method", "against", "rate", *names, "all losses < 0.1"]
    return Table("The paper's count, for comparison only", header, rows)
