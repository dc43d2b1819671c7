"""Which ratio, for which horizon: the default of UpdateRatioLR, fitted on data that may train.

Every task is trained at several ratios and lengths, and under cosine at rates over three decades.
A rule ``level * (300 / total_steps)^power`` is then chosen by its mean regret. Nothing that judges
is looked at: see `ratewise.learning.tasks`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from evidence.simulated import Planned, as_data, digest
from ratewise import simulate
from ratewise.learning.tasks import HELD_OUT, held_apart
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import Fixed, UpdateRatio

_TEACHER = {"data": "teacher"}
_LARGE = {"data": "teacher", "size": 6000}
#: name -> (family, its options). Small sets are learned by heart in a few hundred steps, large
#: ones are seen a few times; both are what users have.
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp, small": ("mlp", {**_TEACHER, "size": 640}),
    "mlp, regression": ("mlp", {**_TEACHER, "size": 640, "classes": None, "label_noise": 0.3}),
    "residual mlp, small": ("residual-mlp", {**_TEACHER, "size": 640}),
    "breast cancer": ("mlp", {"data": "breast-cancer"}),
    "diabetes": ("mlp", {"data": "diabetes"}),
    "housing": ("mlp", {"data": "housing", "depth": 2}),
    "mlp, large": ("mlp", {**_LARGE, "inputs": 32, "width": 64, "depth": 2, "classes": 8}),
    "residual mlp, large": ("residual-mlp", {**_LARGE, "inputs": 32}),
    "lenet, small": ("lenet", {**_TEACHER, "size": 640, "label_noise": 0.1}),
    "lenet, large": ("lenet", _LARGE),
    "vgg, large": ("vgg", {**_LARGE, "label_noise": 0.1}),
    "resnet, large": ("resnet", _LARGE),
    "vit, large": ("vit", _LARGE),
    "gru": ("gru", {"data": "wikitext"}),
    "deep transformer": ("deep-transformer", {"data": "wikitext", "depth": 3}),
    "wide transformer": ("wide-transformer", {"data": "wikitext", "width": 32}),
}


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tasks: tuple[str, ...] = tuple(TASKS)
    optimizers: tuple[str, ...] = ("adamw", "sgd")
    horizons: tuple[int, ...] = (100, 300, 1000, 2000)
    ratios: tuple[float, ...] = (0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
    rates: int = 7  #: of the tuned cosine, over three decades
    seeds: tuple[int, ...] = (11, 12)


class Unit(NamedTuple):
    """What is simulated in one go: all ratios and rates, all seeds."""

    task: str
    optimizer: str
    steps: int

    def __str__(self) -> str:
        return f"{self.task}, {self.optimizer}, {self.steps} steps"


class Method(NamedTuple):
    """One run of a unit but for its seed."""

    name: str
    rule: Any
    lr: float


@cache
def task(name: str) -> simulate.Task:
    """Return a task of the study, a quarter of its rows held out."""
    family, options = TASKS[name]
    return held_apart(simulate.family(family, **options))


def data_set(name: str) -> str:
    """Return what a task is learned from; random teachers count as one."""
    return str(TASKS[name][1]["data"])


def methods(settings: Settings, optimizer: str) -> list[Method]:
    """Return what every unit of an optimizer is trained under."""
    low = 1e-3 if optimizer == "sgd" else 1e-4
    rates = [low * 10 ** (3 * i / max(1, settings.rates - 1)) for i in range(settings.rates)]
    ours = [
        Method("update-ratio", UpdateRatio(UpdateRatioConfig(ratio=ratio)), 0.01)
        for ratio in settings.ratios
    ]
    return ours + [Method("cosine", Fixed("cosine"), rate) for rate in rates]


def units(settings: Settings) -> list[Unit]:
    """Return what is to be simulated, the short runs first."""
    every = itertools.product(settings.horizons, settings.tasks, settings.optimizers)
    return [Unit(name, optimizer, steps) for steps, name, optimizer in every]


def planned(settings: Settings, unit: Unit) -> list[Planned]:
    """Return a unit's runs: the ratios first, then cosine's rates, each with all seeds."""
    family, options = TASKS[unit.task]
    found = []
    for method, seed in itertools.product(methods(settings, unit.optimizer), settings.seeds):
        config = {
            "made_by": "ratewise.simulate",
            "family": family,
            "options": options,
            "held_out": HELD_OUT,
            "optimizer": unit.optimizer,
            "rule": as_data(method.rule),
            "lr": method.lr,
            "seed": seed,
            "steps": unit.steps,
        }
        base = method.rule.config.ratio if method.name == "update-ratio" else method.lr
        found.append(Planned(config, method.name, method.rule, method.lr, base, seed))
    return found


def wanted(settings: Settings) -> dict[str, Unit]:
    """Return every unit by the digest of all that determines its runs."""
    return {digest(planned(settings, unit)): unit for unit in units(settings)}
