"""Trains what the study of learned schedules lacks, and writes its page."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

from evidence import judged, peers, simulated
from evidence.how import How
from evidence.learned import page as pages
from evidence.learned.plan import Settings, Unit, planned, run_ids, units
from ratewise.compare import training
from ratewise.runs import RunRecord

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Train what is missing and write the page."""
    settings = settings or Settings()
    if not how.page_only:
        make(settings, how.out, jobs=how.jobs, progress=how.progress)
    pages.write(simulated.stored(how.out), settings, how.page)


def make(settings: Settings, out: Path, *, jobs: int = 1, progress: bool = True) -> None:
    """Train what the store lacks; raises as `run`."""
    if settings.peers:
        peers.check()
    wanted = {unit: run_ids(settings, unit) for unit in units(settings)}
    work = partial(trained, settings)
    simulated.make(wanted, work, out, jobs=jobs, label="judged tasks", progress=progress)


def trained(settings: Settings, unit: Unit) -> list[RunRecord]:
    """Train a unit's runs."""
    one, runs = judged.named(unit.task), planned(settings, unit)
    every = max(1, one.steps // 100)
    if unit.part == "peers":
        return [_peer(one, run, every) for run in runs]
    return simulated.trained(
        one.name,
        one.task(),
        one.optimizer,
        runs,
        steps=one.steps,
        every=every,
        preset=one.family,
    )


def _peer(one: judged.Judged, run: simulated.Planned, every: int) -> RunRecord:
    name, started = run.schedule, simulated.now()
    result = peers.run(one.task(), name, steps=one.steps, seed=run.seed, every=every)
    about = simulated.shared(one.name, name, one.steps, result, started, one.family)
    package = peers.named(name).package
    about["versions"] = {**training.versions(), package: metadata.version(package)}
    record = simulated.record(run, result, 0, about)
    return replace(record, grad_norm=[], update_ratio=[])  # not measured
