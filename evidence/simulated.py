"""Units of simulated runs: made once, stored as they come, gone on with after a kill."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ratewise import simulate
from ratewise.compare import training
from ratewise.errors import StoreError
from ratewise.pool import drain, in_processes, in_this_process
from ratewise.runs import RunRecord, Store, make_run_id
from ratewise.simulate import Noise, Task, Trajectories


class Unit(Hashable, Protocol):
    """What is simulated, and stored, in one go; its text says which."""


_Unit = TypeVar("_Unit", bound=Unit)
#: From a unit to its runs' records; a function of a module, or a partial of one.
Work = Callable[[_Unit], list[RunRecord]]


def make(
    wanted: Mapping[_Unit, Sequence[str]],
    work: Work[_Unit],
    folder: Path,
    *,
    jobs: int,
    label: str,
    progress: bool,
) -> Store:
    """Simulate the units that the store lacks, and return it.

    Args:
        wanted: each unit's run ids.
        work: makes a unit's records.
        folder: where the runs are kept; the same call goes on after a kill.
        jobs: processes; each uses one thread.
        label: what the bar counts.
        progress: show a bar.

    Raises:
        RunFailed: units raised an error; all others are finished and kept.
        CannotWrite: there is no room in the store for another unit.
    """
    store = Store(folder)
    todo = [unit for unit, ids in wanted.items() if not store.has_all(ids)]
    items = [(work, unit) for unit in todo]
    if jobs > 1 and len(todo) > 1:
        done = in_processes(_make, items, jobs=jobs, prepare=Store, arguments=(folder,), name=_name)
    else:
        done = in_this_process(_make, items, store, name=_name)
    with training.one_thread():
        drain(done, len(todo), label, show=progress, what="units")
    return store


def _make(store: Store, item: tuple[Work[Any], Any]) -> None:
    """Simulate and store one unit."""
    work, unit = item
    store.add_all(work(unit))


def _name(item: tuple[Work[Any], Any]) -> str:
    return str(item[1])


def stored(folder: Path) -> Store:
    """Return the store of runs that were made.

    Raises:
        StoreError: there is none.
    """
    if not folder.is_dir():
        raise StoreError(
            f"{folder} holds no runs: pass --out, or run the study without --page-only"
        )
    return Store(folder)


def as_data(rule: Any) -> dict[str, Any]:
    """Return a rule of the simulator as a run's configuration holds it."""
    return {"kind": type(rule).__name__, **asdict(rule)}


class Planned(NamedTuple):
    """One run: what is simulated, and how it is stored."""

    config: dict[str, Any]  #: everything that determines it
    schedule: str  #: what tables call the method
    rule: Any
    lr: float
    base_lr: float  #: as it is stored: the rate, or what is tuned instead of it
    seed: int
    noise: Noise = Noise()

    @property
    def run_id(self) -> str:
        """The identity of the run."""
        return make_run_id(self.config)


def trained(
    name: str,
    task: Task,
    optimizer: str,
    planned: Sequence[Planned],
    *,
    steps: int,
    chunk: int | None = None,
    every: int = 1,
    preset: str = "study",
) -> list[RunRecord]:
    """Simulate runs of one task; those of one seed are paired.

    Args:
        name: of the task, as it is stored.
        task: what is trained.
        optimizer: a name that `simulate.run` takes.
        planned: the runs.
        steps: optimizer steps.
        chunk: runs stacked at once; all if None.
        every: record every so many steps, the last always.
        preset: as it is stored.
    """
    started = now()
    noise = [one.noise for one in planned]
    result = simulate.run(
        task,
        optimizer,
        [one.rule for one in planned],
        runs=len(planned),
        steps=steps,
        lr=[one.lr for one in planned],
        noise=noise if any(one != Noise() for one in noise) else None,
        seed=[one.seed for one in planned],
        chunk=chunk or len(planned),
        every=every,
    )
    about = shared(name, optimizer, steps, result, started, preset)
    return [record(one, result, row, about) for row, one in enumerate(planned)]


def shared(
    task: str, optimizer: str, steps: int, result: Trajectories, started: str, preset: str
) -> dict[str, Any]:
    """Return what the records of one call of the simulator have in common."""
    return {
        "role": "simulated",
        "task": task,
        "preset": preset,
        "optimizer": optimizer,
        "steps": steps,
        "started_at": started,
        "versions": training.versions(),
        "machine": training.machine(),
        "train_seconds": result.seconds / result.runs,
        "eval_seconds": 0.0,
    }


def now() -> str:
    """Return the time, as records have it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def record(one: Planned, result: Trajectories, row: int, about: dict[str, Any]) -> RunRecord:
    """Return one run as it is stored.

    The clean loss stands where a validation loss does, that of rows held out where a test loss.

    Args:
        one: the run.
        result: of the simulator.
        row: which of its runs.
        about: what `shared` returned.
    """
    diverged = int(result.diverged_at[row])
    kept = int(np.searchsorted(result.step, diverged, "right")) if diverged else len(result.step)
    final, apart = float(result.final[row]), float(result.held_out[row])
    differs = not np.array_equal(result.seen[row], result.loss[row], equal_nan=True)
    end = int(result.step[-1])
    broken = bool(diverged) or not np.isfinite(final)
    tested = np.isfinite(apart) or (broken and np.isfinite(result.held_out).any())
    return RunRecord(
        run_id=one.run_id,
        schedule=one.schedule,
        base_lr=one.base_lr,
        seed=one.seed,
        config=one.config,
        status="diverged" if broken else "finished",
        diverged_at=diverged or None,
        metric_name="",
        metric_mode="min",
        train_step=result.step[:kept].tolist(),
        train_loss=result.loss[row, :kept].tolist(),
        lr=result.lr[row, :kept].tolist(),
        seen_loss=result.seen[row, :kept].tolist() if differs else [],
        grad_norm=result.grad_norm[row, :kept].tolist(),
        update_ratio=result.update_ratio[row, :kept].tolist(),
        eval_step=[0, end],
        validation_loss=[float(result.initial[row]), final if np.isfinite(final) else np.inf],
        test_step=[end] if tested else [],
        test_loss=[apart if np.isfinite(apart) else np.inf] if tested else [],
        test_metric=[np.nan] if tested else [],
        **about,
    )
