"""Machines of a small cluster killed at random moments: no run may be lost, none stored twice.

``python -m tests.pool.kills --kills 20 --seed 0`` begins a cluster of three nodes on this machine,
has them make runs, kills one of them at a random moment, puts another in its place, and looks at
the store; again and again.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster
from tests.compare import records
from tests.fuzz.harness import Fault
from tests.pool import made_up

from ratewise.pool import Where
from ratewise.runs import Store

STORE_BYTES = 80_000_000


@contextlib.contextmanager
def cluster(count: int) -> Iterator[tuple[Cluster, list[Any]]]:
    """Begin a cluster: a head that does no work, and nodes of one CPU each; end all of it."""
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "temp_dir": folder}
        options = {**head, "include_dashboard": False}
        found = begun(partial(Cluster, initialize_head=True, head_node_args=options))
        try:
            nodes = [node(found) for _ in range(count)]
            ray.init(found.address, log_to_driver=False, logging_level="ERROR")
            for module in (made_up, records):
                ray.cloudpickle.register_pickle_by_value(module)
            yield found, nodes
        finally:
            ray.shutdown()
            found.shutdown()


def node(found: Cluster) -> Any:
    """Add a node to a cluster."""
    return begun(partial(found.add_node, num_cpus=1, object_store_memory=STORE_BYTES))


def begun(start: Callable[[], Any]) -> Any:
    """Return what begins of Ray: on a busy machine it gives itself up after 30 seconds."""
    for left in reversed(range(20)):
        try:
            return start()
        except Exception as error:  # of no class of its own
            if "timed out" not in str(error).lower() or not left:
                raise
    return None


def try_out(
    kills: int, seed: int, *, runs: int, nodes: int = 3, say: Callable[[str], object] = print
) -> Counter[str]:
    """Kill a node in each of so many rounds; return the counts.

    Args:
        kills: rounds.
        seed: of the moments.
        runs: of a round.
        nodes: of the cluster.
        say: what to do with a line.

    Raises:
        Fault: a run was lost, stored twice or changed.
    """
    rng, counts = np.random.default_rng(seed), Counter[str]()
    expected = [made_up.record(number) for number in range(runs)]
    with tempfile.TemporaryDirectory() as name, cluster(nodes) as (found, alive):
        for number in range(kills):
            victim, moment = int(rng.integers(nodes)), int(rng.integers(runs))
            pause = float(rng.uniform(0.0, 1.0))

            def kill(
                over: int, victim: int = victim, moment: int = moment, pause: float = pause
            ) -> None:
                if over == moment:
                    time.sleep(pause)  # results that are there meanwhile wait in the object store
                    found.remove_node(alive[victim], allow_graceful=False)

            folder = Path(name) / f"out-{number}"
            made_up.go_on(folder, runs, Where("ray", nodes), kill)
            if sorted(Store(folder).load(), key=lambda run: run.seed) != expected:
                raise Fault(f"round {number}: runs were lost, or have other numbers")
            if made_up.stored(folder) != runs:
                raise Fault(f"round {number}: {made_up.stored(folder)} are stored, not {runs}")
            alive[victim] = node(found)
            counts["kills of a node"] += 1
            counts["runs, each stored once with the same numbers"] += runs
            say(f"killed after {moment} of {runs} runs")
    return counts


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=60, help="of a round")
    parser.add_argument("--nodes", type=int, default=3)
    asked = parser.parse_args()
    counts = try_out(asked.kills, asked.seed, runs=asked.runs, nodes=asked.nodes)
    for what, number in counts.items():
        print(f"{number:6} {what}")
    print("     0 runs lost, 0 stored twice")


if __name__ == "__main__":
    main()
