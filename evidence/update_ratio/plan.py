"""Which ratio, for which length and how many passes: what UpdateRatioLR's law is fitted on.

Every task is trained at several ratios and lengths, on as many rows as make the passes that are
asked for, and under a linear decay at rates over two and a half decades. The law is then chosen by
its mean regret. Nothing that judges is looked at: see `ratewise.learning.tasks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from evidence.run_table import Row
from evidence.simulated import Planned, as_data, digest
from evidence.update_ratio import pairs
from ratewise import simulate
from ratewise.data import sets
from ratewise.data.text import encode, windows
from ratewise.learning.tasks import HELD_OUT, held_apart
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import Fixed, UpdateRatio

_TEACHER = {"data": "teacher", "label_noise": 0.1, "batch_size": 8}
_MLP = {**_TEACHER, "inputs": 32, "width": 32, "depth": 2}
#: name -> (family, its options). Of random teachers and of text there are as many rows as wanted.
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", _MLP),
    "mlp, batch 64": ("mlp", {**_TEACHER, "batch_size": 64}),
    "residual mlp": ("residual-mlp", _TEACHER),
    "lenet": ("lenet", _TEACHER),
    "transformer": ("wide-transformer", {"data": "wikitext", "width": 32, "batch_size": 8}),
    "breast cancer": ("mlp", {"data": "breast-cancer"}),
    "wine": ("mlp", {"data": "wine", "batch_size": 16}),
    "diabetes": ("residual-mlp", {"data": "diabetes"}),
    "housing": ("mlp", {"data": "housing", "depth": 2}),
    "mlp, batch 128": ("mlp", {**_MLP, "batch_size": 128}),
    "mlp, batch 512": ("mlp", {**_MLP, "batch_size": 512}),
    "residual mlp, batch 128": ("residual-mlp", {**_TEACHER, "batch_size": 128}),
    "lenet, batch 128": ("lenet", {**_TEACHER, "batch_size": 128}),
    "transformer, batch 64": (
        "wide-transformer",
        {"data": "wikitext", "width": 32, "batch_size": 64},
    ),
}
#: Data that may choose between laws, but not fit them.
DEVELOP: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("mlp", {"data": "digits", "batch_size": 16}),
    "digits, batch 128": ("mlp", {"data": "digits", "batch_size": 128}),
    "digits lenet": ("lenet", {"data": "digits", "batch_size": 16}),
    "digits lenet, batch 128": ("lenet", {"data": "digits", "batch_size": 128}),
}
#: Fewer rows than that are no data set; more than that need not be held out.
LEAST_ROWS, MOST_HELD_OUT = 96, 1024
#: Seed of the order of a text's rows.
_ORDER = 20231


class Size(NamedTuple):
    """A length, and how often each row is seen in it; 0 is as often as the data's rows say."""

    steps: int
    passes: int


_SHORT = (Size(100, 1), Size(100, 8), Size(400, 1), Size(400, 8))
_MIDDLE = (*_SHORT, Size(2000, 1), Size(2000, 8), Size(2000, 64))
_TABLE = tuple(Size(steps, 0) for steps in (100, 400, 2000))
#: Which of them a task is trained for.
SIZES: dict[str, tuple[Size, ...]] = {
    "mlp": (*_MIDDLE, Size(8000, 1), Size(8000, 8), Size(8000, 64)),
    "mlp, batch 64": (Size(100, 1), Size(400, 1)),
    "residual mlp": (*_MIDDLE, Size(8000, 1)),
    "lenet": (*_SHORT, Size(2000, 1), Size(2000, 64)),
    "transformer": (Size(100, 1), Size(400, 1), Size(2000, 1), Size(2000, 64)),
    **dict.fromkeys(("breast cancer", "wine", "diabetes", "housing"), _TABLE),
    "mlp, batch 128": (*_SHORT, Size(600, 1), Size(2000, 8), Size(2000, 64)),
    "mlp, batch 512": (Size(100, 1), Size(400, 8)),
    "residual mlp, batch 128": (Size(400, 1), Size(400, 8), Size(2000, 8)),
    "lenet, batch 128": (Size(100, 1), Size(400, 8)),
    "transformer, batch 64": (Size(100, 1), Size(100, 8)),
    **dict.fromkeys(("digits", "digits, batch 128"), _TABLE),
    **dict.fromkeys(("digits lenet", "digits lenet, batch 128"), _TABLE[:2]),
    # what is fine-tuned is seen a few times
    **dict.fromkeys(pairs.PAIRS, (Size(100, 4), Size(400, 4))),
}
#: Microseconds of a core that a step of one stacked run takes, by family.
_COST = {
    "mlp": 400,
    "residual-mlp": 350,
    "lenet": 900,
    "gru": 3000,
    "transformer": 3000,
    "wide-transformer": 3000,
}
#: What came before the law, with a cosine: level, power.
BEFORE = (0.02, 0.6)
#: Where online corrections begin: near the right ratio, and far below it.
ONLINE = (0.02, 0.2)
SHARES = (1.0, 0.25)


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tasks: tuple[str, ...] = (*TASKS, *pairs.PAIRS, *DEVELOP)
    optimizers: tuple[str, ...] = ("adamw", "sgd")
    longest: int = 8000
    ratios: tuple[float, ...] = (0.00125, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)
    rates: int = 6  #: of the tuned linear decay, over two and a half decades
    seeds: tuple[int, ...] = (11, 12)
    forms: bool = True  #: whether other forms of the online correction are tried, too


class Unit(NamedTuple):
    """What is simulated in one go: all ratios and rates, all seeds."""

    task: str
    optimizer: str
    steps: int
    wanted: int  #: passes; 0 is what the rows make of it

    @property
    def passes(self) -> float:
        """How often each row is seen."""
        if self.wanted:
            return self.steps * _built(self.task)[1]["batch_size"] / _trained_rows(self)
        made = task(self)
        return self.steps * made.batch_size / (len(made.data_for(0)[0]) - made.held_out)

    def __str__(self) -> str:
        passes = f", {self.wanted} passes" if self.wanted else ""
        return f"{self.task}, {self.optimizer}, {self.steps} steps{passes}"


class Method(NamedTuple):
    """One run of a unit but for its seed."""

    name: str
    rule: Any
    lr: float
    setting: float  #: the ratio, or the rate


@cache
def task(unit: Unit) -> simulate.Task:
    """Return what a unit trains, some of its rows held out."""
    family, options = _built(unit.task)
    if not unit.wanted:
        return held_apart(simulate.family(family, **options))
    trained = _trained_rows(unit)
    held_out = min(MOST_HELD_OUT, math.ceil(trained * HELD_OUT / (1.0 - HELD_OUT)))
    rows = trained + held_out
    if unit.task in pairs.PAIRS:
        made = pairs.task(unit.task, rows)
    elif options["data"] == "teacher":
        made = simulate.family(family, **options, size=rows)
    else:
        made = replace(simulate.family(family, **options), data=_text(rows))
    return replace(made, held_out=held_out)


def _trained_rows(unit: Unit) -> int:
    """Return how many rows make the passes that are wanted."""
    batch = int(_built(unit.task)[1]["batch_size"])
    return max(LEAST_ROWS, math.ceil(unit.steps * batch / unit.wanted))


def _built(name: str) -> tuple[str, dict[str, Any]]:
    """Return a task's family and its options."""
    return pairs.PAIRS[name][:2] if name in pairs.PAIRS else {**TASKS, **DEVELOP}[name]


@cache
def batch(name: str) -> int:
    """Return the rows in a batch of a task."""
    family, options = _built(name)
    return int(options.get("batch_size") or simulate.family(family, **options).batch_size)


@cache
def _text(rows: int) -> tuple[Any, Any]:
    """Return so many rows of WikiText, in a fixed random order, and their successors."""
    import torch

    cut = windows(encode(sets.wikitext(None))[0], 16, rows)
    cut = cut[torch.randperm(len(cut), generator=torch.Generator().manual_seed(_ORDER))]
    return cut[:, :-1].contiguous(), cut[:, 1:].contiguous()


def data_set(name: str) -> str:
    """Return what a task is learned from; random teachers count as one."""
    return str(_built(name)[1]["data"])


def old_ratio(rule: tuple[float, float], steps: int) -> float:
    """Return a ratio that follows from the length alone, within the bounds that there were."""
    return min(0.05, max(1e-4, rule[0] * (300.0 / steps) ** rule[1]))


def methods(settings: Settings, unit: Unit) -> list[Method]:
    """Return what a unit is trained under; large batches have larger rates."""
    optimizer, steps = unit.optimizer, unit.steps
    low = 1e-3 if optimizer == "sgd" else 3e-4
    low *= 10 ** (math.floor(max(0.0, math.log10(batch(unit.task) / 8))) / 2)
    rates = [low * 10 ** (i / 2) for i in range(settings.rates)]
    found = [_ours("update-ratio", ratio) for ratio in settings.ratios]
    found += [Method("linear", Fixed("linear"), rate, rate) for rate in rates]
    found.append(_ours("before", old_ratio(BEFORE, steps), schedule="cosine"))
    for share in SHARES:
        ratio = share * old_ratio(ONLINE, steps)
        found.append(_ours(f"alone, {share:g}", ratio))
        if optimizer == "adamw":
            found.append(_ours(f"online, {share:g}", ratio, online=True))
            found.append(_ours(f"online in 5, {share:g}", ratio, online=True, judge_every=5))
    if optimizer == "adamw":
        found.append(_ours("random sign", old_ratio(ONLINE, steps), online="random"))
    return found


def _ours(name: str, ratio: float, schedule: str = "linear", **options: Any) -> Method:
    rule = UpdateRatio(UpdateRatioConfig(ratio=ratio), schedule=schedule, **options)
    return Method(name, rule, 0.01, ratio)


def units(settings: Settings) -> list[Unit]:
    """Return what is to be simulated, the short runs first."""
    found = [
        Unit(name, optimizer, *size)
        for name in settings.tasks
        for size in SIZES[name]
        for optimizer in settings.optimizers
        if size.steps <= settings.longest
    ]
    return sorted(found, key=lambda unit: unit.steps)


def planned(settings: Settings, unit: Unit) -> list[Planned]:
    """Return a unit's runs: method after method, each with all seeds."""
    family, options = _built(unit.task)
    found = []
    for method in methods(settings, unit):
        for seed in settings.seeds:
            config = {
                "made_by": "ratewise.simulate",
                "task": unit.task,
                "family": family,
                "options": options,
                "passes": unit.wanted,
                "held_out": [HELD_OUT, MOST_HELD_OUT],
                "optimizer": unit.optimizer,
                "rule": as_data(method.rule),
                "lr": method.lr,
                "seed": seed,
                "steps": unit.steps,
            }
            found.append(Planned(config, method.name, method.rule, method.lr, method.setting, seed))
    return found


def wanted(settings: Settings) -> dict[str, Unit]:
    """Return every unit by the digest of all that determines its runs."""
    return {digest(planned(settings, unit)): unit for unit in units(settings)}


def row(settings: Settings, unit: Unit) -> Row:
    """Return what a unit takes."""
    runs = len(methods(settings, unit)) * len(settings.seeds)
    cost = _COST[_built(unit.task)[0]] * max(1.0, batch(unit.task) / 32)
    return Row(runs, unit.steps, runs * unit.steps * cost * 1e-6)


def names(settings: Settings, unit: Unit) -> Sequence[str]:
    """Return the unit's methods, in the order of its runs."""
    return [method.name for method in methods(settings, unit)]
