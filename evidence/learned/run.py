"""Trains what the study of learned schedules lacks, and writes its page."""

from __future__ import annotations

from functools import partial
from importlib import metadata

from evidence import judged, peers, simulated
from evidence.how import How
from evidence.learned import page as pages
from evidence.learned.kept import marks
from evidence.learned.plan import Settings, Unit, every, planned, wanted
from evidence.results import Result, Results
from ratewise.compare import training
from ratewise.pool import HERE, Where

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Train what is missing and write the page."""
    settings, results = settings or Settings(), Results(how.out / "learned.parquet")
    if not how.page_only:
        make(settings, results, where=how.where, progress=how.progress)
    pages.write(results, settings, how.page)


def make(
    settings: Settings, results: Results, *, where: Where = HERE, progress: bool = True
) -> None:
    """Train what the results lack; raises as `run`."""
    if settings.peers:
        peers.check()
    work = partial(trained, settings)
    results.complete(wanted(settings), work, where=where, label="judged tasks", progress=progress)


def trained(settings: Settings, unit: Unit) -> list[Result]:
    """Train a unit's runs."""
    one, runs = judged.named(unit.task), planned(settings, unit)
    if unit.part == "peers":
        return [_peer(one, run) for run in runs]
    size = {"steps": one.steps, "every": every(one.steps)}
    return simulated.trained(one.name, one.task(), one.optimizer, runs, marks, **size)


def _peer(one: judged.Judged, run: simulated.Planned) -> Result:
    name, package = run.schedule, peers.named(run.schedule).package
    result = peers.run(one.task(), name, steps=one.steps, seed=run.seed, every=every(one.steps))
    versions = {**training.versions(), package: metadata.version(package)}
    return simulated.kept(one.name, [run], result, marks, versions)[0]
