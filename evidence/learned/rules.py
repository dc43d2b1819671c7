"""What a unit of the study is, what it trains, and under which rules."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

from evidence import cells
from evidence.cells import Cell
from evidence.learned import unseen
from ratewise.rules import learned
from ratewise.rules.ratio_law import Outlook, default_ratio
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import Fixed, Learned, Task, UpdateRatio

KINDS = ("fresh data", "many passes", "fine-tuning", "nanoGPT's shape")
OURS, UNKNOWN, POLICY = "update-ratio", "passes not known", "learned"
ONLINE, RANDOM, OTHER = "online", "random online", "another length's ratio"
BATCH = "learned, batch known"
LINEAR, COSINE, FREE = "linear", "cosine", "schedule-free tuned"
#: Optimizers that need no rate, or are given one that people take; beside AdamW alone.
UNTUNED = ("prodigy linear", "prodigy", "schedule-free", "adamw 1e-3 linear")
#: What is judged as it is, then what has a rate, then what knows better.
METHODS = (OURS, UNKNOWN, POLICY, BATCH, ONLINE, LINEAR, COSINE, *UNTUNED, FREE, RANDOM, OTHER)
#: The control's ratio is that of a run so many times as long.
LONGER = 20
#: The methods that the simulator trains at a rate.
TUNED = (LINEAR, COSINE)
#: Any rate will do for what needs none.
RATE = 0.01


class Unit(NamedTuple):
    """What is trained, and kept, in one go: a cell under all methods."""

    kind: str
    cell: Cell

    def __str__(self) -> str:
        return f"{self.kind}: {self.cell}"


@cache
def task(unit: Unit, *, judging: bool) -> Task:
    """Return what a unit trains; of teachers that are to be fresh, with rows enough."""
    of = unseen if unit.cell.data in unseen.SETS else cells
    found = of.task(unit.cell, judging=judging)
    if unit.kind != KINDS[0] or not callable(found.data):
        return found
    # a run's own rows: from a teacher, how many are held out, and which of them
    drawn: Any = found.data
    teacher, *others = drawn.args
    rows = unit.cell.steps * unit.cell.batch + 2 * found.held_out
    more = replace(teacher, size=max(teacher.size, rows))
    return replace(found, data=partial(drawn.func, more, *others))


@cache
def rows(unit: Unit) -> int:
    """Return how many rows a unit's runs are trained on."""
    made = task(unit, judging=True)
    return len(made.data_for(0)[0]) - made.held_out


def passes(unit: Unit) -> float:
    """Return how often each row is seen."""
    return unit.cell.steps * unit.cell.batch / rows(unit)


def untuned(unit: Unit) -> tuple[str, ...]:
    """Return what the simulator trains a unit under, as it comes."""
    more = (ONLINE, RANDOM) if unit.cell.optimizer == "adamw" else ()
    return (OURS, UNKNOWN, POLICY, BATCH, OTHER, *more)


def rules(unit: Unit) -> dict[str, Any]:
    """Return what the simulator trains a unit under, by the names that tables have."""
    steps, further = unit.cell.steps, unit.cell.further
    epoch = max(1, round(rows(unit) / unit.cell.batch))
    ratio = default_ratio(steps, epoch, further)
    found: dict[str, Any] = {
        OURS: _steered(ratio),
        UNKNOWN: _steered(default_ratio(steps, None, further)),
        POLICY: Learned(learned.load("default"), Outlook(None, epoch, further)),
        BATCH: Learned(learned.load("default"), Outlook(None, epoch, further, unit.cell.batch)),
        OTHER: _steered(default_ratio(LONGER * steps, LONGER * epoch, further)),
        ONLINE: _steered(ratio, True),
        RANDOM: _steered(ratio, "random"),
        **{name: Fixed(name) for name in TUNED},
    }
    return {name: found[name] for name in (*untuned(unit), *TUNED)}


def _steered(ratio: float, online: bool | str = False) -> UpdateRatio:
    return UpdateRatio(UpdateRatioConfig(ratio=ratio), online=online)
