"""Processes that try cases, and may crash, hang or run out of memory without harm to the others.

The parent hands out one trial at a time, so it always knows what a process was at when it died.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
from tests.fuzz.harness import Trial, Tried, attempt, module

_GRACE = 60.0  # seconds after the deadline in which a process ends itself
_SHOWN = 8000  # characters of what a process wrote before it died
_HUNG = "Timeout ("  # faulthandler's first words when its time is up


@dataclass(frozen=True)
class Limits:
    """What one trial may take.

    Attributes:
        seconds: until it counts as hung.
        memory: bytes that a process may take beyond what it began with, all its trials together.
        trials: of one process, until a fresh one takes its place.
    """

    seconds: float = 60.0
    memory: int = 4 << 30
    trials: int = 1000


def tried(
    trials: Iterable[Trial], *, jobs: int = 1, limits: Limits | None = None
) -> Iterator[Tried]:
    """Yield what each trial came to, as they finish; each is drawn when a process is free.

    Args:
        trials: what to try.
        jobs: processes that try side by side.
        limits: what one trial may take.
    """
    limits = limits or Limits()
    waiting = iter(trials)
    busy: list[Worker] = []
    free: list[Worker] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as base:
        try:
            while True:
                while len(busy) < jobs and (trial := next(waiting, None)) is not None:
                    worker = free.pop() if free else Worker(Path(base), limits)
                    busy.append(worker)
                    worker.begin(trial)
                if not busy:
                    return
                wait([way for worker in busy for way in worker.ways], timeout=1.0)
                for worker in list(busy):
                    if (result := worker.result()) is None:
                        continue
                    busy.remove(worker)
                    if worker.spent:
                        worker.end()
                    else:
                        free.append(worker)
                    yield result
        finally:
            for worker in busy + free:
                worker.end()


class Worker:
    """A process that tries one thing after the other."""

    def __init__(self, base: Path, limits: Limits) -> None:
        self._limits = limits
        self._folder = Path(tempfile.mkdtemp(dir=base))
        self._trial: Trial | None = None
        self._begun = 0.0
        self._count = 0
        self._connection, theirs = _context.Pipe()
        self._process = _context.Process(target=_work, args=(theirs, self._folder, limits))
        self._process.start()
        theirs.close()

    @property
    def ways(self) -> list[Connection | int]:
        """What becomes ready when there is something to hear."""
        return [self._connection, self._process.sentinel]

    @property
    def spent(self) -> bool:
        """Whether a fresh process has to take its place."""
        return self._count >= self._limits.trials or not self._process.is_alive()

    def begin(self, trial: Trial) -> None:
        """Hand out a trial."""
        self._trial, self._begun = trial, time.monotonic()
        self._count += 1
        with contextlib.suppress(BrokenPipeError):  # it died: `result` says how
            self._connection.send(trial)

    def result(self) -> Tried | None:
        """Return what the trial under way came to, or None as long as it goes on."""
        seconds = time.monotonic() - self._begun
        try:
            if self._connection.poll():
                return replace(self._connection.recv(), seconds=seconds)
        except (EOFError, ConnectionResetError):
            self._process.join(_GRACE)
        code = self._process.exitcode
        if code is None and seconds > self._limits.seconds + _GRACE:
            self._process.kill()
            self._process.join()
            return self._found("hang", "its own watchdog could not end it", seconds)
        return None if code is None else self._died(code, seconds)

    def end(self) -> None:
        """End the process, whatever it is at, and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _died(self, code: int, seconds: float) -> Tried:
        wrote = (self._folder / "output").read_text(errors="replace")
        if code == 1 and _HUNG in wrote:
            return self._found("hang", wrote[wrote.rindex(_HUNG) :], seconds)
        kind = f"death by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return self._found(kind, wrote, seconds)

    def _found(self, kind: str, wrote: str, seconds: float) -> Tried:
        # the innermost frame of Python, as faulthandler writes it
        frames = [line.strip() for line in wrote.splitlines() if line.startswith('  File "')]
        place = f" in {Path(frames[0].split(chr(34))[1]).name}" if frames else ""
        return Tried(self._trial, kind, f"{kind}\n{wrote[-_SHOWN:]}", kind + place, seconds)


def prepare(areas: Sequence[str]) -> None:
    """Have the areas imported once, before processes are forked from there."""
    if _METHOD == "forkserver":
        _context.set_forkserver_preload([module(area) for area in areas])


# A fork of a process that has only imported things is quick, and safe where one that has
# trained, with its threads, would not be.
_METHOD = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
_context = get_context(_METHOD)


def _work(connection: Connection, folder: Path, limits: Limits) -> None:
    """Try what comes, until nothing comes any more."""
    _settle(folder, limits)
    with contextlib.suppress(EOFError):
        while True:
            trial = connection.recv()
            os.truncate(folder / "output", 0)
            faulthandler.dump_traceback_later(limits.seconds, exit=True)
            own = Path(tempfile.mkdtemp(dir=folder))
            result = attempt(trial, own)
            faulthandler.cancel_dump_traceback_later()
            shutil.rmtree(own, ignore_errors=True)
            connection.send(result)


def _settle(folder: Path, limits: Limits) -> None:
    """Make a process that ends alone, with little memory, one thread, and a file for its output."""
    torch.set_num_threads(1)
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    faulthandler.enable()
    if sys.platform == "win32":
        return
    import resource

    os.setsid()  # Ctrl-C is for the parent; and what a trial starts ends with its process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if Path("/proc/self/statm").exists():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + limits.memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
