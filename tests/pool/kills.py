"""Machines of a small cluster killed at random moments: no run may be lost, none stored twice.

``python -m tests.pool.kills --kills 20 --seed 0`` begins a cluster of three nodes on this machine,
has them make the runs of a small comparison, kills one of them at a random moment, puts another in
its place, and looks at the store; again and again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import ray
from ray.cluster_utils import Cluster
from tests.fuzz import kills as single
from tests.fuzz.harness import Fault

from ratewise.compare import optimizers, processes, schedules
from ratewise.compare.processes import RunSpec, TaskSource
from ratewise.pool import HERE, Where, workers
from ratewise.runs import Store

NODES = 3
STORE_BYTES = 80_000_000
#: Optimizer steps of a run: some tenths of a second.
STEPS = 400
ON_RAY = Where("ray", NODES)


def specs(count: int) -> list[RunSpec]:
    """Return the runs of a round."""
    optimizer = optimizers.named("adamw")
    return [
        RunSpec("tiny", optimizer, schedules.named(single.SCHEDULES[i % 2]), 0.01, i // 2, "grid")
        for i in range(count)
    ]


def work(folder: Path) -> tuple[Any, dict[str, TaskSource]]:
    """Return the work of a comparison whose store is in a folder, and its tasks."""
    sources = {"tiny": TaskSource("tiny", own=replace(single.task(), steps=STEPS))}
    return processes.work(sources, folder), sources


def made(folder: Path, where: Where, count: int, at: Callable[[int], object]) -> None:
    """Make a round's runs; `at` hears how many are over."""
    todo = specs(count)
    Store(folder)
    at(0)
    with workers(work(folder)[0], where, count) as found:
        for number, one in enumerate(found.each(todo), start=1):
            if one.wrong:
                raise Fault(one.wrong)
            at(number)


def stored(folder: Path) -> int:
    """Return how many runs lie in the files of a store, each as often as it is there."""
    rows = duckdb.sql(f"SELECT count(*) FROM read_parquet('{folder}/runs/*.parquet')").fetchall()
    return int(rows[0][0])


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Cluster, list[Any]]]:
    """Begin a cluster: a head that does no work, and nodes of one CPU each; end all of it."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "temp_dir": folder}
        found = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
        try:
            nodes = [node(found) for _ in range(NODES)]
            ray.init(found.address, log_to_driver=False, logging_level="ERROR")
            yield found, nodes
        finally:
            ray.shutdown()
            found.shutdown()


def node(found: Cluster) -> Any:
    """Add a node to a cluster."""
    return found.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


def try_out(
    kills: int, seed: int, *, count: int = 24, say: Callable[[str], object] = print
) -> Counter[str]:
    """Kill a node in each of so many rounds; return the counts.

    Args:
        kills: rounds.
        seed: of the moments.
        count: runs a round.
        say: what to do with a line.

    Raises:
        Fault: a run was lost, stored twice or changed.
    """
    rng, counts = np.random.default_rng(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name, cluster() as (found, nodes):
        root = Path(name)
        made(root / "whole", HERE, count, lambda _: None)
        expected = single.kept(root / "whole")
        for number in range(kills):
            victim, moment = int(rng.integers(NODES)), int(rng.integers(count))
            pause = float(rng.uniform(0.0, 0.3))

            def kill(
                over: int, victim: int = victim, moment: int = moment, pause: float = pause
            ) -> None:
                if over == moment:
                    time.sleep(pause)
                    found.remove_node(nodes[victim], allow_graceful=False)

            folder = root / f"out-{number}"
            made(folder, ON_RAY, count, kill)
            if single.kept(folder) != expected:
                raise Fault(f"round {number}: runs were lost, or have other numbers")
            if stored(folder) != count:
                raise Fault(f"round {number}: {stored(folder)} runs are stored, not {count}")
            nodes[victim] = node(found)
            counts["kills of a node"] += 1
            counts["runs, each stored once with the same numbers"] += count
            say(f"killed after {moment} of {count} runs and {pause:.2f} s")
    return counts


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=24)
    asked = parser.parse_args()
    # nodes begin their workers where this module can be imported, too
    os.environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    sys.modules.setdefault("tests.pool.kills", sys.modules[__name__])
    for what, number in try_out(asked.kills, asked.seed, count=asked.runs).items():
        print(f"{number:6} {what}")
    print("     0 runs lost, 0 stored twice")


if __name__ == "__main__":
    main()
