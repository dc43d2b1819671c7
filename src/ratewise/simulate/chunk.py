"""How many runs are stacked at once: measured, and cached per machine.

Small stacks waste the call, large ones fall out of the cache; where the best size lies depends on
the task, the optimizer and the machine. So a few sizes are timed, a stack of one among them,
which is the ordinary loop, and the fastest is taken. What was found is kept in a file of the
user's cache (`RATEWISE_CACHE`, else `XDG_CACHE_HOME` or ~/.cache, below it ratewise/chunks.json);
where it cannot be written, it is measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ratewise.errors import invalid
from ratewise.files import writing

CANDIDATES = (1, 4, 16, 64, 256, 1024)
#: Seconds that one size is timed for, at least; and after how many in a row that got slower
#: the larger ones are not tried.
_SECONDS, _WORSE = 0.1, 2
#: The smallest stack whose speed is this share of the best is taken: it needs less memory, and a
#: short trial does not tell such speeds apart.
_NEAR = 0.95
#: Optimizer steps of a trial, at most.
MOST_STEPS = 500

#: runs -> a function that makes one optimizer step of so many
Trial = Callable[[int], Callable[[], object]]


def choose(wanted: int | str, runs: int, most: int, key: str, trial: Trial) -> int:
    """Return the number of runs to stack.

    Args:
        wanted: "auto", or the number itself.
        runs: how many there are.
        most: how many the memory's budget allows.
        key: what the answer depends on beside the machine.
        trial: what is timed.

    Raises:
        InvalidArgument: `wanted` is neither, or is beyond the budget.
    """
    if wanted != "auto":
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise invalid("chunk", "'auto' or an integer >= 1", wanted, "pass e.g. 64")
        if min(wanted, runs) > most:
            fix = "pass a smaller chunk, or raise memory="
            raise invalid("chunk", f"at most {most} within the memory's budget", wanted, fix)
        return min(wanted, runs)
    limit = min(runs, most)
    if limit == 1:
        return 1
    speeds = _known(key)
    sizes = [size for size in CANDIDATES if size <= limit]
    sizes += [size for size in CANDIDATES if size > limit and size <= most][:1]
    if not set(sizes) <= set(speeds) and not _settled(speeds, sizes):
        speeds = measure(trial, sizes)
        _keep(key, speeds)
    tried = [size for size in sizes if size in speeds]
    fast = _NEAR * max(speeds[size] for size in tried)
    return min(*(size for size in tried if speeds[size] >= fast), limit)


def measure(trial: Trial, sizes: list[int]) -> dict[int, float]:
    """Return run-steps a second of each size, up to where larger ones have become slower."""
    speeds: dict[int, float] = {}
    worse = 0
    for size in sizes:
        step = trial(size)
        step()  # the first pays for what is set up once
        start, made = time.perf_counter(), 0
        while made < 3 or (time.perf_counter() - start < _SECONDS and made < MOST_STEPS - 1):
            step()
            made += 1
        speeds[size] = size * made / (time.perf_counter() - start)
        worse = worse + 1 if speeds[size] < max(speeds.values()) else 0
        if worse == _WORSE:
            break
    return speeds


def _settled(speeds: dict[int, float], sizes: list[int]) -> bool:
    """Return whether the file's answer would be the same with the sizes that it lacks.

    It lacks them where a measurement had stopped, because larger stacks had become slower.
    """
    known = [size for size in sizes if size in speeds]
    if len(known) <= _WORSE or known != sizes[: len(known)]:
        return False
    return all(speeds[size] < max(speeds.values()) for size in known[-_WORSE:])


def machine() -> str:
    """Return what a measured speed depends on beside the task."""
    parts = [
        platform.machine(),
        platform.processor(),
        os.cpu_count(),
        torch.get_num_threads(),
        torch.__version__,
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return " ".join(str(part) for part in parts)


def file() -> Path:
    """Return where the machine's sizes are kept."""
    own = os.environ.get("RATEWISE_CACHE")
    if own:
        return Path(own) / "chunks.json"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ratewise" / "chunks.json"


def _name(key: str) -> str:
    return hashlib.sha256(f"{machine()}\n{key}".encode()).hexdigest()[:16]


def _known(key: str) -> dict[int, float]:
    try:
        entry = json.loads(file().read_text())[_name(key)]
        return {int(size): float(speed) for size, speed in entry["speeds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _keep(key: str, speeds: dict[int, float]) -> None:
    """Add to the file; a write at the same time may be lost, and is then measured again."""
    path = file()
    with contextlib.suppress(OSError):
        try:
            entries = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            entries = {}
        entries[_name(key)] = {"key": key, "machine": machine(), "speeds": speeds}
        writing.write(path, json.dumps(entries, indent=1))
