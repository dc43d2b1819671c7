"""The same runs here, in processes and on Ray: all columns but times have to be equal, to the bit.

``python -m tests.pool.same --runs 200 --families quadratic,mlp`` makes the runs of a comparison,
and of the study of noise for some families at one rate and seed, on all three backends; the
latter are also held against those that are committed. ``--found FILE`` makes no run: it holds the
results of a whole study, wherever it was made, against the committed ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzz.kills import kept

from evidence import results
from evidence.results import Results
from evidence.robustness import plan
from evidence.robustness import run as running
from evidence.robustness.plan import PRESET, Settings
from ratewise.compare import optimizers, processes, schedules, tasks
from ratewise.compare.processes import RunSpec, TaskSource
from ratewise.pool import Where
from ratewise.runs import Store

BACKENDS = (Where("here"), Where("processes", 2), Where("ray", 2))
TASKS = ("digits-mlp", "diabetes-mlp")
COMMITTED = results.FOLDER / "robustness.parquet"


def compared(folder: Path, runs: int, steps: int, where: Where) -> dict[str, Any]:
    """Return the runs of a comparison."""
    adamw, names = optimizers.named("adamw"), ("greedy", "cosine")
    specs = [
        RunSpec(TASKS[i % 2], adamw, schedules.named(names[i // 2 % 2]), 0.01, i // 4, "grid")
        for i in range(runs)
    ]
    sources = {name: TaskSource(name, steps=steps) for name in TASKS if name in tasks.names()}
    processes.execute(specs, sources, Store(folder), where=where)
    return kept(folder)


def study(families: Iterable[str]) -> Settings:
    """Return a part of the study of noise."""
    return Settings(families=tuple(families), lrs=(3.2e-3,), seeds=1)


def studied(folder: Path, settings: Settings, where: Where) -> Results:
    """Return the results of a part of the study of noise."""
    found, wanted = Results(folder / "robustness.parquet"), plan.wanted(settings)
    found.complete(wanted, partial(running.made, settings), where=where, label="units")
    return found


def hold(found: Results, other: Results, settings: Settings) -> bool:
    """Say how results differ from others; return whether they do not.

    All columns but seconds have to be equal. Where other code made the runs that says, and may word
    their settings otherwise.
    """
    wanted = plan.wanted(settings)
    there = [name for name in wanted if name in found]
    runs = otherwise = odd = 0
    for name in there:
        pairs = list(zip(found.of(name), other.of(name), strict=True))
        for one, two in pairs:
            free: dict[str, Any] = {"seconds": 0.0}
            if one.versions != two.versions:
                free |= {"versions": "", "setting": ""}
                otherwise += 1
            # which tells -0 from 0, and NaN is like itself
            if repr(one._replace(**free)) != repr(two._replace(**free)):
                odd += 1
                print(f"DIFFERENT: {wanted[name]}, {one.method}, {one.setting}")
        runs += len(pairs)
    print(f"{len(there)} of {len(wanted)} units, {runs:,} runs: {odd} differ", end=", ")
    print(f"{otherwise:,} were made by other code")
    return not odd


def main() -> int:
    """Print what came of it; return 1 if something differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--families", default="quadratic,rosenbrock,mlp")
    parser.add_argument("--found", type=Path, help="results of the study, made elsewhere")
    asked = parser.parse_args()
    committed = Results(COMMITTED)
    if asked.found is not None:
        return 0 if hold(Results(asked.found), committed, PRESET) else 1
    settings, same = study(asked.families.split(",")), True
    first: tuple[dict[str, Any], Results] | None = None
    with tempfile.TemporaryDirectory() as name:
        for where in BACKENDS:
            folder = Path(name) / where.name
            runs = compared(folder / "compared", asked.runs, asked.steps, where)
            part = studied(folder, settings, where)
            first = first or (runs, part)
            equal = runs == first[0]
            print(f"{where.name}: {len(runs)} runs compared, {'equal' if equal else 'DIFFERENT'}")
            same &= equal & hold(part, first[1], settings) & hold(part, committed, settings)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
