"""Runs the study of learned factorisation rates: what its results lack, and the page."""

from __future__ import annotations

import json
from functools import partial

from evidence import page as words
from evidence.how import How
from evidence.nmf import estimator, plan, real
from evidence.nmf import page as pages
from evidence.nmf.plan import Settings, Unit
from evidence.nmf.runs import made
from evidence.results import Result, Results
from ratewise.compare import training
from ratewise.errors import MissingData
from ratewise.nmf.learned import load

SIZES = {"": Settings()}


def run(how: How, settings: Settings | None = None) -> None:
    """Make the runs that are missing, and write the page and its figures."""
    settings = settings or Settings()
    results = Results(how.out / "nmf.parquet")
    if not how.page_only:
        _complete(results, settings, how)
    pages.write(results, settings, how.page)


def _complete(results: Results, settings: Settings, how: How) -> None:
    complete = partial(results.complete, where=how.where, progress=how.progress)
    wanted = {
        digest: unit for digest, unit in plan.units(settings).items() if there(unit.group, how.data)
    }
    if how.progress:
        missing: list[Unit] = [unit for digest, unit in wanted.items() if digest not in results]
        header = ["group", "problems", "methods", "runs", "about, on one core"]
        print(words.table(header, plan.table(settings, missing, how.data)))
    complete(wanted, partial(made, settings, how.data), label="methods x groups")
    sets = plan.estimator_units(settings)
    sets = {digest: name for digest, name in sets.items() if there(name, how.data)}
    complete(sets, partial(measured, settings, how.data), label="real sets")


def there(group: str, data: str | None) -> bool:
    """Return whether the data of a group are there."""
    try:
        if group in real.SETS:
            real.rows(group, data)
    except MissingData:
        return False
    return True


def measured(settings: Settings, data: str | None, name: str) -> list[Result]:
    """Return |X - W H|^2 of StochasticNMF's schedules over that of cosine, on a real set."""
    policies = [load(policy) for policy in settings.policies]
    versions, rows = json.dumps(training.versions()), real.matrix(name, data)
    return [
        Result(f"{name}, {mode}", schedule, "", seed, "estimator", 0, [ratio], 0.0, versions)
        for mode, seed, schedule, ratio in estimator.measure(rows, policies, settings.starts)
    ]
