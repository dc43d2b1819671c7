"""How schedules bear noise: every family under every noise, in every place, at several rates.

The robustness study of arXiv 2512.14527 (8,100 runs), with its weak points repaired: noise also
where every schedule feels it, equal sample sizes, paired seeds, more than one rate, and verdicts
on the clean loss.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

from evidence.simulated import Planned, as_data, digest
from ratewise import simulate
from ratewise.rules.greedy_config import END, GreedyConfig
from ratewise.rules.plateau import PlateauConfig
from ratewise.simulate import Fixed, Greedy, Noise, Plateau
from ratewise.simulate.noise import KINDS, PLACES

#: name -> (family, its options): the cheapest data that shows what the architecture does.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "quadratic": ("quadratic", {"condition": 100}),
    "rosenbrock": ("rosenbrock", {}),
    "rastrigin": ("rastrigin", {}),
    "mlp": ("mlp", {"data": "digits"}),
    "residual-mlp": ("residual-mlp", {"data": "breast-cancer"}),
    "lenet": ("lenet", {"data": "digits"}),
    "resnet": ("resnet", {"data": "digits"}),
    "gru": ("gru", {"data": "pydoc"}),
    "attention": ("attention", {"data": "digits"}),
    "vit": ("vit", {"data": "digits"}),
    "deep-transformer": ("deep-transformer", {"data": "pydoc"}),
    "wide-transformer": ("wide-transformer", {"data": "pydoc"}),
}
#: GreedyLR as the paper ran it.
PAPER = GreedyConfig(
    criterion="count", factor=0.95, patience=10, window=50, reference="best", plateau="bad"
)
#: GreedyLR's default, and what waits for significance, with and without a known length.
COUNTS, WAITS = GreedyConfig(criterion="count"), GreedyConfig(criterion="significance")
SCHEDULES: dict[str, Any] = {
    "greedy-paper": Greedy(PAPER),
    "greedy": Greedy(COUNTS),
    "greedy-cosine": Greedy(COUNTS, anchor="cosine"),
    "significance": Greedy(WAITS, anchor=END["significance"]),
    "significance-endless": Greedy(WAITS),
    "cosine": Fixed("cosine"),
    "restarts": Fixed("restarts"),
    "exponential": Fixed("exponential"),
    "linear": Fixed("linear"),
    "constant": Fixed("constant"),
    # torch's defaults (factor 0.1) end a run on the noise of single batches; these do not
    "plateau": Plateau(PlateauConfig(factor=0.5, patience=20)),
}
#: What was added to the study has units of its own: the others keep their runs.
LATER = ("significance", "significance-endless")
OURS = ("greedy-paper", "greedy", "greedy-cosine", *LATER)
#: Those that look at nothing: noise on the seen loss leaves their runs as they are.
OPEN_LOOP = tuple(name for name, rule in SCHEDULES.items() if isinstance(rule, Fixed))
FACTORS = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
#: Bounds of the scale in the factor's sweep: the package's own, and none that matter.
SWEEP_BOUNDS = {"0.1 to 10": (0.1, 10.0), "1e-4 to 1e4": (1e-4, 1e4)}
OPTIMIZER = "adam"
#: What is kept of a run: the clean loss before and after it; of its training losses the mean of
#: the last ten, the greatest, and the steps from there until nine tenths of the way to the mean of
#: the last ten are done. What was not reached is infinite.
MARKS = ("initial", "final", "last", "greatest", "descent")


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    families: tuple[str, ...] = tuple(FAMILIES)
    kinds: tuple[str, ...] = KINDS
    places: tuple[str, ...] = PLACES
    schedules: tuple[str, ...] = tuple(SCHEDULES)
    factors: tuple[float, ...] = FACTORS
    lrs: tuple[float, ...] = (5.6e-4, 3.2e-3, 1.8e-2)
    seeds: int = 2
    steps: int = 200
    chunk: int = 64  #: runs stacked at once; fixed, so that the numbers are the machine's no more


#: The preset, and the full study: five rates over three decades and three seeds.
PRESET = Settings()
FULL = Settings(lrs=(1e-4, 5.6e-4, 3.2e-3, 1.8e-2, 1e-1), seeds=3)


class Cell(NamedTuple):
    """One run but for its family, rate and seed."""

    schedule: str
    kind: str
    place: str  #: "" where there is no noise


class Unit(NamedTuple):
    """What is simulated, and stored, in one go: a family at one rate and seed, all its cells."""

    family: str
    lr: float
    seed: int
    later: bool = False  #: the cells of `LATER`, or of all others

    def __str__(self) -> str:
        later = ", later" if self.later else ""
        return f"{self.family}, lr {self.lr:g}, seed {self.seed}{later}"


def cells(settings: Settings, family: str, later: bool = False) -> dict[Cell, Any]:
    """Return every distinct run of a family, with its rule: of `LATER`, or of all others.

    A schedule that looks at nothing has no run of its own under noise on the seen loss; a
    function without data has none under noise on the data.
    """
    found: dict[Cell, Any] = {}
    noisy = [kind for kind in settings.kinds if kind != "none"]
    for name in (name for name in settings.schedules if (name in LATER) == later):
        found[Cell(name, "none", "")] = SCHEDULES[name]
        for place, kind in itertools.product(settings.places, noisy):
            shared = place == "loss" and name in OPEN_LOOP
            if not shared and not (place == "data" and not has_data(family)):
                found[Cell(name, kind, place)] = SCHEDULES[name]
    for factor, bounds in () if later else itertools.product(settings.factors, SWEEP_BOUNDS):
        rule = Greedy(
            GreedyConfig(**{**asdict(PAPER), "factor": factor}), None, SWEEP_BOUNDS[bounds]
        )
        if rule not in found.values():  # the paper's own factor is there already
            for kind, place in (("none", ""), ("gaussian", "loss")):
                found[Cell(sweep_name(factor, bounds), kind, place)] = rule
    return found


def sweep_name(factor: float, bounds: str) -> str:
    """Return what a run of the factor's sweep is called.

    >>> sweep_name(0.5, "0.1 to 10")
    'greedy F=0.5 in 0.1 to 10'
    """
    if factor == PAPER.factor and bounds == "0.1 to 10":
        return "greedy-paper"
    return f"greedy F={factor:g} in {bounds}"


@cache
def task(family: str) -> simulate.Task:
    """Return the task of a family of the study."""
    name, options = FAMILIES[family]
    return simulate.family(name, **options)


def has_data(family: str) -> bool:
    """Return whether the family has data that could be disturbed."""
    return bool(task(family).data)


def planned(settings: Settings, unit: Unit) -> list[Planned]:
    """Return a unit's runs, all with one seed: paired."""
    family, options = FAMILIES[unit.family]
    found = []
    for cell, rule in cells(settings, unit.family, unit.later).items():
        noise = Noise(cell.kind, cell.place) if cell.place else Noise()
        config = {
            "made_by": "ratewise.simulate",
            "family": family,
            "options": options,
            "batch_size": task(unit.family).batch_size,
            "optimizer": OPTIMIZER,
            "rule": as_data(rule),
            "noise": asdict(noise),
            "lr": unit.lr,
            "seed": unit.seed,
            "steps": settings.steps,
            "chunk": settings.chunk,
        }
        found.append(Planned(config, cell.schedule, rule, unit.lr, unit.lr, unit.seed, noise))
    return found


def units(settings: Settings) -> list[Unit]:
    """Return what is to be simulated; whole passes over the families come first."""
    return [
        Unit(family, lr, seed, later)
        for later, seed, lr, family in itertools.product(
            (False, True), range(settings.seeds), settings.lrs, settings.families
        )
        if cells(settings, family, later)
    ]


def wanted(settings: Settings) -> dict[str, Unit]:
    """Return every unit by the digest of all that determines its runs."""
    return {digest(planned(settings, unit)): unit for unit in units(settings)}


def distinct(settings: Settings) -> int:
    """Return how many distinct trajectories the study has."""
    return sum(len(cells(settings, unit.family, unit.later)) for unit in units(settings))
