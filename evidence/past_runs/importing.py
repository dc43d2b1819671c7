"""What an import costs: processor time a run, and the most memory, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evidence.claims import Claim, outcome
from evidence.results import Result, Results

#: What was asked for: an import of so many runs of so many steps, in seconds and megabytes.
RUNS, STEPS, SECONDS, MEGABYTES = 1000, 10_000, 60.0, 1000.0
_IMPORT = """
import json, resource, sys, time
from ratewise.curves.importing import import_logs
start = time.process_time()
import_logs(sys.argv[1], sys.argv[2])
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.process_time() - start, most]))
"""


class Unit(NamedTuple):
    """An import of so many runs of so many steps."""

    runs: int
    steps: int

    def __str__(self) -> str:
        return f"import of {self.runs} runs"


def units(runs: int = RUNS, steps: int = STEPS) -> dict[str, Unit]:
    """Return the one unit by a digest of what was asked for."""
    unit = Unit(runs, steps)
    return {hashlib.sha256(json.dumps(unit).encode()).hexdigest()[:16]: unit}


def made(unit: Unit) -> list[Result]:
    """Write logs as CSV, import them in a fresh process, and return seconds and megabytes."""
    rng, steps = np.random.default_rng(0), np.arange(1, unit.steps + 1)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        for run in range(unit.runs):
            loss = 2 + 3 / np.sqrt(steps) + 0.05 * rng.normal(size=unit.steps)
            table = np.c_[steps, 1e-3 * (1 - steps / unit.steps), loss]
            held_out = [f"{x:.6g}" if step % 100 == 0 else "" for step, x in enumerate(loss, 1)]
            lines = [
                f"{int(a)},{b:.6g},{c:.6g},{d}"
                for (a, b, c), d in zip(table, held_out, strict=True)
            ]
            text = "\n".join(["step,lr,train_loss,eval_loss", *lines])
            (logs / f"run-{run}.csv").write_text(f"{text}\n")
        line = [sys.executable, "-c", _IMPORT, str(logs), str(Path(folder) / "store")]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
    seconds, most = json.loads(done.stdout)
    versions = json.dumps({name: metadata.version(name) for name in ("numpy", "duckdb")})
    numbers = [seconds, most]
    return [
        Result("import", "csv", str(unit.runs), 0, "timed", unit.steps, numbers, seconds, versions)
    ]


class Cost(NamedTuple):
    """What an import cost."""

    runs: int
    seconds: float
    megabytes: float


def load(results: Results, wanted: dict[str, Unit]) -> Cost:
    """Return the cost.

    Raises:
        StoreError: it was not measured.
    """
    ((name, unit),) = wanted.items()
    seconds, megabytes = results.of(name)[0].losses
    return Cost(unit.runs, seconds, megabytes)


def claims(cost: Cost) -> list[Claim]:
    """Return the claims on time and memory."""
    name = f"importing {cost.runs:,} runs of {STEPS:,} steps"
    return within(name, (cost.seconds, SECONDS), (cost.megabytes, MEGABYTES))


def within(name: str, seconds: tuple[float, float], megabytes: tuple[float, float]) -> list[Claim]:
    """Return the claims that time and memory, each given with its limit, are within it."""
    (time, longest), (memory, most) = seconds, megabytes
    return [
        Claim(
            f"{name}: seconds of a core", f"<= {longest:g}", f"{time:.1f}", "",
            outcome(time <= longest),
        ),
        Claim(
            f"{name}: most memory, MB", f"<= {most:g}", f"{memory:.0f}", "", outcome(memory <= most)
        ),
    ]  # fmt: skip
