"""Optimizers that need no rate, in an ordinary loop over a task of the simulator.

A run has the initial weights, the batches and the evaluation that `simulate.run` gives a run of
its seed: they are pairs. Settings are those that each method's authors recommend; a rate may be
another.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ratewise.errors import MissingExtra, unknown
from ratewise.rules.fixed import fixed_scale
from ratewise.simulate import Task, Trajectories
from ratewise.simulate.order import DataOrder
from ratewise.simulate.task import Data


@dataclass(frozen=True)
class Peer:
    """One method.

    Args:
        package: its distribution; "torch" for the control.
        module: what is imported of it.
        build: from the module, what makes the optimizer of parameters and settings.
        settings: its arguments; "warmup", a share of the run, becomes `warmup_steps`.
        schedule: a name of `ratewise.rules.fixed`.
    """

    package: str
    module: str
    build: Callable[[Any], Callable[..., Optimizer]]
    settings: dict[str, Any] = field(hash=False)
    schedule: str = "cosine"

    def optimizer(self, module: Any, parameters: list[nn.Parameter], steps: int) -> Optimizer:
        """Return the method's optimizer for a run of so many steps."""
        settings = dict(self.settings)
        if "warmup" in settings:
            settings["warmup_steps"] = max(1, round(settings.pop("warmup") * steps))
        return self.build(module)(parameters, **settings)

    def imported(self) -> Any:
        """Return the module.

        Raises:
            MissingExtra: it is not installed.
        """
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            fix = "pip install --group evidence"
            raise MissingExtra(
                f"the peer {self.package} needs {self.module!r}, which is not installed: {fix}"
            ) from error


_PRODIGY = Peer(
    "prodigyopt", "prodigyopt", attrgetter("Prodigy"), {"lr": 1.0, "safeguard_warmup": True}
)
METHODS: dict[str, Peer] = {
    "prodigy": _PRODIGY,
    "prodigy linear": replace(_PRODIGY, schedule="linear"),
    "schedule-free": Peer(
        "schedulefree", "schedulefree", attrgetter("AdamWScheduleFree"),
        {"lr": 0.0025, "warmup": 0.05}, "constant",
    ),
    "adamw 1e-3 linear": Peer("torch", "torch.optim", attrgetter("AdamW"), {"lr": 1e-3}, "linear"),
}  # fmt: skip


def named(method: str) -> Peer:
    """Return a method.

    Raises:
        UnknownName: there is none of that name.
    """
    if method not in METHODS:
        raise unknown("peer", method, METHODS)
    return METHODS[method]


def check(methods: tuple[str, ...] = tuple(METHODS)) -> None:
    """Raise unless what the methods need is installed.

    Raises:
        MissingExtra: a package is absent; the error names the first.
    """
    for method in methods:
        named(method).imported()


def installed() -> bool:
    """Return whether all methods can be run."""
    try:
        check()
    except MissingExtra:
        return False
    return True


def run(
    task: Task,
    method: str,
    *,
    steps: int,
    seed: int,
    every: int = 1,
    lr: float | None = None,
) -> Trajectories:
    """Train once and return the run, as `simulate.run` returns one.

    A run ends at the first loss that is not finite; what would have followed is NaN. The
    gradient's norm and the update's size are not measured: they are NaN.

    Args:
        task: what is trained.
        method: a key of `METHODS`.
        steps: optimizer steps.
        seed: of the initial weights and of the data's order.
        every: record every so many steps, the last always.
        lr: a rate of one's own; None is the method's.

    Raises:
        UnknownName: no such method.
        MissingExtra: its package is not installed.
    """
    peer = named(method)
    if lr is not None:
        peer = replace(peer, settings={**peer.settings, "lr": lr})
    with torch.random.fork_rng(devices=[]):  # the caller's randomness is theirs
        torch.default_generator.manual_seed(seed)
        loop = _Loop(task, peer, peer.imported(), steps, seed)
        torch.default_generator.manual_seed(seed)  # of dropout
        return loop.train(every)


class _Loop:
    """An ordinary training; its weights are drawn from torch's global generator."""

    def __init__(self, task: Task, peer: Peer, module: Any, steps: int, seed: int) -> None:
        self._task, self._steps, self._seed = task, steps, seed
        self._model = task.model()
        self._optimizer = peer.optimizer(module, list(self._model.parameters()), steps)
        scale = partial(fixed_scale, peer.schedule, total_steps=steps)
        self._scheduler = LambdaLR(self._optimizer, scale)
        self._data: Data = task.data_for(seed)
        rows = len(self._data[0])
        self._size = rows - task.held_out
        self._held_out = range(self._size, rows)
        self._order = DataOrder([seed], self._size, task.batch_size)

    def train(self, every: int) -> Trajectories:
        """Make all steps, or those up to the first loss that is not finite."""
        clean = range(min(self._task.evaluation, self._size))
        initial = self._mean(clean)
        losses, rates = np.full((2, self._steps), np.nan)
        self._mode("train")
        diverged, start = 0, time.perf_counter()
        for step in range(self._steps):
            rates[step] = self._optimizer.param_groups[0]["lr"]
            losses[step] = self._step()
            if not np.isfinite(losses[step]):
                diverged = step + 1
                break
        seconds = time.perf_counter() - start
        final = np.nan if diverged else self._mean(clean)
        apart = np.nan if diverged or not self._held_out else self._mean(self._held_out)
        kept = np.unique([*range(every, self._steps + 1, every), self._steps])
        shown = losses[None, kept - 1]
        return Trajectories(
            step=kept,
            loss=shown,
            seen=shown,
            lr=rates[None, kept - 1],
            grad_norm=np.full_like(shown, np.nan),
            update_ratio=np.full_like(shown, np.nan),
            initial=np.array([initial]),
            final=np.array([final]),
            held_out=np.array([apart]),
            diverged_at=np.array([diverged]),
            seeds=(self._seed,),
            chunk=1,
            seconds=seconds,
        )

    def _step(self) -> float:
        """Make one step and return its batch's loss."""
        rows = self._order.next()[0]
        loss = self._loss(tuple(part[rows] for part in self._data))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._scheduler.step()
        return float(loss.detach())

    def _loss(self, batch: Data) -> Tensor:
        return self._task.loss(self._model(batch[0]), *batch[1:])

    def _mean(self, rows: range) -> float:
        """Return the loss on rows, with the weights that the method would give away."""
        size = self._task.batch_size
        total = 0.0
        with torch.no_grad(), self._resting():
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                batch = tuple(x[part.start : part.stop] for x in self._data)
                total += len(part) * float(self._loss(batch))
        return total / len(rows)

    @contextlib.contextmanager
    def _resting(self) -> Iterator[None]:
        """Put model and optimizer into their evaluation modes: some keep averaged weights."""
        self._mode("eval")
        try:
            yield
        finally:
            self._mode("train")

    def _mode(self, name: str) -> None:
        """Call `train` or `eval` where there is one; torch's own optimizers have neither."""
        for one in (self._model, self._optimizer):
            getattr(one, name, lambda: None)()
