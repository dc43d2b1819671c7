"""GreedyLR's defaults under `criterion="significance"`: developed on some data, judged on other.

Candidates meet on the develop cells. The one that is chosen (`numbers.chosen`: by a rule that was
stated before) meets its rivals on the judged cells, on data that chose nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from evidence import code, run_table
from evidence.cells import Cell
from evidence.greedy_defaults.rules import Epochs
from evidence.run_table import Row
from evidence.simulated import as_data
from ratewise.rules.greedy_config import GreedyConfig
from ratewise.rules.plateau import PlateauConfig
from ratewise.simulate import Fixed, Greedy, Plateau, Warmup

#: Without wine: what 22 rows held out say is chance.
DEVELOP = tuple(
    Cell(*row)
    for row in (
        ("digits", "mlp", 16, 300, "sgd", True),
        ("wikitext", "window", 4, 300, "sgd"),
        ("housing", "mlp", 128, 300, "sgd"),
        ("fashion", "mlp", 4, 1500, "adamw"),
        ("breast-cancer", "mlp", 4, 300, "adamw"),
        ("diabetes", "mlp", 4, 300, "sgd"),
        ("teachers", "mlp", 16, 300, "adamw"),
        ("digits", "mlp", 128, 300, "adamw"),
        ("wikitext", "window", 16, 300, "adamw", True),
        ("housing", "mlp", 4, 300, "adamw", True),
        ("teachers", "mlp", 4, 1500, "sgd"),
        ("fashion", "mlp", 16, 1500, "sgd"),
        ("housing", "mlp", 16, 1500, "adamw"),
        ("wikitext", "window", 4, 1500, "adamw"),
    )
)
#: No data set of these is one of those above.
JUDGED = tuple(
    Cell(*row)
    for row in (
        ("mnist1d", "mlp", 16, 1500, "sgd"),
        ("bent teachers", "mlp", 16, 300, "adamw"),
        ("wavy teachers", "mlp", 4, 1500, "sgd"),
        ("cifar", "mlp", 4, 1500, "adamw"),
        ("shakespeare", "window", 4, 300, "sgd"),
        ("kjv", "window", 16, 1500, "sgd", True),
        ("polarity", "attention", 4, 300, "adamw"),
        ("mnist1d", "mlp", 16, 300, "adamw", True),
        ("bent teachers", "mlp", 4, 1500, "sgd"),
        ("wavy teachers", "mlp", 4, 300, "adamw"),
        ("cifar", "mlp", 16, 300, "sgd"),
        ("shakespeare", "window", 16, 1500, "adamw"),
        ("kjv", "window", 16, 300, "sgd"),
        ("polarity", "window", 128, 300, "adamw"),
        ("cifar", "lenet", 4, 300, "adamw", True),
        ("kjv", "transformer", 4, 300, "adamw", True),
        ("mnist1d", "mlp", 128, 300, "sgd", True),
        ("bent teachers", "mlp", 128, 300, "sgd"),
        ("wavy teachers", "mlp", 128, 300, "adamw"),
        ("shakespeare", "window", 128, 300, "sgd"),
        ("kjv", "window", 4, 1500, "adamw"),
        ("polarity", "attention", 16, 300, "sgd"),
        ("cifar", "mlp", 128, 300, "adamw"),
        ("mnist1d", "mlp", 4, 300, "adamw"),
        ("wavy teachers", "mlp", 16, 1500, "sgd"),
        ("shakespeare", "window", 4, 1500, "sgd", True),
        ("cifar", "mlp", 16, 1500, "sgd", True),
        ("bent teachers", "residual", 4, 1500, "adamw"),
        ("shakespeare", "transformer", 4, 300, "adamw"),
        ("mnist1d", "mlp", 4, 6000, "adamw"),
        ("bent teachers", "mlp", 16, 6000, "sgd"),
        ("cifar", "lenet", 4, 300, "sgd"),
        ("mnist1d", "mlp", 128, 1500, "adamw"),
        ("polarity", "attention", 4, 1500, "sgd"),
        ("wavy teachers", "mlp", 128, 1500, "sgd"),
        ("kjv", "window", 128, 1500, "adamw"),
        ("mnist1d", "residual", 16, 1500, "sgd"),
        ("bent teachers", "mlp", 128, 1500, "adamw"),
        ("cifar", "lenet", 16, 300, "sgd", True),
        ("kjv", "transformer", 16, 300, "sgd"),
        ("polarity", "attention", 16, 1500, "adamw"),
        ("wavy teachers", "residual", 4, 1500, "adamw"),
        ("cifar", "lenet", 16, 1500, "adamw"),
        ("shakespeare", "transformer", 16, 1500, "adamw"),
    )
)
#: nanoGPT's shape, 16 wide and 32 characters long, with its batch, steps, ramp and rate.
NANO, NANO_RAMP, NANO_RATE = Cell("shakespeare", "nano", 12, 2000, "adamw"), 100, 1e-3
#: The usual schedules, against which a share of the cells is counted.
SEVEN = ("constant", "linear", "cosine", "polynomial", "step", "exponential", "plateau")
OURS, OLD, FALL, CONTROL = "greedy", "old default", "constant, then falling", "strangers' losses"
RIVALS: dict[str, Any] = {
    OLD: Greedy(GreedyConfig(criterion="count")),
    **{name: Fixed(name) for name in SEVEN[:-1]},
    # as often as torch's users step it, on the mean training loss of an epoch
    "plateau": Epochs(Plateau(PlateauConfig(factor=0.5, patience=1))),
    "restarts": Fixed("restarts"),
    "transformers": Greedy(
        GreedyConfig(
            criterion="count",
            factor=0.95,
            patience=10,
            window=1,
            threshold=1e-6,
            threshold_mode="abs",
            stage="hold",
            reset_after=500,
            eps_mode="abs",
            first="good",
        )
    ),
}
_MADE_BY = (
    "evidence.cells",
    "evidence.greedy_defaults.rules",
    "evidence.greedy_defaults.runs",
    "ratewise.rules.greedy",
    "ratewise.rules.significance",
)


class Candidate(NamedTuple):
    """Settings that may become the default."""

    factor: float
    patience: int
    window: int
    share: float  #: of the run, over which the rate falls to 0 at its end
    plateau: str = "bad"  #: what losses without a trend are

    def __str__(self) -> str:
        name = f"{self.factor:g}/{self.patience}/{self.window}, last {self.share:.0%}"
        return name if self.plateau == "bad" else f"{name}, {self.plateau}"

    def rule(self) -> Greedy:
        """Return the rule."""
        config = GreedyConfig(
            "significance", self.factor, self.patience, self.window, plateau=self.plateau
        )
        return Greedy(config, f"stable-decay:{self.share:g}")


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    develop: tuple[Cell, ...] = DEVELOP
    judged: tuple[Cell, ...] = JUDGED
    given: tuple[Cell, ...] = (NANO,)
    factors: tuple[float, ...] = (0.7, 0.8, 0.9)
    patiences: tuple[int, ...] = (0, 1)
    windows: tuple[int, ...] = (100, 200)  #: all but the first with the share in the middle
    shares: tuple[float, ...] = (0.3, 0.5, 0.7)
    plateaus: tuple[str, ...] = ("bad", "neutral")  #: a round each; all but the first: no patience
    rates: int = 7
    tuning_seeds: tuple[int, ...] = (0, 1)
    seeds: tuple[int, ...] = tuple(range(1000, 1005))
    #: Added where, of `seeds`, the interval of a cell is undecided, to both sides of it.
    more: tuple[int, ...] = tuple(range(1005, 1012))

    def candidates(self) -> list[Candidate]:
        """Return the combinations of the settings under study."""
        windows = [(self.windows[0], share) for share in self.shares]
        windows += [(window, self.shares[len(self.shares) // 2]) for window in self.windows[1:]]
        each = itertools.product(self.plateaus, self.factors, self.patiences, windows)
        return [
            Candidate(factor, patience, *last, plateau)
            for plateau, factor, patience, last in each
            if plateau == "bad" or patience == self.patiences[0]
        ]

    def rounds(self) -> list[Settings]:
        """Return the study's development in parts, whose units are apart."""
        return [replace(self, plateaus=(plateau,)) for plateau in self.plateaus]

    def grid(self, optimizer: str) -> list[float]:
        """Return an optimizer's rates, two a decade.

        >>> Settings(rates=3).grid("sgd")
        [0.001, 0.00316228, 0.01]
        """
        low = 1e-3 if optimizer == "sgd" else 1e-4
        return [float(f"{low * 10 ** (i / 2):.6g}") for i in range(self.rates)]


class Unit(NamedTuple):
    """What is trained, and kept, in one go: a cell under all rules."""

    part: str  #: "develop", "judged" or "given": at a given rate
    cell: Cell

    def __str__(self) -> str:
        return f"{self.part}: {self.cell}"


def rules(settings: Settings, part: str, chosen: Candidate | None) -> dict[str, Any]:
    """Return what a unit is trained under, by the names that tables have."""
    if part == "develop":
        falls = {f"{FALL} {x:g}": Fixed(f"stable-decay:{x:g}") for x in settings.shares}
        rivals = {name: RIVALS[name] for name in (OLD, "linear", "cosine")} | falls
        ours = {str(c): c.rule() for c in settings.candidates()}
        return ours | rivals if "bad" in settings.plateaus else ours
    assert chosen is not None
    fall = Fixed(f"stable-decay:{chosen.share:g}")
    found = {OURS: chosen.rule(), FALL: fall, **RIVALS}
    if part == "given":
        names = (OURS, OLD, FALL, "cosine")
        return {name: Warmup(found[name], NANO_RAMP) for name in names}
    return found


def wanted(settings: Settings, parts: Iterable[str], chosen: Candidate | None) -> dict[str, Unit]:
    """Return the units of parts by the digest of all that determines their runs."""
    cells = {"develop": settings.develop, "judged": settings.judged, "given": settings.given}
    found = {}
    for part in parts:
        key = {
            "rules": {name: as_data(x) for name, x in rules(settings, part, chosen).items()},
            "seeds": [settings.tuning_seeds, settings.seeds, settings.more],
            "rates": settings.rates,
            "code": code.digest(*_MADE_BY),
        }
        for cell in cells[part]:
            text = json.dumps({"unit": [part, *cell], **key}, sort_keys=True)
            found[hashlib.sha256(text.encode()).hexdigest()[:16]] = Unit(part, cell)
    return found


def trainings(settings: Settings, unit: Unit) -> int:
    """Return how many runs a unit has at most."""
    if unit.part == "given":
        return len(rules(settings, "given", Candidate(0.5, 0, 6, 0.2))) * len(settings.seeds)
    develop = unit.part == "develop"
    methods = len(rules(settings, "develop", None)) if develop else len(RIVALS) + 3
    tuning = methods * settings.rates * len(settings.tuning_seeds)
    if develop:
        return tuning
    return tuning + methods * len(settings.seeds) + (methods - 1) * len(settings.more)


def row(settings: Settings, unit: Unit) -> Row:
    """Return what a unit takes."""
    runs = trainings(settings, unit)
    return Row(runs, unit.cell.steps, run_table.seconds(unit.cell, runs))
