"""One training run: a task, an optimizer, a schedule, a rate and a seed make a record."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from ratewise import __version__
from ratewise.compare import optimizers, schedules
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Batch, Task
from ratewise.runs import RunRecord, make_run_id

#: Where the test part is looked at: the untrained model, and these shares of the steps.
CHECKPOINTS = (0.0, 0.1, 0.5, 1.0)
#: Points kept of the training history.
HISTORY = 200
_EVALUATION_BATCH = 2048


def configuration(
    task: Task, optimizer: Optimizer, schedule: Schedule, lr: float, seed: int
) -> dict[str, Any]:
    """Return everything that determines a run, as plain data; its digest is the run's id."""
    return {
        "task": task.name,
        "preset": task.preset,
        "steps": task.steps,
        "batch_size": task.batch_size,
        "examples": len(task.train[0]),
        "evaluations": task.evaluations,
        "optimizer": optimizer.name,
        "optimizer_options": optimizer.settings,
        "schedule": schedule.name,
        "schedule_kind": schedule.identity,
        "schedule_options": {
            name: value if isinstance(value, int | float | str | None) else repr(value)
            for name, value in schedule.settings.items()
        },
        "lr": lr,
        "seed": seed,
        "version": __version__,
    }


def train(
    task: Task,
    optimizer: str | Optimizer,
    schedule: str | Schedule,
    lr: float,
    seed: int,
    *,
    role: str = "grid",
) -> RunRecord:
    """Train once and return the record.

    The seed gives the initial weights, the order of the batches and any dropout: runs with the
    same seed are paired, whatever their schedule, optimizer or rate. The caller's random state
    is left as it was.

    Args:
        task: what is trained.
        optimizer: a name of `optimizers.names()`, or an `Optimizer`.
        schedule: a name of `schedules.names()`, or a `Schedule`.
        lr: base rate, or whatever the optimizer has tuned instead.
        seed: any integer >= 0.
        role: "grid" or "judged".
    """
    optimizer, schedule = optimizers.named(optimizer), schedules.named(schedule)
    config = configuration(task, optimizer, schedule, lr, seed)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with _seeded(seed):
        run = _Run(task, optimizer, schedule, lr, seed)
        run.train()
    return RunRecord(
        run_id=make_run_id(config),
        role=role,
        task=task.name,
        preset=task.preset,
        optimizer=optimizer.name,
        schedule=schedule.name,
        base_lr=lr,
        seed=seed,
        steps=task.steps,
        config=config,
        status="finished" if run.diverged_at is None else "diverged",
        diverged_at=run.diverged_at,
        metric_name=task.metric_name if task.metric else "",
        metric_mode=task.metric_mode,
        **run.histories(),
        train_seconds=run.train_seconds,
        eval_seconds=run.eval_seconds,
        started_at=started,
        versions=versions(),
        machine=machine(),
    )


class _Run:
    """The state of one training."""

    def __init__(
        self, task: Task, optimizer: Optimizer, schedule: Schedule, lr: float, seed: int
    ) -> None:
        self.task = task
        self.model = task.model()
        epoch = max(1, len(task.train[0]) // task.batch_size)
        self.optimizer = optimizer.build(self.model, lr, steps_per_epoch=epoch)
        self.driver = schedules.build(schedule, self.optimizer, task.steps)
        self.batches = _batches(task, torch.Generator().manual_seed(seed))
        self.train_loss: list[float] = []
        self.lr: list[float] = []
        self.evaluations: list[tuple[int, float]] = []
        self.tests: list[tuple[int, float, float]] = []
        self.diverged_at: int | None = None
        self.train_seconds = self.eval_seconds = 0.0

    def train(self) -> None:
        steps = self.task.steps
        evaluate_at = _evenly(steps, self.task.evaluations)
        test_at = [round(share * steps) for share in CHECKPOINTS]
        self._evaluate(0, test=True)
        clock = time.process_time()
        for step in range(1, steps + 1):
            batch = next(self.batches)
            loss = optimizers.step(self.optimizer, partial(self.task.loss, self.model, batch))
            self.lr.append(schedules.current_rate(self.optimizer))  # some choose it in the step
            self.train_loss.append(float(loss.detach()))
            if not math.isfinite(self.train_loss[-1]):
                self.diverged_at = step
                break
            self.driver.after_step(loss)
            if step in evaluate_at or step in test_at:
                paused = time.process_time()
                self.train_seconds += paused - clock
                self._evaluate(step, test=step in test_at)
                clock = time.process_time()
                self.eval_seconds += clock - paused
                if step in evaluate_at:
                    self.driver.after_epoch(self.evaluations[-1][1])
        self.train_seconds += time.process_time() - clock
        if self.diverged_at is not None:
            last = self.diverged_at
            self.evaluations += [(s, math.inf) for s in sorted(evaluate_at) if s >= last]
            worst = -math.inf if self.task.metric_mode == "max" else math.inf
            self.tests += [(s, math.inf, worst) for s in test_at if s >= last]

    def _evaluate(self, step: int, test: bool) -> None:
        task, model = self.task, self.model
        training = model.training
        model.eval()
        with torch.no_grad():
            self.evaluations.append((step, _or_inf(_mean(task.loss, model, task.validation))))
            if test:
                metric = _mean(task.metric, model, task.test) if task.metric else math.nan
                self.tests.append((step, _or_inf(_mean(task.loss, model, task.test)), metric))
        model.train(training)

    def histories(self) -> dict[str, Any]:
        kept = sorted(_evenly(len(self.train_loss), HISTORY - 1) | {1})
        eval_step, validation = zip(*self.evaluations, strict=True)
        test_step, test_loss, test_metric = zip(*self.tests, strict=True)
        return {
            "train_step": kept,
            "train_loss": [self.train_loss[step - 1] for step in kept],
            "lr": [self.lr[step - 1] for step in kept],
            "eval_step": list(eval_step),
            "validation_loss": list(validation),
            "test_step": list(test_step),
            "test_loss": list(test_loss),
            "test_metric": list(test_metric),
        }


def _evenly(last: int, count: int) -> set[int]:
    """Return at most `count` steps spread evenly over 1..last, the last one among them.

    >>> sorted(_evenly(10, 4))
    [2, 5, 8, 10]
    """
    return {max(1, round(last * i / count)) for i in range(1, count + 1)}


def _batches(task: Task, generator: torch.Generator) -> Iterator[Batch]:
    """Yield batches without end, a fresh permutation per epoch; a smaller last one is left out."""
    count = len(task.train[0])
    size = min(task.batch_size, count)
    while True:
        for index in torch.randperm(count, generator=generator)[: count - count % size].split(size):
            yield tuple(part[index] for part in task.train)


def _mean(function: Callable[[nn.Module, Batch], Tensor], model: nn.Module, part: Batch) -> float:
    """Return the mean over a part, batch by batch, weighted by the batches' sizes."""
    total, count = 0.0, len(part[0])
    for start in range(0, count, _EVALUATION_BATCH):
        batch = tuple(x[start : start + _EVALUATION_BATCH] for x in part)
        total += float(function(model, batch)) * len(batch[0])
    return total / count


def _or_inf(loss: float) -> float:
    """Return infinity for NaN: the last step may have ruined the weights unnoticed."""
    return math.inf if math.isnan(loss) else loss


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's default generator for the block, and put it back afterwards.

    Modules draw their initial weights and dropout from it; there is no other way in.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run the block on one torch thread: runs are as fast, and repeatable on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    found = {"ratewise": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "transformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine() -> dict[str, Any]:
    """Return the kind of machine, without anything that identifies it."""
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
