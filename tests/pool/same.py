"""The same runs here, in processes and on Ray: all columns but times have to be equal.

``python -m tests.pool.same --runs 200 --families quadratic,mlp`` makes the runs of a comparison,
and of the study of noise for some families at one rate and seed, on all three backends.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.fuzz.kills import kept

from evidence.results import Result, Results
from evidence.robustness import plan
from evidence.robustness import run as running
from evidence.robustness.plan import Settings
from ratewise.compare import optimizers, processes, schedules, tasks
from ratewise.compare.processes import RunSpec, TaskSource
from ratewise.pool import Where
from ratewise.runs import Store

BACKENDS = (Where("here"), Where("processes", 2), Where("ray", 2))
TASKS = ("digits-mlp", "diabetes-mlp")


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


def studied(folder: Path, families: tuple[str, ...], where: Where) -> dict[str, list[Result]]:
    """Return the runs of a part of the study of noise."""
    settings = Settings(families=families, lrs=(3.2e-3,), seeds=1)
    results, wanted = Results(folder / "robustness.parquet"), plan.wanted(settings)
    work = partial(running.made, settings)
    results.complete(wanted, work, where=where, label="units")
    return {name: [run._replace(seconds=0.0) for run in results.of(name)] for name in wanted}


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--families", default="quadratic,rosenbrock,mlp")
    asked = parser.parse_args()
    families = tuple(asked.families.split(","))
    found: list[Any] = []
    with tempfile.TemporaryDirectory() as name:
        for where in BACKENDS:
            folder = Path(name) / where.name
            runs = compared(folder / "compared", asked.runs, asked.steps, where)
            found.append((runs, repr(studied(folder, families, where))))
            print(f"{where.name}: {len(runs)} runs compared, {len(found[-1][1])} characters")
    for where, other in zip(BACKENDS, found, strict=True):
        print(f"{where.name}: {'equal' if other == found[0] else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
