"""The article's claims on GreedyLR, tested: schedules, hypergradients, line search, size, LoRA.

Every method is tuned by the same number of runs (`Settings.rates` values on two seeds, and more
where the best of them lies at an edge) and judged by fresh seeds on the test part. GreedyLR's new
default was chosen by `python -m evidence greedy-defaults`: tasks on data that developed it are
shown apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evidence import code
from evidence.article import tasks as made
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule, named

#: The tasks of the first study, and eight more.
TASKS = (
    "fashion-mlp",
    "fashion-cnn",
    "cifar-cnn",
    "cifar-resnet",
    "wikitext-gru",
    "shakespeare-transformer",
    "polarity-text",
    "polarity-attention",
)
MORE = (
    "faces-mlp",
    "housing-mlp",
    "kjv-transformer",
    "pydoc-gru",
    "bent-mlp",
    "wavy-mlp",
    "mnist1d-mlp",
    "friedman-mlp",
)
#: Data that developed GreedyLR's new default, and data that has judged it once before.
DEVELOPED = ("fashion", "wikitext", "housing")
SEEN = ("cifar", "shakespeare", "polarity", "kjv", "mnist1d", "bent", "wavy")
SIZED = (
    *(f"shakespeare-{size}" for size in made.SIZES),
    *(f"{source}-{size}" for source, widths in made.WIDTHS.items() for size in widths),
)
FINE_TUNED = ("kjv-lora", "kjv-full", "pydoc-lora", "pydoc-full")
SEVEN = ("constant", "linear", "cosine", "polynomial", "step", "exponential", "plateau")
OURS, OLD, FALL = "greedy", "old default", "constant, then falling"
_COUNT = {"criterion": "count", "factor": 0.95, "patience": 10}
#: GreedyLR's new default, its old one, the paper's setting (arXiv 2512.14527), and that of
#: transformers.GreedyLR but for its bounds, which lie above most of these rates: 0.1 and 10 times
#: the initial rate, as in the others. Nothing here follows the package's defaults.
GREEDY = (
    Schedule(
        OURS,
        "greedy",
        {
            "criterion": "significance",
            "factor": 0.9,
            "patience": 0,
            "window": 100,
            "plateau": "neutral",
            "schedule": "stable-decay:0.7",
        },
    ),
    Schedule(OLD, "greedy", {"criterion": "count", "factor": 0.9, "patience": 3, "window": 20}),
    Schedule("paper", "greedy", {**_COUNT, "window": 50}),
    Schedule(
        "transformers",
        "greedy",
        {
            **_COUNT,
            "window": 1,
            "threshold": 1e-6,
            "threshold_mode": "abs",
            "stage": "hold",
            "reset_after": 500,
            "eps_mode": "abs",
            "first": "good",
        },
    ),
)
#: The negative control: the new default's fall on a constant rate.
CONTROL = Schedule(FALL, "stable-decay", {"share": 0.7})
#: An optimizer that chooses its rate itself is left alone.
ALONE = Schedule("none", "none")
#: Method that chooses its rate itself -> the optimizer that schedules of the same direction have.
RIVALS = {
    "hypergradient": "sgd",
    "hypergradient-multiplicative": "sgd",
    "hypergradient-element": "sgd",
    "line-search": "sgd",
    "hypergradient-adam": "adamw",
    "hypergradient-adam-multiplicative": "adamw",
    "line-search-adam": "adamw",
}
#: Lowest of the rates that are tried first, two a decade.
LOW = {"sgd": 1e-2, "adamw": 1e-3, "adagrad": 1e-2, "adafactor": 3.16e-3}
#: The same where models are larger, or know much already; and two rates where they are largest.
LOW_OF_LARGE, TWO_RATES = 3.16e-4, "5M"
#: The parts of the page, in the order in which they are trained.
BEFORE, BEFORE_RIVALS = "schedules on the eight tasks of before", "rivals on those"
TUNING, BY_SIZE, OTHERS = "fine-tuning", "sizes", "Adagrad and Adafactor"
ADDED, ADDED_RIVALS = "schedules on eight more tasks", "rivals on the eight more"
#: Milliseconds of a core that a step takes, evaluations included, with AdamW on a quiet machine.
_COST = {
    "fashion-mlp": 0.7, "fashion-cnn": 2.8, "cifar-cnn": 4.2, "cifar-resnet": 5.2,
    "wikitext-gru": 3.4, "shakespeare-transformer": 3.1, "polarity-text": 1.2,
    "polarity-attention": 4.1, "faces-mlp": 0.5, "housing-mlp": 0.6, "kjv-transformer": 1.7,
    "pydoc-gru": 3.8, "bent-mlp": 0.45, "wavy-mlp": 0.45, "mnist1d-mlp": 0.5, "friedman-mlp": 0.45,
    "10k": 0.7, "100k": 2.0, "1M": 5.0, "5M": 25.0, "shakespeare-1M": 24.0,
    "shakespeare-100k": 4.7, "shakespeare-10k": 2.6, "lora": 4.7, "full": 4.7,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tasks: tuple[str, ...] = TASKS
    more: tuple[str, ...] = MORE
    optimizers: tuple[str, ...] = ("sgd", "adamw")
    others: tuple[str, ...] = ("adagrad", "adafactor")  #: on `tasks` alone
    baselines: tuple[str, ...] = SEVEN
    rivals: tuple[str, ...] = tuple(RIVALS)
    sized: tuple[str, ...] = SIZED
    fine_tuned: tuple[str, ...] = FINE_TUNED
    rates: int = 5
    tuning_seeds: int = 2
    seeds: int = 5
    rival_seeds: int = 3
    steps: int | None = None  #: of every run; the task's own if None
    pretraining: int = made.PRETRAINING
    models: tuple[str, ...] = (*made.SIZES, "10M")  #: on which costs are measured
    rounds: int = 15  #: each method once a round, one after the other
    least: float = 0.15  #: seconds of a method in a round, at least one step


class Unit(NamedTuple):
    """What is trained, and kept, in one go: a task with one optimizer under all its methods."""

    part: str  #: "schedules", "rivals", "sizes", "fine-tuning"
    task: str
    optimizer: str  #: of the rivals, the one that theirs are variants of

    def __str__(self) -> str:
        return f"{self.part}: {self.task}, {self.optimizer}"


def units(settings: Settings) -> dict[str, list[Unit]]:
    """Return the units in the order in which they are trained, by the part of the page."""

    def each(part: str, tasks: Iterable[str], optimizers: Sequence[str]) -> list[Unit]:
        found = [Unit(part, task, optimizer) for task in tasks for optimizer in optimizers]
        return sorted(found, key=lambda unit: seconds(settings, unit))

    first, s = settings.optimizers, settings
    return {
        BEFORE: each("schedules", s.tasks, first),
        BEFORE_RIVALS: each("rivals", s.tasks, first),
        TUNING: each("fine-tuning", s.fine_tuned, ["adamw"]),
        ADDED: each("schedules", s.more, first),
        ADDED_RIVALS: each("rivals", s.more, first),
        OTHERS: each("schedules", s.tasks, s.others),
        BY_SIZE: each("sizes", s.sized, ["adamw"]),
    }


def every(settings: Settings) -> list[Unit]:
    """Return the units of all parts."""
    return [unit for part in units(settings).values() for unit in part]


class Methods(NamedTuple):
    """What a unit's task is trained by."""

    optimizers: list[Optimizer]
    schedules: list[Schedule]
    rates: int
    seeds: int  #: that judge


def methods(settings: Settings, unit: Unit, start: float = 0.1) -> Methods:
    """Return a unit's methods.

    Args:
        settings: the study's.
        unit: which.
        start: where hypergradient descent starts.
    """
    s, low = settings, LOW[unit.optimizer]
    if unit.part == "rivals":
        mine = [rival(name, start) for name in s.rivals if RIVALS[name] == unit.optimizer]
        return Methods(mine, [ALONE], s.rates, s.rival_seeds)
    usual = [named(name) for name in s.baselines]
    if unit.part == "schedules":
        ours = GREEDY if unit.optimizer in s.optimizers else GREEDY[:2]
        schedules = [*ours, CONTROL, *usual]
    else:
        low, schedules = LOW_OF_LARGE, [GREEDY[0], CONTROL, named("cosine"), named("linear")]
        if unit.part == "fine-tuning":
            schedules.insert(1, GREEDY[1])
    two = unit.task.endswith(TWO_RATES)
    optimizer = Optimizer(
        unit.optimizer, unit.optimizer, low=low, decades=0.5 if two else (s.rates - 1) / 2
    )
    return Methods([optimizer], schedules, 2 if two else s.rates, s.seeds)


def rival(name: str, start: float) -> Optimizer:
    """Return a method that chooses the rate itself, with the argument that is tuned of it.

    Hypergradient descent is tuned over its hyper-rate, from the rate that a constant schedule was
    best with: a start that it gets as a gift. The values lie a decade apart in the additive form,
    where the hyper-rate has units, and half of one in the multiplicative form. A line search is
    tuned over the largest rate that it may take.

    Args:
        name: a key of `RIVALS`.
        start: the starting rate of hypergradient descent.
    """
    if name.startswith("line-search"):
        return Optimizer(name, name, low=3.16e-3 if name.endswith("adam") else 3.16e-2, decades=2.0)
    adam, product = "-adam" in name, name.endswith("multiplicative")
    element = name.endswith("element")
    options = {"per": "element" if element else "group", "lr": start}
    if product:
        options["form"] = "multiplicative"
    low = 1e-3 if product else 1e-9 if adam else 1e-4 if element else 1e-6
    kind = "hypergradient-adam" if adam else "hypergradient-sgd"
    return Optimizer(name, kind, options, "hyper_lr", low, decades=2.0 if product else 4.0)


def wanted(settings: Settings, chosen: Iterable[Unit]) -> dict[str, Unit]:
    """Return units by the digest of all that determines their runs, but for the package's code."""
    found = {}
    for unit in chosen:
        optimizers, schedules, rates, seeds = methods(settings, unit)
        key = {
            "unit": unit,
            "optimizers": [[one.settings, one.low, one.decades] for one in optimizers],
            "schedules": [[one.name, one.kind, dict(one.options)] for one in schedules],
            "runs": [rates, settings.tuning_seeds, seeds, settings.steps, settings.pretraining],
            "code": code.digest("evidence.article.tasks"),
        }
        text = json.dumps(key, sort_keys=True)
        found[hashlib.sha256(text.encode()).hexdigest()[:16]] = unit
    return found


def data_set(task: str) -> str:
    """Return what a task is learned from.

    >>> data_set("cifar-resnet")
    'cifar'
    """
    return task.split("-")[0]


def look(task: str) -> str:
    """Return what a task's data had to do with GreedyLR's new default before.

    >>> look("fashion-mlp"), look("cifar-cnn"), look("faces-mlp")
    ('developed it', 'second look', 'first look')
    """
    source = data_set(task)
    if source in DEVELOPED:
        return "developed it"
    return "second look" if source in SEEN else "first look"


def steps_of(settings: Settings, task: str) -> int:
    """Return the optimizer steps of a task's runs."""
    return settings.steps or made.LONGER.get(task, 300)


def trainings(settings: Settings, unit: Unit) -> int:
    """Return how many runs a unit has, with one value more than was asked for."""
    optimizers, schedules, rates, seeds = methods(settings, unit)
    each = (rates + 1) * settings.tuning_seeds + seeds
    return len(optimizers) * len(schedules) * each


def seconds(settings: Settings, unit: Unit) -> float:
    """Return about how many seconds of a core a unit takes."""
    step = _COST.get(unit.task) or _COST[unit.task.split("-")[-1]]
    step *= 1.5 if unit.part == "rivals" else 1.0
    return trainings(settings, unit) * steps_of(settings, unit.task) * step / 1000


def table(settings: Settings, chosen: Iterable[Unit]) -> list[list[str]]:
    """Return a row a unit: trainings, steps, seconds of a core; the last row is the total."""
    rows, runs, total = [], 0, 0.0
    for unit in chosen:
        count, time = trainings(settings, unit), seconds(settings, unit)
        runs, total = runs + count, total + time
        steps, each = f"{steps_of(settings, unit.task):,}", f"{time / count:.2f}"
        rows.append([str(unit), f"{count:,}", steps, each, f"{time:.0f}"])
    return [*rows, ["total", f"{runs:,}", "", "", f"{total:.0f}"]]
