"""Many runs, in this process or in several; whoever trains a run also stores it.

So a kill of anything, parent or worker, at any moment, loses only the runs in flight.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ratewise.compare import tasks, training
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Task
from ratewise.pool import drain, in_processes, in_this_process
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
    optimizer: Optimizer
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
        CannotWrite: there is no room in the store for another run.
        InvalidArgument: `jobs` > 1 and a task of the user's own cannot be sent to a process.
    """
    loaded = {name: source.load() for name, source in sources.items()}
    there = store.run_ids()
    todo = [spec for spec in specs if run_id(spec, loaded[spec.task]) not in there]
    if jobs > 1 and len(todo) > 1:
        needed = (dict(sources), store.folder)
        done = in_processes(_make, todo, jobs=jobs, prepare=_prepared, arguments=needed, name=_name)
    else:
        done = in_this_process(_make, todo, (loaded, store), name=_name)
    with training.one_thread():
        drain(done, len(todo), label, show=progress)


def _make(held: tuple[Mapping[str, Task], Store], spec: RunSpec) -> None:
    """Make and store one run."""
    loaded, store = held
    record = training.train(
        loaded[spec.task], spec.optimizer, spec.schedule, spec.lr, spec.seed, role=spec.role
    )
    store.add(record)


def _name(spec: RunSpec) -> str:
    method = f"{spec.task}, {spec.optimizer.name}, {spec.schedule.name}"
    return f"{method}, lr {spec.lr:g}, seed {spec.seed}"


@contextlib.contextmanager
def _prepared(
    sources: dict[str, TaskSource], folder: Path
) -> Iterator[tuple[dict[str, Task], Store]]:
    """Load the tasks and open the store, in a worker."""
    with Store(folder) as store:
        yield {name: source.load() for name, source in sources.items()}, store
