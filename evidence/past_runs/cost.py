"""What a fit costs: seconds and memory on 150 runs, and how a law's sums grow with the steps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from evidence import code
from evidence.claims import Claim, outcome
from evidence.past_runs import importing, plan
from evidence.results import Result, Results
from ratewise.curves import scheduled
from ratewise.curves.laws import LAWS, Run
from ratewise.curves.sums import Grid

#: What was asked for: runs, seconds, megabytes.
ASKED, SECONDS, MEGABYTES = 150, 30.0, 1000.0
#: Steps of the schedules at which sums are timed, each with a point every so many; and how often.
STEPS, EVERY, REPEATS = (1000, 2000, 4000), 8, 3
LITERAL = "a sum over all pairs"
#: An exponent below it is linear, one above it is not.
_LINEAR = 1.5
_FIT = """
import json, resource, sys, time
from evidence.past_runs import plan
from ratewise.curves import fit
curves = [one.curve for one in plan.runs(sys.argv[1] or None)][: int(sys.argv[2])]
start = time.process_time()
law = fit(curves)
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.process_time() - start, most, len(curves)]))
"""


class Unit(NamedTuple):
    """What is timed in one go."""

    kind: str  #: "fit" or "sums"
    size: int  #: runs, or the most steps

    def __str__(self) -> str:
        return f"cost of a {self.kind}, {self.size}"


def units(runs: int = ASKED, steps: tuple[int, ...] = STEPS) -> dict[str, Unit]:
    """Return the units by a digest of what determines them, code included."""
    found = [Unit("fit", runs), Unit("sums", steps[-1])]
    about = [list(steps), EVERY, code.digest(*plan.FITS)]
    return {sha256(json.dumps([unit, about]).encode()).hexdigest()[:16]: unit for unit in found}


def made(data: str | None, steps: tuple[int, ...], unit: Unit) -> list[Result]:
    """Return what is kept: seconds and megabytes of a fit, or seconds of sums at each length."""
    if unit.kind == "fit":
        line = [sys.executable, "-c", _FIT, data or "", str(unit.size)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        numbers = json.loads(done.stdout)
        return [_kept("fit", "functional", str(unit.size), 0, numbers)]
    sums: dict[str, Callable[[Run], object]] = {
        name: lambda run, name=name: LAWS[name].losses(  # type: ignore[misc]
            np.zeros(len(LAWS[name].parameters)), LAWS[name].prepare([run], Grid(1e-5, 10.0))
        )
        for name in LAWS
    }
    sums[LITERAL] = _literal
    return [
        _kept("sums", name, "", steps[-1], [_quickest(each, count) for count in steps])
        for name, each in sums.items()
    ]


def _kept(task: str, method: str, setting: str, steps: int, numbers: list[float]) -> Result:
    return Result(task, method, setting, 0, "timed", steps, numbers, 0.0, "{}")


def _quickest(work: Callable[[Run], object], steps: int) -> float:
    points = np.arange(EVERY, steps + 1, EVERY)
    run, found = Run(scheduled("cosine", 1e-3, steps), points, 0.0), []
    for _ in range(REPEATS):
        start = time.process_time()
        work(run)
        found.append(time.process_time() - start)
    return min(found)


def _literal(run: Run) -> float:
    """Return the functional law's sums as they are written, at c = beta = 1."""
    total, squares, found = np.cumsum(run.rates).tolist(), (run.rates**2).tolist(), 0.0
    for point in run.points.tolist():
        end = total[point - 1]
        found += sum(squares[i] / (1.0 + end - total[i]) for i in range(point))
    return found


class Cost(NamedTuple):
    """What fits cost."""

    runs: int
    seconds: float
    megabytes: float
    exponents: dict[str, float]  #: of the seconds in the steps, by how the sums are made


def load(results: Results, wanted: dict[str, Unit]) -> Cost | None:
    """Return the cost, or None where it was not measured."""
    if not (wanted and all(name in results for name in wanted)):
        return None
    by_kind = {unit.kind: results.of(name) for name, unit in wanted.items()}
    seconds, most, runs = by_kind["fit"][0].losses
    last = by_kind["sums"][0].steps
    exponents = {}
    for row in by_kind["sums"]:
        at = last / 2.0 ** np.arange(len(row.losses))[::-1]
        exponents[row.method] = float(np.polyfit(np.log(at), np.log(row.losses), 1)[0])
    return Cost(int(runs), seconds, most, exponents)


def claims(cost: Cost | None) -> list[Claim]:
    """Return the claims on time, memory and growth."""
    if cost is None:
        return []
    name = f"a fit on {cost.runs} runs"
    return [
        *importing.within(name, (cost.seconds, SECONDS), (cost.megabytes, MEGABYTES)),
        *(
            Claim(
                f"{name} law's sums: exponent of the time in steps and points", "linear",
                f"{value:.2f}", "", outcome(value < _LINEAR),
            )
            for name, value in cost.exponents.items()
            if name != LITERAL
        ),
    ]  # fmt: skip
