"""The figure of the study: the mean held-out loss over tuned linear's, by kind and length."""

from __future__ import annotations

from pathlib import Path

from evidence.learned import numbers as of
from evidence.learned.numbers import Numbers
from evidence.learned.rules import LINEAR, OURS, POLICY
from ratewise.plotting import PALETTE, Bar, Forest, save_forest


def draw(numbers: Numbers, path: Path) -> None:
    """Draw a row for each kind, length and method; of a single cell the interval is over seeds."""
    bars = []
    for kind in numbers.kinds():
        for length in numbers.lengths(kind):
            for name, colour in zip((OURS, POLICY), PALETTE, strict=False):
                found = of.against(numbers.keep(kind, length), name, LINEAR, 1).ratio()
                bars.append(Bar(f"{kind}, {length:,} steps, {name}", colour, *found))
    save_forest(Forest("Nothing tuned", "held-out loss over tuned linear's", bars), path)
