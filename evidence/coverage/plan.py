"""What is simulated: every kind of interval that is printed, in worlds as trainings are.

A world says how losses scatter, a design how many data sets, tasks, seeds and columns an interval
is made of, and by which statistic. All of it is drawn again `repetitions` times.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

from evidence import code
from ratewise.compare import statistics

#: The nominal error of every interval; at most `ALLOWED` may be measured, below `CAUTIOUS` is told.
NOMINAL, ALLOWED, CAUTIOUS = 1 - statistics.LEVEL, 0.07, 0.03
#: Standard deviations of ln(loss): between data sets, tasks, and seeds of one run.
SETS, TASKS, SEEDS = 0.10, 0.10, 0.05
#: A task that scatters most does so as many times as much as the one that scatters least.
UNEQUAL = 16.0
#: A run that learned ends at this share of its initial loss; one that diverged counts 10 times it.
LEARNED = 0.25


class World(NamedTuple):
    """How losses scatter.

    Args:
        name: how the page calls it.
        tails: degrees of freedom of Student's t that all that scatters has; None is normal.
        unequal: tasks and data sets scatter differently, up to `UNEQUAL` times.
        diverged: share of runs that diverge, ours and theirs, all of them on every fourth task.
        lopsided: a few win much, and the others lose a little.
    """

    name: str
    tails: int | None = None
    unequal: bool = False
    diverged: tuple[float, float] = (0.0, 0.0)
    lopsided: bool = False


#: In these methods are equal, and what scatters does so alike on both sides.
USUAL = (
    World("normal"),
    World("heavy tails", tails=3),
    World("unequal variances", unequal=True),
    World("diverged runs", tails=3, unequal=True, diverged=(0.05, 0.05)),
)
#: In these it does not.
HARSH = (
    World("theirs alone diverge", diverged=(0.0, 0.05)),
    World("lopsided", lopsided=True),
)
WORLDS = (*USUAL, *HARSH)


class Design(NamedTuple):
    """What an interval is made of."""

    name: str
    printed: str  #: where
    kind: str  #: "cell", "mean", "median" or "share"
    sets: tuple[int, ...]  #: tasks on each data set
    seeds: int
    columns: int  #: optimizers, baselines, rates or problems that share a task's seed

    @property
    def of_seeds(self) -> bool:
        """Whether it is a ratio over the seeds of one task."""
        return sum(self.sets) == 1 and not self.name.startswith("slope")


#: How many tasks share a data set, in the studies that print them.
_ARTICLE, _LEARNED = (2, 2, *(1,) * 8), (36, 21, 12, 11, 4, 2)
_CELLS = (8, 7, 6, 6, 6, 6, 5)
_FAMILIES, _LENGTHS = (5, 3, 1, 1, 1, 1), (10, 3, 1, 1, 1)
DESIGNS = (
    *(
        Design(f"cell of {n} seeds", "report, greedylr-defaults, article", "cell", (1,), n, 1)
        for n in (2, 3, 5, 8)
    ),
    Design("slope over three sizes, 5 seeds", "article", "cell", (1,), 5, 3),
    Design("ratio over 1 task, 5 seeds", "report", "mean", (1,), 5, 2),
    Design("ratio over 2 tasks", "report", "mean", (1, 1), 5, 1),
    Design("ratio over 4 tasks", "report, greedylr-defaults", "mean", (1,) * 4, 8, 2),
    Design("ratio over 12 tasks, 10 data sets", "article", "mean", _ARTICLE, 5, 2),
    Design("ratio over 12 families, 6 data sets", "robustness", "mean", _FAMILIES, 3, 20),
    Design("ratio over 16 tasks, 5 data sets", "update-ratio", "mean", _LENGTHS, 2, 8),
    Design("ratio over 24 tasks, 12 data sets", "report", "mean", (2,) * 12, 5, 2),
    Design("cell of 12 seeds", "greedylr-defaults", "cell", (1,), 12, 1),
    Design("ratio over 44 cells, 7 data sets", "greedylr-defaults", "mean", _CELLS, 5, 1),
    Design("median over 44 cells, 7 data sets", "greedylr-defaults", "median", _CELLS, 5, 1),
    Design("geometric mean over 40 stacks", "nmf", "mean", (1,) * 40, 1, 16),
    Design("geometric mean over 4 stacks", "nmf", "mean", (1,) * 4, 1, 16),
    Design("median over 40 stacks", "nmf", "median", (1,) * 40, 1, 16),
    Design("median over 12 tasks, 10 data sets", "article", "median", _ARTICLE, 5, 2),
    Design("median over 12 families, 6 data sets", "robustness", "median", _FAMILIES, 3, 20),
    Design("median over 86 tasks, 6 data sets", "learned", "median", _LEARNED, 2, 1),
    Design("share of 14 cells, 12 tasks, 10 data sets", "article", "share", _ARTICLE, 1, 14),
    Design("share of pairs, 86 tasks, 6 data sets", "learned", "share", _LEARNED, 2, 7),
)


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    designs: tuple[Design, ...] = DESIGNS
    worlds: tuple[World, ...] = WORLDS
    repetitions: int = 20_000
    control: int = 2_000  #: of the percentile bootstrap, which is slow
    seed: int = 20_26_17


class Unit(NamedTuple):
    """What is simulated in one go."""

    design: Design
    world: World
    way: str = ""  #: another interval than is printed, by name

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.design.name, self.world.name, self.way)))

    @property
    def printed(self) -> bool:
        """Whether it is the interval that is printed."""
        return not self.way


#: Other intervals: what was printed first, then two that were tried over few units.
BOOTSTRAP, PLAIN, SKEWED = "bootstrap", "t at 95%", "t at 95%, or Hall's, the wider"
#: What the pages printed before: the percentile bootstrap must not pass.
CONTROLS = tuple(
    Unit(design, USUAL[0], BOOTSTRAP)
    for design in (
        DESIGNS[3],
        Design("ratio over 4 tasks", "", "median", (1,) * 4, 8, 2),
        Design("ratio over 12 families, 6 data sets", "", "median", _FAMILIES, 3, 20),
    )
)


#: What was tried over few units, in the worlds that tell them apart, beside what is printed.
TRIED = tuple(
    Unit(design, world, way)
    for design in DESIGNS
    if design.name in ("ratio over 4 tasks", "ratio over 12 families, 6 data sets")
    for way in (PLAIN, SKEWED)
    for world in (USUAL[0], HARSH[1])
)


def units(settings: Settings) -> dict[str, Unit]:
    """Return every unit by the digest of all that determines its numbers, code included."""
    pairs = itertools.product(settings.designs, settings.worlds)
    wanted = [*(Unit(design, world) for design, world in pairs), *CONTROLS, *TRIED]
    made_by = code.digest("ratewise.compare.statistics", "evidence.coverage.draws")
    size = settings.repetitions, settings.control, settings.seed
    return {_digest((unit, size, made_by)): unit for unit in wanted}


def _digest(about: Any) -> str:
    return hashlib.sha256(repr(about).encode()).hexdigest()[:16]
