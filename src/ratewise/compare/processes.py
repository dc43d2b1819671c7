"""Many runs, in this process or in several; whoever trains a run also stores it.

So a kill of anything, parent or worker, at any moment, loses only the runs in flight.
"""

from __future__ import annotations

import atexit
import os
import pickle
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from ratewise.compare import tasks, training
from ratewise.compare.progress import tracked
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Task
from ratewise.errors import RunFailed, invalid
from ratewise.runs import Store, make_run_id


@dataclass(frozen=True)
class TaskSource:
    """Where a worker gets a task: it loads a named one itself, and is sent one of the user's."""

    name: str
    preset: str = "small"
    data: str | None = None
    steps: int | None = None
    own: Task | None = None

    def load(self) -> Task:
        """Return the task, its length replaced if `steps` says so."""
        task = self.own or tasks.load(self.name, self.preset, self.data)
        return task if self.steps is None else replace(task, steps=self.steps)


@dataclass(frozen=True)
class RunSpec:
    """One run to be made."""

    task: str
    optimizer: str
    schedule: Schedule
    lr: float
    seed: int
    role: str


def run_id(spec: RunSpec, task: Task) -> str:
    """Return the id that the run's record will have."""
    return make_run_id(
        training.configuration(task, spec.optimizer, spec.schedule, spec.lr, spec.seed)
    )


def execute(
    specs: Sequence[RunSpec],
    sources: Mapping[str, TaskSource],
    store: Store,
    *,
    jobs: int = 1,
    label: str = "runs",
    progress: bool = True,
) -> None:
    """Make and store every run that the store lacks.

    Args:
        specs: the runs.
        sources: the tasks that they name.
        store: where they go, and what is there already.
        jobs: processes; 1 works in this one.
        label: what the progress bar calls them.
        progress: whether to show it.

    Raises:
        RunFailed: some runs raised an error; the message names the first ones. All others
            are finished and kept.
        InvalidArgument: `jobs` > 1 and a task of the user's own cannot be sent to a process.
    """
    loaded = {name: source.load() for name, source in sources.items()}
    there = store.run_ids()
    todo = [spec for spec in specs if run_id(spec, loaded[spec.task]) not in there]
    if jobs > 1 and len(todo) > 1:
        done = _in_processes(todo, sources, store.folder, jobs)
    else:
        done = _here(todo, loaded, store)
    failures = [failure for failure in tracked(done, len(todo), label, show=progress) if failure]
    if failures:
        shown = "\n".join(f"  {failure}" for failure in failures[:5])
        raise RunFailed(
            f"{len(failures)} of {len(todo)} runs failed, the others are kept:\n{shown}"
        )


def _make(spec: RunSpec, task: Task, store: Store) -> str | None:
    """Make and store one run; return what went wrong, or None."""
    try:
        record = training.train(
            task, spec.optimizer, spec.schedule, spec.lr, spec.seed, role=spec.role
        )
        store.add(record)
    except Exception as error:
        name = f"{spec.task}, {spec.optimizer}, {spec.schedule.name}, lr {spec.lr:g}"
        return f"{name}, seed {spec.seed}: {type(error).__name__}: {error}"
    return None


def _here(
    specs: Sequence[RunSpec], loaded: Mapping[str, Task], store: Store
) -> Iterator[str | None]:
    with training.one_thread():
        for spec in specs:
            yield _make(spec, loaded[spec.task], store)


def _in_processes(
    specs: Sequence[RunSpec], sources: Mapping[str, TaskSource], folder: Path, jobs: int
) -> Iterator[str | None]:
    try:
        pickle.dumps((dict(sources), list(specs)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        fix = f"the task cannot be sent to another process ({error}): define its functions at the"
        raise invalid(
            "jobs", "1 for this task", jobs, fix + " top of a module, or pass 1"
        ) from error
    with ProcessPoolExecutor(
        min(jobs, len(specs)),
        mp_context=get_context("spawn"),
        initializer=_begin,
        initargs=(dict(sources), folder, os.getpid()),
    ) as pool:
        futures = [pool.submit(_work, spec) for spec in specs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:  # Ctrl-C too: what is finished is stored, the rest is not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_worker: tuple[dict[str, Task], Store] | None = None


def _begin(sources: dict[str, TaskSource], folder: Path, parent: int) -> None:
    """Prepare a worker: one thread, the tasks, the store, and an end when the parent ends."""
    global _worker
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    _worker = ({name: source.load() for name, source in sources.items()}, Store(folder))
    atexit.register(_end)


def _end() -> None:
    """Close the store before the interpreter goes: DuckDB's bindings complain otherwise."""
    global _worker
    if _worker is not None:
        _worker[1].close()
        _worker = None


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(spec: RunSpec) -> str | None:
    if _worker is None:
        raise RuntimeError("a worker was not prepared")
    loaded, store = _worker
    return _make(spec, loaded[spec.task], store)
