"""What a cluster costs: Ray beside processes, the driver's share of a run, a store of many runs."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple

from evidence import page as pages
from evidence.claims import Claim, outcome
from evidence.how import How
from evidence.speed import made_up
from evidence.speed.kept import plain
from evidence.timing import Spread, interleaved, measured_on
from ratewise.errors import StoreError
from ratewise.files import writing
from ratewise.pool import Where, Work, workers

#: Ray may take so much more than processes, at pieces of a second, once the workers have begun.
MOST_OVERHEAD = 0.05
#: A query over the large store.
QUERY = "SELECT schedule, count(*), median(test_loss[-1]) FROM runs GROUP BY schedule"
QUERY_SECONDS, QUERY_BYTES = 10.0, 2e9
WORKERS = 2


class Size(NamedTuple):
    """How much is measured."""

    pairs: int = 5  #: of Ray and processes
    items: int = 200  #: in each
    seconds: float = 0.05  #: that an item takes
    points: int = 200  #: of a run's history, for the driver
    fed: int = 4_000  #: runs that the driver is fed with
    batches: tuple[int, ...] = (1, 10, 100, 1_000)  #: stored together
    stored: int = 1_000_000  #: runs of the large store
    stored_points: int = 20


SIZES = {"": Size(), "quick": Size(1, 8, 0.01, 20, 40, (1, 10), 2_000)}


def overhead(size: Size) -> dict[str, list[float]]:
    """Return the seconds that the same items take on Ray and in processes, in turn."""
    wait: Work[int] = made_up.waiting(size.seconds)
    items = list(range(size.items))
    with (
        workers(wait, Where("ray", WORKERS), WORKERS) as on_ray,
        workers(wait, Where("processes", WORKERS), WORKERS) as in_processes,
    ):

        def timed(found: Any) -> float:
            start = time.perf_counter()
            for _ in found.each(items):
                pass
            return time.perf_counter() - start

        contenders = {"ray": lambda: timed(on_ray), "processes": lambda: timed(in_processes)}
        return interleaved(contenders, size.pairs)


def shares(size: Size) -> dict[str, Any]:
    """Return what a run is to the driver: bytes, and seconds of processor time by batch."""
    runs = [made_up.record(size.points, number) for number in range(max(size.batches))]
    sent, taken = _through([(run, "") for run in runs])  # as a piece comes back
    stored = {}
    for batch in size.batches:
        with tempfile.TemporaryDirectory() as folder:
            several = min(20, max(2, 2_000 // batch)) * batch
            stored[str(batch)] = sum(made_up.fill(Path(folder), size.points, several, batch))
            stored[str(batch)] /= several
    return {"bytes": sent / len(runs), "taken": taken / len(runs), "stored": stored}


def _through(piece: object) -> tuple[int, float]:
    """Return the bytes that go through a pipe for a piece, and the seconds to take it out."""
    here, there = Pipe(duplex=False)
    with here, there, ThreadPoolExecutor(1) as sender:
        sending = sender.submit(there.send, piece)
        sent = len(here.recv_bytes())
        sending.result()
        sending = sender.submit(there.send, piece)
        start = time.thread_time()
        here.recv()
        taken = time.thread_time() - start
        sending.result()
    return sent, taken


def fed(size: Size) -> dict[str, float]:
    """Return what a driver takes a run, of workers that have it at once; files, too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "out"
        with workers(made_up.work(size.points, folder), Where("ray", WORKERS), size.fed) as found:
            first = next(iter(found.each([-1])))  # a worker has begun
            assert not first.wrong
            start, cpu = time.perf_counter(), time.process_time()
            for _ in found.each(range(size.fed)):
                pass
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        files = len(list((folder / "runs").iterdir()))
    return {"cpu": cpu / size.fed, "wall": wall / size.fed, "batch": size.fed / files}


_ASK = """
import resource, sys, time
from ratewise.runs import Store
start, cpu = time.perf_counter(), time.process_time()
rows = Store(sys.argv[1]).query(sys.argv[2])
print(time.perf_counter() - start, time.process_time() - cpu, rows[0][1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def large(size: Size, folder: Path) -> dict[str, float]:
    """Fill a store, going on where it is filled in part; return the medians of some answers."""
    batch = 1_000
    for _ in made_up.fill(folder, size.stored_points, size.stored, batch, alike=True):
        pass
    line = [sys.executable, "-c", _ASK, str(folder), QUERY]
    answers = []
    for _ in range(size.pairs):
        answer = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
        answers.append([float(word) for word in answer])
    seconds, cpu, runs, memory = map(statistics.median, zip(*answers, strict=True))
    files = list((folder / "runs").iterdir())
    return {
        "runs": runs,
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "seconds": seconds,
        "cpu": cpu,
        "memory": memory,
    }


def run(how: How, size: Size) -> None:
    """Measure, keep the measurements beside the page, and write it from them."""
    kept = how.page.with_suffix(".json")
    if not how.page_only:
        measured = {
            "size": size,
            "large": large(size, how.out / "store"),
            "shares": shares(size),
            "fed": fed(size),
            "overhead": overhead(size),
            "on": measured_on("ray", "torch", "duckdb"),
        }
        writing.write(kept, json.dumps(plain(measured), indent=1) + "\n")
    elif not kept.exists():
        raise StoreError(f"{kept} is missing: measure first, without --page-only")
    pages.write(how.page, text(json.loads(kept.read_text(encoding="utf-8"))))


def text(measured: dict[str, Any]) -> str:
    """Return the page."""
    times = measured["overhead"]
    ratios = [a / b - 1.0 for a, b in zip(times["ray"], times["processes"], strict=True)]
    more, stored = Spread.of(ratios, 1.0), measured["large"]
    each = measured["shares"]["taken"] + min(measured["shares"]["stored"].values())
    claims = [
        Claim(
            "Ray beside processes, two workers, pieces of a second, begun",
            f"at most {MOST_OVERHEAD:.0%} longer",
            f"{more.median:+.1%}, of {len(ratios)} pairs {more.low:+.1%} to {more.high:+.1%}",
            "",
            outcome(more.median <= MOST_OVERHEAD),
        ),
        Claim(
            f"a query over {stored['runs']:,.0f} runs",
            f"at most {QUERY_SECONDS:g} s and {QUERY_BYTES / 1e9:g} GB",
            f"{stored['seconds']:.1f} s, {stored['memory'] / 1e9:.2f} GB",
            "",
            outcome(stored["seconds"] <= QUERY_SECONDS and stored["memory"] <= QUERY_BYTES),
        ),
    ]
    seconds = zip(times["ray"], times["processes"], strict=True)
    pairs = [[n, f"{ray:.2f}", f"{other:.2f}"] for n, (ray, other) in enumerate(seconds, start=1)]
    more_words = {"each": each, "pairs": pairs, "workers": WORKERS}
    return pages.render("speed/cluster_cost.md.j2", claims, **more_words, **measured)
