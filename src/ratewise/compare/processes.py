"""Many runs, in this process, in several or on a cluster; a kill loses only those in flight."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ratewise.compare import tasks, training
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Task
from ratewise.pool import HERE, Where, Work, drain, workers
from ratewise.runs import RunRecord, Store, make_run_id


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
    where: Where = HERE,
    label: str = "runs",
    progress: bool = True,
) -> None:
    """Make and store every run that the store lacks.

    Args:
        specs: the runs.
        sources: the tasks that they name.
        store: where they go, and what is there already.
        where: the backend that makes them.
        label: what the progress bar calls them.
        progress: whether to show it.

    Raises:
        RunFailed: some runs raised an error; the message names the first ones. All others
            are finished and kept.
        CannotWrite: there is no room in the store for another run.
        InvalidArgument: a task of the user's own cannot be sent to where it is to run.
        RatewiseError: from `ratewise.pool.workers`.
    """
    loaded = {name: source.load() for name, source in sources.items()}
    there = store.run_ids()
    todo = [spec for spec in specs if run_id(spec, loaded[spec.task]) not in there]
    if where.elsewhere:  # whose machines may lack the data
        sources = {name: TaskSource(name, own=task) for name, task in loaded.items()}
    making = work(sources, store.folder)
    with training.one_thread(), workers(making, where, len(todo)) as found:
        ended = found.each(todo)
        drain(ended, len(todo), lambda: label + found.places(), show=progress)
    store.clean()  # a worker may have been killed as it wrote, and so may the one that replaced it


def work(sources: Mapping[str, TaskSource], folder: Path) -> Work[RunSpec]:
    """Return how runs are made and stored.

    Args:
        sources: their tasks.
        folder: of the store.
    """
    held, keep = partial(_loaded, dict(sources)), partial(_kept, folder)
    return Work(_make, held, keep, _name)


def _make(loaded: Mapping[str, Task], spec: RunSpec) -> RunRecord:
    """Make one run."""
    return training.train(
        loaded[spec.task], spec.optimizer, spec.schedule, spec.lr, spec.seed, role=spec.role
    )


def _name(spec: RunSpec) -> str:
    method = f"{spec.task}, {spec.optimizer.name}, {spec.schedule.name}"
    return f"{method}, lr {spec.lr:g}, seed {spec.seed}"


@contextlib.contextmanager
def _loaded(sources: dict[str, TaskSource]) -> Iterator[dict[str, Task]]:
    """Load the tasks, where they are trained."""
    yield {name: source.load() for name, source in sources.items()}


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[Callable[[Sequence[RunRecord]], object]]:
    """Open the store, where runs are stored: a run that comes alone gets a file of its own."""
    with Store(folder) as store:
        yield lambda runs: store.add(runs[0]) if len(runs) == 1 else store.add_all(runs)
