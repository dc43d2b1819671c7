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


def differing(names: Iterable[str], one: Results, other: Results) -> list[str]:
    """Return the units whose runs are not the same in both, whatever their seconds."""
    return [name for name in names if _lasting(one, name) != _lasting(other, name)]


def _lasting(found: Results, name: str) -> str:
    return repr([run._replace(seconds=0.0) for run in found.of(name)])  # tells -0 and NaN, too


def hold(found: Results, committed: Results, settings: Settings) -> bool:
    """Say how results differ from the committed ones; return whether they do not."""
    wanted = plan.wanted(settings)
    there = [name for name in wanted if name in found]
    odd = differing(there, found, committed)
    for name in odd:
        print(f"DIFFERENT: {wanted[name]}")
    runs = sum(len(found.of(name)) for name in there)
    count = f"{len(there)} of {len(wanted)} units, {runs:,} runs"
    print(f"{count}: {f'{len(odd)} units DIFFERENT' if odd else 'as committed, to the bit'}")
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
    settings, same, first = study(asked.families.split(",")), True, None
    with tempfile.TemporaryDirectory() as name:
        for where in BACKENDS:
            folder = Path(name) / where.name
            runs = compared(folder / "compared", asked.runs, asked.steps, where)
            first = runs if first is None else first
            equal = runs == first
            print(f"{where.name}: {len(runs)} runs compared, {'equal' if equal else 'DIFFERENT'}")
            same &= equal & hold(studied(folder, settings, where), committed, settings)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
