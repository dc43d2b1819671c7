"""Units of simulated runs: made once, stored as they come, gone on with after a kill."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ratewise.compare import training
from ratewise.pool import drain, in_processes
from ratewise.runs import RunRecord, Store, make_run_id
from ratewise.simulate import Trajectories


class Unit(Hashable, Protocol):
    """What is simulated, and stored, in one go; its text says which."""


_Unit = TypeVar("_Unit", bound=Unit)
#: From a unit to its runs' records; a function of a module, or a partial of one.
Simulate = Callable[[_Unit], list[RunRecord]]


def make(
    wanted: Mapping[_Unit, Sequence[str]],
    simulate: Simulate[_Unit],
    folder: Path,
    *,
    jobs: int,
    label: str,
    progress: bool,
) -> Store:
    """Simulate the units that the store lacks, and return it.

    Args:
        wanted: each unit's run ids.
        simulate: makes a unit's records.
        folder: where the runs are kept; the same call goes on after a kill.
        jobs: processes; each uses one thread.
        label: what the bar counts.
        progress: show a bar.

    Raises:
        RunFailed: units raised an error; all others are finished and kept.
    """
    store = Store(folder)
    todo = [unit for unit, ids in wanted.items() if not store.has_all(ids)]
    work = [(simulate, unit) for unit in todo]
    if jobs > 1 and len(todo) > 1:
        done = in_processes(_work, work, jobs=jobs, prepare=Store, arguments=(folder,))
    else:
        done = _here(store, work)
    drain(done, len(todo), label, show=progress, what="units")
    return store


def _here(store: Store, work: Sequence[Any]) -> Iterator[str | None]:
    with training.one_thread():
        for item in work:
            yield _work(store, item)


def _work(store: Store, item: tuple[Simulate[Any], Any]) -> str | None:
    """Simulate and store one unit; return what went wrong, or None."""
    simulate, unit = item
    try:
        store.add_all(simulate(unit))
    except Exception as error:
        return f"{unit}: {type(error).__name__}: {error}"
    return None


def shared(
    *, task: str, optimizer: str, steps: int, result: Trajectories, started: str
) -> dict[str, Any]:
    """Return what the records of one call of the simulator have in common."""
    return {
        "role": "simulated",
        "task": task,
        "preset": "study",
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


def record(
    config: dict[str, Any],
    result: Trajectories,
    row: int,
    *,
    schedule: str,
    base_lr: float,
    seed: int,
    **about: Any,
) -> RunRecord:
    """Return one run as it is stored.

    The clean loss stands where a validation loss does, that of rows held out where a test loss.

    Args:
        config: everything that determines the run.
        result: of the simulator.
        row: which of its runs.
        schedule: what tables call the method.
        base_lr: the base rate.
        seed: the run's.
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
        run_id=make_run_id(config),
        schedule=schedule,
        base_lr=base_lr,
        seed=seed,
        config=config,
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
