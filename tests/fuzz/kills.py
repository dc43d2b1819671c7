"""A small comparison, killed again and again until it is done: no run may be lost.

``python -m tests.fuzz.kills --kills 1000 --seed 0`` prints how often it was killed, where, and
what came of it. A comparison is begun in a folder, killed, begun again with the same command,
killed, until it ends by itself; its store is then compared with that of one that nobody killed.
Every process is a fork of this one, so that nothing is imported twice.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tests.fuzz.harness import Fault
from torch import nn

from ratewise.compare import report as _report  # noqa: F401  (forks need not import it)
from ratewise.compare import sweep, training
from ratewise.compare.task import Task
from ratewise.errors import RatewiseError
from ratewise.files import writing
from ratewise.pool import Where, processes
from ratewise.runs import RunRecord, Store

#: What an operation on files is called when Python is about to do it.
OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir")
SCHEDULES = ["greedy", "cosine"]
#: Exit status of a process that ended with an error that has a name: it says what to do.
REFUSED = 3
#: Columns that differ from one time to the next.
TIMES = ("train_seconds", "eval_seconds", "started_at")
#: No process takes longer unless it hangs.
LONGEST_SECONDS = 300.0


def model() -> nn.Module:
    """Return what is trained."""
    return nn.Linear(3, 1)


def loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return the loss of a batch."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])


@functools.cache
def task() -> Task:
    """Return a task whose runs take milliseconds."""
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    part = (x, x.sum(1, keepdim=True))
    return Task("tiny", model, loss, part, part, part, steps=4, batch_size=8, evaluations=2)


def compare(folder: Path, *, jobs: int, report: bool, where: Where | None = None) -> None:
    """Do what `ratewise.compare.run` does; without its report on request, which takes longest."""
    options: dict[str, Any] = {
        "schedules": SCHEDULES,
        "seeds": 2,
        "tuning_seeds": 1,
        "rates": [0.01, 0.1, 1.0],
    }
    if report:
        sweep.run(task(), **options, jobs=jobs, out=folder, progress=False)
        return
    plan = sweep.planning.make(
        task(),
        ["adamw"],
        options.pop("schedules"),
        **options,
        preset="small",
        data=None,
        steps=None,
    )
    store, where = Store(folder), where or Where(jobs=jobs)
    tuned = sweep.tune(plan, store, where=where, progress=False)
    sweep.judge(plan, tuned, store, where=where, progress=False)


def in_child(work: Callable[[], object], *, killed_after: float | None = None) -> int:
    """Run something in a fork of this process; return its exit status, -9 if it was killed.

    Args:
        work: what to run.
        killed_after: seconds after which the child and its own children are killed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()  # a group of its own: its children are killed with it
            warnings.simplefilter("ignore")
            work()
            status = 0
        except RatewiseError:
            status = REFUSED
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    end = time.monotonic() + LONGEST_SECONDS
    late = None if killed_after is None else time.monotonic() + killed_after
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if late is not None and time.monotonic() >= late:
            late = None
            _kill_group(child)
        if time.monotonic() > end:
            _kill_group(child)
            os.waitpid(child, 0)
            raise Fault(f"a process took more than {LONGEST_SECONDS:g} seconds")
        time.sleep(0.0005)
    _kill_group(child)  # what it left behind: workers of a parent that was killed alone
    return os.waitstatus_to_exitcode(status)


def _kill_group(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def die_before(number: int, folder: Path, note: Path | None = None) -> None:
    """Kill this process, or a fork of it, before its `number`-th operation on files in a folder.

    Args:
        number: counted in each process.
        folder: the operations on files below it count.
        note: a file elsewhere that gets a byte for the death.
    """
    left = number

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in OPERATIONS or not str(arguments[0]).startswith(str(folder)):
            return
        left -= 1
        if left == 0:
            if note is not None:
                _record(note)
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def forked_workers() -> None:
    """Let a comparison's workers be forks, too: a spawned one imports torch for seconds."""
    context = multiprocessing.get_context("fork")
    processes.get_context = lambda _: context  # type: ignore[attr-defined, assignment]


def kept(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the runs of a store without what differs from one time to the next."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a run that is set aside is a run that was lost
        records = Store(folder).load()
    return {record.run_id: _lasting(record) for record in records}


def _lasting(record: RunRecord) -> dict[str, Any]:
    values = dataclasses.asdict(record)
    return {name: repr(value) for name, value in values.items() if name not in TIMES}


def check(folder: Path, expected: dict[str, dict[str, Any]]) -> None:
    """Raise unless a store holds exactly these runs, each once, and nothing that is not whole."""
    found = kept(folder)
    if found != expected:
        lost, more = expected.keys() - found.keys(), found.keys() - expected.keys()
        raise Fault(f"{len(lost)} runs lost, {len(more)} too many, or other numbers in {folder}")
    paths = list((folder / "runs").iterdir())
    if len(paths) != len(expected):
        more = sorted(path.name for path in paths if path.stem not in expected)
        raise Fault(f"{len(paths)} files for {len(expected)} runs in {folder}: {more}")
    left = [path for path in folder.rglob("*") if path.name.startswith(writing.UNFINISHED)]
    if left:
        raise Fault(f"{left[0]} is left")


def survivors(folder: Path) -> set[str]:
    """Return the names of the runs that are there now."""
    return {path.name for path in (folder / "runs").glob("*.parquet")}


class Killing(NamedTuple):
    """One beginning of the comparison, and what stopped it."""

    form: str
    deaths: int  #: processes that were killed
    ended: bool  #: it was done in spite of them


def kill(rng: np.random.Generator, folder: Path, *, jobs: int, report: bool) -> Killing:
    """Begin the comparison in a folder, and kill it somewhere."""
    forms = ["before an operation on files", "at any moment"]
    if jobs > 1:
        forms.append("one worker of several")
    form = forms[int(rng.integers(len(forms)))]
    number, seconds = int(rng.geometric(1 / 40)), float(rng.exponential(0.05))
    note = folder.parent / "deaths"
    note.write_bytes(b"")

    def work() -> None:
        if jobs > 1:
            forked_workers()
        if form == "before an operation on files":
            die_before(number, folder, note)
        elif form == "one worker of several":
            killer = threading.Thread(target=_kill_a_worker, args=(seconds, note), daemon=True)
            killer.start()
        compare(folder, jobs=jobs, report=report)

    status = in_child(work, killed_after=seconds if form == "at any moment" else None)
    if status not in (0, REFUSED, -signal.SIGKILL):
        raise Fault(f"after a kill {form} a comparison ended with status {status}")
    deaths = note.stat().st_size + (form == "at any moment" and status == -signal.SIGKILL)
    return Killing(form, deaths, ended=status == 0)


def _kill_a_worker(seconds: float, note: Path) -> None:
    while not (children := multiprocessing.active_children()):
        time.sleep(0.0005)
    time.sleep(seconds / 4)
    _record(note)
    os.kill(children[-1].pid or 0, signal.SIGKILL)


def _record(note: Path) -> None:
    with note.open("ab") as file:
        file.write(b"x")


def try_out(kills: int, seed: int, *, say: Callable[[str], object] = print) -> Counter[str]:
    """Kill comparisons until `kills` processes have died; return the counts.

    Args:
        kills: how many.
        seed: of the moments.
        say: what to do with a line.

    Raises:
        Fault: a run was lost, made twice or changed, or something unfinished was left.
    """
    torch.set_num_threads(1)
    for module in ("matplotlib.backends.backend_agg", "plotly.subplots", "plotly.graph_objects"):
        importlib.import_module(module)  # once, not in every fork
    for schedule in SCHEDULES:
        training.train(task(), "adamw", schedule, 0.1, 0)  # it imports the most by far
    counts: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if in_child(lambda: compare(root / "whole", jobs=1, report=True)) != 0:
            raise Fault("a comparison fails without being killed")
        expected = kept(root / "whole")
        check(root / "whole", expected)
        while counts["kills"] < kills:
            folder = root / f"out-{counts['comparisons']}"
            jobs = 1 + counts["comparisons"] % 2
            report = counts["comparisons"] % 10 < 2
            ended = False
            while not ended:
                before = survivors(folder)
                killing = kill(rng, folder, jobs=jobs, report=report)
                if lost := before - survivors(folder):
                    raise Fault(f"{len(lost)} finished runs are gone, killed {killing.form}")
                counts["kills"] += killing.deaths
                counts[f"  {killing.form}"] += killing.deaths
                counts[f"  with {jobs} process{'es' * (jobs > 1)}"] += killing.deaths
                counts["comparisons that went on though a worker died"] += bool(
                    killing.ended and killing.deaths
                )
                ended = killing.ended
            check(folder, expected)
            counts["comparisons"] += 1
            counts["runs, each there once with the same numbers"] += len(expected)
            shutil.rmtree(folder)
            if counts["comparisons"] % 10 == 0:
                say(f"{counts['kills']} kills, {counts['comparisons']} comparisons")
    return counts


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    counts = try_out(arguments.kills, arguments.seed)
    for what, count in counts.items():
        print(f"{count:6} {what}")
    print("     0 runs lost, 0 unfinished files left")


if __name__ == "__main__":
    main()
