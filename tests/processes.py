"""Processes that need not import torch first: forks of a server that has, where there are such.

Importing torch and what its optimizers import takes a process longer than most of what is to be
seen of it. What runs is what ``python SCRIPT`` or ``python -m MODULE`` would run, as `__main__`,
with nothing of the test's own process in it.
"""

from __future__ import annotations

import os
import runpy
import sys
import warnings
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import NamedTuple

_METHOD = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
_CONTEXT = get_context(_METHOD)
if _METHOD == "forkserver":
    _CONTEXT.set_forkserver_preload(["torch._dynamo", "sklearn.datasets", "pytest", __name__])


class Ended(NamedTuple):
    """What a process leaves behind."""

    status: int
    stdout: str
    stderr: str


class Python:
    """A process that runs a script or, after "-m", a module.

    Args:
        line: as it would follow `python`.
        cwd: its folder.
        logs: the folder for what it prints, one for each process.
        environment: beside the test's own.
    """

    def __init__(self, *line: str, cwd: Path, logs: Path, **environment: str) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._files = logs / "stdout.txt", logs / "stderr.txt"
        arguments = line, cwd, self._files, {**os.environ, **environment}
        self._process = _CONTEXT.Process(target=_run, args=arguments)
        self._process.start()

    def kill(self) -> None:
        """End it as the system does."""
        self._process.kill()

    def end(self, seconds: float = 900.0) -> Ended:
        """Wait for it.

        Raises:
            TimeoutError: it has not ended after so long, and was killed.
        """
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"not over after {seconds:g} s: {self._files[1].read_text()}")
        return Ended(self._process.exitcode, *(file.read_text() for file in self._files))


def _run(
    line: tuple[str, ...], cwd: Path, files: tuple[Path, Path], environment: dict[str, str]
) -> None:
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    warnings.filterwarnings("error", category=DeprecationWarning, module="__main__")
    if line[0] == "-m":
        sys.argv = list(line[1:])
        sys.path[:0] = [str(cwd)]
        runpy.run_module(line[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(line)
        sys.path[:0] = [str(Path(line[0]).parent)]
        runpy.run_path(line[0], run_name="__main__")
