"""Learned schedules on trainings that they were not learned on, beside what people use.

Every judged task (`evidence.judged`) is trained under common schedules at rates over three
decades, under UpdateRatioLR, under the policies, and by optimizers that need no rate
(`evidence.peers`). What follows from the runs is told by `learned_page`.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from evidence import judged, peers
from evidence import simulated as simulated_runs
from evidence.judged import Judged
from ratewise import simulate
from ratewise.compare import training
from ratewise.rules.learned import Policy, load
from ratewise.rules.plateau import PlateauConfig
from ratewise.rules.update_ratio import UpdateRatioConfig, default_ratio
from ratewise.runs import RunRecord, Store, make_run_id
from ratewise.simulate import Fixed, Greedy, Learned, Plateau, UpdateRatio

#: What is run at every rate.
RULES: dict[str, Any] = {
    "constant": Fixed("constant"),
    "cosine": Fixed("cosine"),
    "linear": Fixed("linear"),
    "step": Fixed("step"),
    "plateau": Plateau(PlateauConfig(factor=0.5, patience=20)),
    "greedy": Greedy(),
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
    found += [Method("update-ratio", default, rate, rate, _data(default)) for rate in spread]
    for ratio in settings.ratios:
        rule = UpdateRatio(UpdateRatioConfig(ratio=ratio))
        found.append(Method("update-ratio tuned", rule, middle, ratio, _data(rule)))
    return found


def _policies(
    settings: Settings, steps: int, spread: list[float], middle: float, default: UpdateRatio
) -> list[Method]:
    found: list[Method] = []
    for index, policy in enumerate(map(load, settings.policies)):
        anchor = UpdateRatio(policy.config(steps), schedule=policy.schedule)
        if index == 0 and anchor != default:  # else it is there already
            found.append(Method("anchor", anchor, middle, middle, _data(anchor)))
        found += _learned(policy, [middle] if index else spread)
    return found


def _plain(name: str, rate: float) -> Method:
    return Method(name, RULES[name], rate, rate, _data(RULES[name]))


def _learned(policy: Policy, grid: list[float]) -> list[Method]:
    rule = Learned(policy)  # one object for all of a unit's runs: they decide together
    data = {"kind": "Learned", "policy": policy.digest}
    return [Method(f"learned {policy.name}", rule, rate, rate, data) for rate in grid]


def _data(rule: Any) -> dict[str, Any]:
    return {"kind": type(rule).__name__, **asdict(rule)}


def units(settings: Settings) -> list[Unit]:
    """Return what is to be trained; peers are Adams, and stand beside Adams alone."""
    chosen = [judged.named(name) for name in settings.tasks]
    found = [Unit(one.name, part) for part in ("rules", "policies") for one in chosen]
    beside = [one for one in chosen if settings.peers and one.optimizer in ("adam", "adamw")]
    return found + [Unit(one.name, "peers") for one in beside]


def configuration(one: Judged, optimizer: str, method: str, seed: int) -> dict[str, Any]:
    """Return what determines a run, but for its rule and rate."""
    return {
        "made_by": "ratewise.simulate",
        "family": one.model,
        "options": one.options,
        "held_out": one.task().held_out,
        "optimizer": optimizer,
        "method": method,
        "seed": seed,
        "steps": one.steps,
    }


def _of_method(one: Judged, method: Method, seed: int) -> dict[str, Any]:
    common = configuration(one, one.optimizer, method.name, seed)
    return {**common, "rule": method.data, "lr": method.lr}


def _of_peer(one: Judged, name: str, seed: int) -> dict[str, Any]:
    peer = peers.named(name)
    rule = {"package": peer.package, "schedule": peer.schedule, **peer.settings}
    common = configuration(one, name, name, seed)
    return {**common, "made_by": "evidence.peers", "rule": rule}


def _runs(settings: Settings, part: str, one: Judged) -> list[tuple[Method, int]]:
    planned = methods(settings, part, one.optimizer, one.steps)
    return list(itertools.product(planned, settings.seeds))


def run_ids(settings: Settings, unit: Unit) -> list[str]:
    """Return the ids that the unit's runs will have."""
    one = judged.named(unit.task)
    if unit.part == "peers":
        each = itertools.product(peers.METHODS, settings.seeds)
        return [make_run_id(_of_peer(one, *both)) for both in each]
    return [make_run_id(_of_method(one, *both)) for both in _runs(settings, unit.part, one)]


def records(store: Store, settings: Settings) -> list[RunRecord]:
    """Return the runs of these settings: a store may hold others', of an older policy say."""
    ids = {run_id for unit in units(settings) for run_id in run_ids(settings, unit)}
    return [record for record in store.load() if record.run_id in ids]


def trained(settings: Settings, unit: Unit) -> list[RunRecord]:
    """Train a unit's runs."""
    one = judged.named(unit.task)
    if unit.part == "peers":
        return _peers(settings, one)
    return _simulated(settings, unit.part, one)


def _simulated(settings: Settings, part: str, one: Judged) -> list[RunRecord]:
    started, planned = simulated_runs.now(), _runs(settings, part, one)
    result = simulate.run(
        one.task(),
        one.optimizer,
        [method.rule for method, _ in planned],
        runs=len(planned),
        steps=one.steps,
        lr=[method.lr for method, _ in planned],
        seed=[seed for _, seed in planned],
        chunk=len(planned),
        every=max(1, one.steps // 100),
    )
    about = _about(one, one.optimizer, result, started)
    return [
        simulated_runs.record(
            _of_method(one, method, seed),
            result,
            row,
            schedule=method.name,
            base_lr=method.base,
            seed=seed,
            **about,
        )
        for row, (method, seed) in enumerate(planned)
    ]


def _peers(settings: Settings, one: Judged) -> list[RunRecord]:
    found = []
    for name, seed in itertools.product(peers.METHODS, settings.seeds):
        started, peer = simulated_runs.now(), peers.named(name)
        every = max(1, one.steps // 100)
        result = peers.run(one.task(), name, steps=one.steps, seed=seed, every=every)
        about = _about(one, name, result, started)
        about["versions"] = {**training.versions(), peer.package: metadata.version(peer.package)}
        record = simulated_runs.record(
            _of_peer(one, name, seed),
            result,
            0,
            schedule=name,
            base_lr=peer.settings["lr"],
            seed=seed,
            **about,
        )
        found.append(replace(record, grad_norm=[], update_ratio=[]))  # not measured
    return found


def _about(
    one: Judged, optimizer: str, result: simulate.Trajectories, started: str
) -> dict[str, Any]:
    shared = simulated_runs.shared(
        task=one.name, optimizer=optimizer, steps=one.steps, result=result, started=started
    )
    return {**shared, "preset": one.family}


def make(settings: Settings, folder: Path, *, jobs: int = 1, progress: bool = True) -> Store:
    """Train what the store lacks, and return it.

    Raises:
        MissingExtra: there are to be peers, and their packages are not installed.
        UnknownName, CorruptPolicy: there is no such task, or no such policy.
        RunFailed: units raised an error; all others are finished and kept.
    """
    if settings.peers:
        peers.check()
    return simulated_runs.make(
        {unit: run_ids(settings, unit) for unit in units(settings)},
        partial(trained, settings),
        folder,
        jobs=jobs,
        label="judged tasks",
        progress=progress,
    )


def run(
    out: Path, page: Path, *, settings: Settings | None = None, jobs: int = 1, progress: bool = True
) -> None:
    """Train all and write the page; resumable.

    Args:
        out: folder for the runs.
        page: the Markdown file to write; figures lie beside it.
        settings: the study's size.
        jobs: processes.
        progress: show a bar.
    """
    settings = settings or Settings()
    store = make(settings, out, jobs=jobs, progress=progress)
    from evidence.learned import page as learned_page

    learned_page.write(store, settings, page)
