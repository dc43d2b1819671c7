"""Learned schedules on trainings that they were not learned on, beside what people use.

Every judged task (`evidence.judged`) is trained under common schedules at rates over three
decades, under UpdateRatioLR, under the policies, and by optimizers that need no rate
(`evidence.peers`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from evidence import judged, peers
from evidence.judged import Judged
from evidence.simulated import Planned, as_data, digest
from ratewise.learning.tasks import HELD_OUT
from ratewise.rules.greedy_config import GreedyConfig
from ratewise.rules.learned import Policy, load
from ratewise.rules.plateau import PlateauConfig
from ratewise.rules.ratio_law import default_ratio
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import Fixed, Greedy, Learned, Plateau, UpdateRatio

#: What is run at every rate.
RULES: dict[str, Any] = {
    "constant": Fixed("constant"),
    "cosine": Fixed("cosine"),
    "linear": Fixed("linear"),
    "step": Fixed("step"),
    "plateau": Plateau(PlateauConfig(factor=0.5, patience=20)),
    "greedy": Greedy(GreedyConfig(criterion="count")),
}
#: A rate that people take without tuning it.
USUAL = 1e-3


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tasks: tuple[str, ...] = field(default_factory=judged.names)
    rates: int = 7  #: over three decades
    ratios: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)  #: of the tuned UpdateRatioLR
    seeds: tuple[int, ...] = (101, 102)
    policies: tuple[str, ...] = ("default", "seed-0", "seed-2")  #: names, or files
    peers: bool = True


class Unit(NamedTuple):
    """What is trained in one go: a task under all methods of a kind, with all seeds.

    Policies stand apart: others can be judged beside the rules' runs that are there.
    """

    task: str
    part: str = "rules"  #: or "policies", or "peers"

    def __str__(self) -> str:
        return f"{self.task}, {self.part}"


class Method(NamedTuple):
    """One run of a unit but for its seed."""

    name: str  #: what tables call it
    rule: Any
    lr: float
    base: float  #: the record's `base_lr`: the rate, or the ratio of a tuned UpdateRatioLR
    data: dict[str, Any]  #: the rule, as data


def rates(settings: Settings, optimizer: str) -> list[float]:
    """Return the rates of an optimizer's grid, three decades from the lowest.

    >>> rates(Settings(tasks=(), rates=4), "sgd")
    [0.001, 0.01, 0.1, 1.0]
    """
    low = 1e-3 if optimizer == "sgd" else 1e-4
    grid = (low * 10 ** (3 * i / max(1, settings.rates - 1)) for i in range(settings.rates))
    return [float(f"{rate:.6g}") for rate in grid]  # 1e-3 is then the same number in all grids


def methods(settings: Settings, part: str, optimizer: str, steps: int) -> list[Method]:
    """Return what a simulated unit of an optimizer and length is trained under."""
    grid = rates(settings, optimizer)
    middle = grid[len(grid) // 2]
    spread = sorted({grid[0], middle, grid[-1]})
    default = UpdateRatio(UpdateRatioConfig(ratio=default_ratio(steps)))
    if part == "policies":
        return _policies(settings, steps, spread, middle, default)
    found = [_plain(name, rate) for name in RULES for rate in grid]
    if USUAL not in grid:
        found.append(_plain("cosine", USUAL)._replace(name="cosine 1e-3"))
    found += [Method("update-ratio", default, rate, rate, as_data(default)) for rate in spread]
    for ratio in settings.ratios:
        rule = UpdateRatio(UpdateRatioConfig(ratio=ratio))
        found.append(Method("update-ratio tuned", rule, middle, ratio, as_data(rule)))
    return found


def _policies(
    settings: Settings, steps: int, spread: list[float], middle: float, default: UpdateRatio
) -> list[Method]:
    found: list[Method] = []
    for index, policy in enumerate(map(load, settings.policies)):
        anchor = UpdateRatio(policy.config(steps), schedule=policy.schedule)
        if index == 0 and anchor != default:  # else it is there already
            found.append(Method("anchor", anchor, middle, middle, as_data(anchor)))
        found += _learned(policy, [middle] if index else spread)
    return found


def _plain(name: str, rate: float) -> Method:
    return Method(name, RULES[name], rate, rate, as_data(RULES[name]))


def _learned(policy: Policy, grid: list[float]) -> list[Method]:
    rule = Learned(policy)  # one object for all of a unit's runs: they decide together
    data = {"kind": "Learned", "policy": policy.digest}
    return [Method(f"learned {policy.name}", rule, rate, rate, data) for rate in grid]


def every(steps: int) -> int:
    """Return how many steps lie between two that are recorded."""
    return max(1, steps // 100)


def recorded(steps: int) -> list[int]:
    """Return which steps of a run are recorded.

    >>> recorded(250)[-2:]
    [248, 250]
    """
    return sorted({*range(every(steps), steps + 1, every(steps)), steps})


def units(settings: Settings) -> list[Unit]:
    """Return what is to be trained; peers are Adams, and stand beside Adams alone."""
    chosen = [judged.named(name) for name in settings.tasks]
    found = [Unit(one.name, part) for part in ("rules", "policies") for one in chosen]
    beside = [one for one in chosen if settings.peers and one.optimizer in ("adam", "adamw")]
    return found + [Unit(one.name, "peers") for one in beside]


def planned(settings: Settings, unit: Unit) -> list[Planned]:
    """Return a unit's runs, every method with all seeds."""
    one = judged.named(unit.task)
    if unit.part == "peers":
        each = itertools.product(peers.METHODS, settings.seeds)
        return [_of_peer(one, name, seed) for name, seed in each]
    found = methods(settings, unit.part, one.optimizer, one.steps)
    return [
        _of_method(one, method, seed) for method, seed in itertools.product(found, settings.seeds)
    ]


def _of_method(one: Judged, method: Method, seed: int) -> Planned:
    common = _configuration(one, one.optimizer, method.name, seed)
    config = {**common, "rule": method.data, "lr": method.lr}
    return Planned(config, method.name, method.rule, method.lr, method.base, seed)


def _of_peer(one: Judged, name: str, seed: int) -> Planned:
    peer = peers.named(name)
    rule = {"package": peer.package, "schedule": peer.schedule, **peer.settings}
    config = {**_configuration(one, name, name, seed), "made_by": "evidence.peers", "rule": rule}
    return Planned(config, name, None, peer.settings["lr"], peer.settings["lr"], seed)


def _configuration(one: Judged, optimizer: str, method: str, seed: int) -> dict[str, Any]:
    """Return what determines a run, but for its rule and rate."""
    return {
        "made_by": "ratewise.simulate",
        "family": one.model,
        "options": one.options,
        "held_out": HELD_OUT,
        "optimizer": optimizer,
        "method": method,
        "seed": seed,
        "steps": one.steps,
    }


def wanted(settings: Settings) -> dict[str, Unit]:
    """Return every unit by the digest of all that determines its runs."""
    return {digest(planned(settings, unit)): unit for unit in units(settings)}
