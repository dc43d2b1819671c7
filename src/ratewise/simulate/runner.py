"""Thousands of trainings at once: `ratewise.simulate.run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ratewise.progress import tracked
from ratewise.simulate import arguments, optimizers
from ratewise.simulate import chunk as chunks
from ratewise.simulate import memory as budget
from ratewise.simulate.arguments import Request
from ratewise.simulate.disturb import Disturbance
from ratewise.simulate.noise import Noise
from ratewise.simulate.order import DataOrder
from ratewise.simulate.rule import Mixture, Signals
from ratewise.simulate.stack import Stack
from ratewise.simulate.task import Data, Task
from ratewise.simulate.trajectories import PER_STEP, Trajectories


def run(
    task: Task | str,
    optimizer: optimizers.Choice = "adamw",
    rule: Any = "constant",
    *,
    runs: int,
    steps: int,
    lr: Any,
    noise: Noise | str | list[Noise] | None = None,
    seed: int | list[int] = 0,
    device: Any = "cpu",
    dtype: torch.dtype = torch.float32,
    every: int = 1,
    chunk: int | str = "auto",
    memory: int = budget.DEFAULT_BUDGET,
    compile: bool = False,
    progress: bool = False,
) -> Trajectories:
    """Train one architecture `runs` times at once, and return what every run showed.

    Each run is an ordinary training with its own initial weights, data order, rate, rule and
    noise; the results equal those of ordinary loops up to rounding, whatever is stacked with
    what. Step t (from 1): the loss l[t] and gradient at p[t-1], the optimizer's step at
    lr * scale[t], and then the rule sees l[t] and gives scale[t+1].

    Args:
        task: a family's name (`families.names()`) or a `Task`.
        optimizer: "sgd" (momentum 0.9), "adam", "adamw", ...; a class or a partial of torch.optim
            from the allow-list (`optimizers.names()`).
        rule: "constant", "cosine", "greedy", "greedy-cosine", "plateau", ..., a GreedyConfig, a
            PlateauConfig, an object with `start` and `update`; or a list of these, one a run.
        runs: how many, >= 1.
        steps: optimizer steps of each, >= 1.
        lr: base rate, finite and >= 0; or a sequence, one a run.
        noise: a kind, a `Noise`, or a list, one a run.
        seed: an integer s, run i is then trained from (s * 2654435769 + i) mod 2**32; or a list,
            one a run. Runs with one seed have the same weights, data order and noise: pairs.
            What a model draws while it trains (dropout) follows from seed and chunk.
        device: where the stack lies.
        dtype: torch.float32 or torch.float64.
        every: record every so many steps, the last always.
        chunk: how many are stacked at once; "auto" is measured once a machine and kept.
        memory: bytes that the call may use, results included.
        compile: pass the stacked forward through torch.compile; pays for long runs of one task.
        progress: show how far it is, once 5 seconds have passed.

    Raises:
        RatewiseError: an argument is wrong; nothing has been trained then.

    >>> result = run("quadratic", "sgd", "cosine", runs=3, steps=20, lr=[0.1, 0.03, 0.0])
    >>> (result.final < result.initial).tolist()
    [True, True, False]
    """
    request = arguments.check(
        task,
        optimizer,
        rule,
        runs=runs,
        steps=steps,
        lr=lr,
        noise=noise,
        seed=seed,
        device=device,
        dtype=dtype,
        every=every,
        memory=memory,
        compile=compile,
    )
    parts: list[Trajectories] = []
    with torch.random.fork_rng(devices=_cuda(request)):  # the caller's randomness is theirs
        size = _chunk(request, chunk)
        start = time.perf_counter()
        everything = _everything(request, size, parts)
        for _ in tracked(everything, -(-runs // size) * steps, "steps", show=progress):
            pass
    return Trajectories.joined(parts, size, time.perf_counter() - start)


def _everything(request: Request, size: int, parts: list[Trajectories]) -> Iterator[int]:
    """Train chunk after chunk; yield after every step."""
    for members in budget.spread(request.runs, size):
        training = Training(request, members)
        seed = request.seeds[members.start]
        torch.default_generator.manual_seed(seed)  # of dropout
        for device in _cuda(request):
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        for step in range(1, request.steps + 1):
            training.step()
            yield step
        parts.append(training.finish())
        del training  # before the next is made


def _cuda(request: Request) -> list[torch.device]:
    """Return the device that has a generator of its own, if the runs lie on one."""
    return [request.device] if request.device.type == "cuda" else []


class Training:
    """Some of the runs, stacked; `step` makes one optimizer step of all.

    Args:
        request: what was asked for.
        members: which of its runs.
    """

    def __init__(self, request: Request, members: range) -> None:
        self._request = request
        self._seeds = [request.seeds[i] for i in members]
        self._task, self._device = request.task, request.device
        self.stack = Stack(
            request.task,
            request.optimizer,
            self._seeds,
            device=request.device,
            dtype=request.dtype,
            compile=request.compile,
        )
        self._data, self._own = _data(request, self._seeds)
        rows = self._data[0].shape[1 if self._own else 0] if self._data else 0
        self._size = max(0, rows - request.task.held_out)
        self._held_out = range(self._size, rows)
        batch = request.task.batch_size
        self._order = DataOrder(self._seeds, self._size, batch) if self._size else None
        self._rows = torch.arange(len(self._seeds), device=request.device)[:, None]
        noises = [request.noises[i] for i in members]
        self._noise = Disturbance(noises, self._seeds, request.steps, self.stack.flat.detach())
        self._lr = request.lr[members.start : members.stop].to(request.device)
        zero = torch.zeros_like(self._lr)
        self._rule = Mixture([request.rules[i] for i in members], zero, request.steps)
        self._recorded = request.recorded
        runs, device = len(self._seeds), request.device
        empty = partial(torch.empty, dtype=torch.float64, device=device)
        self._losses = empty(request.steps, runs)
        self._kept = empty(len(self._recorded), len(PER_STEP) - 1, runs)
        self.steps = 0
        self._column = 0
        self._initial = self.clean()

    def step(self) -> None:
        """Make one optimizer step of every run, record it, and let the rules decide."""
        at, noise = self.steps, self._noise
        losses = self.stack.losses(self._batch(at))
        gradient = self.stack.backward(losses)
        loss = losses.detach().double()
        noise.hear(loss)
        noise.gradient(at, gradient)
        lr = self._lr * self._rule.scale
        steer = self._rule.steering(self.steps + 1, self._lr, self.stack.tensors)
        moved = self.stack.step(lr, steer, keep=self._rule.keeps)
        self.steps += 1
        seen = noise.seen(at, loss)
        signals = Signals(self.steps, seen, moved.grad_norm.double(), moved.update_ratio.double())
        self._losses[at] = loss
        if self.steps == self._recorded[self._column]:
            torch.stack((seen, lr, *signals[2:]), out=self._kept[self._column])
            self._column += 1
        self._rule.update(signals)

    def finish(self) -> Trajectories:
        """Return the runs, once all steps are made."""
        losses, recorded = self._losses.T.cpu().numpy(), np.array(self._recorded)
        lost = ~np.isfinite(losses)
        return Trajectories(
            step=recorded,
            loss=np.ascontiguousarray(losses[:, recorded - 1]),
            **dict(zip(PER_STEP[1:], self._kept.permute(1, 2, 0).cpu().numpy(), strict=True)),
            initial=self._initial,
            final=self.clean(),
            held_out=self.held_out(),
            diverged_at=np.where(lost.any(1), lost.argmax(1) + 1, 0),
            seeds=tuple(self._seeds),
            chunk=len(self._seeds),
            seconds=0.0,
        )

    def _batch(self, step: int) -> Data:
        """Return the step's batch, each part [runs, batch_size, ...]."""
        if self._order is None:
            return ()
        inputs, targets = self._noise.batch(step, self._order, self._order.next())
        first, *others = self._data
        return (self._take(first, inputs), *(self._take(part, targets) for part in others))

    def _take(self, part: Tensor, rows: Tensor) -> Tensor:
        rows = rows.to(self._device)
        return part[self._rows, rows] if self._own else part[rows]

    def losses(self, last: int) -> Tensor:
        """Return the batch losses of the last steps, [last, runs]."""
        return self._losses[self.steps - last : self.steps].cpu()

    def clean(self) -> np.ndarray:
        """Return every run's loss on the first rows that it is trained on, [runs]."""
        return self._mean(range(min(self._task.evaluation, self._size)))

    def held_out(self) -> np.ndarray:
        """Return every run's loss on the rows that it is never trained on, [runs]; NaN if none."""
        return self._mean(self._held_out) if self._held_out else np.full(self.stack.runs, np.nan)

    def _mean(self, rows: range) -> np.ndarray:
        if not self._data:
            return self.stack.evaluate(()).double().cpu().numpy()
        size = self._task.batch_size
        total: Any = 0.0
        for start in range(0, len(rows), size):  # in batches: it must not need more memory
            part = torch.tensor(rows[start : start + size]).expand(self.stack.runs, -1)
            batch = tuple(self._take(whole, part) for whole in self._data)
            total = total + part.shape[1] * self.stack.evaluate(batch).double()
        return (total / len(rows)).cpu().numpy()


def _data(request: Request, seeds: list[int]) -> tuple[Data, bool]:
    """Return the data on the device, and whether each run has its own ([runs, size, ...])."""
    task = request.task
    own = callable(task.data)
    if own:
        parts = zip(*(task.data_for(seed) for seed in seeds), strict=True)
        data: Data = tuple(torch.stack(part) for part in parts)
    else:
        data = task.data_for(seeds[0])
    kind = request.dtype
    return tuple(
        part.to(request.device, kind if part.is_floating_point() else part.dtype) for part in data
    ), own


def _chunk(request: Request, wanted: int | str) -> int:
    """Return how many runs are stacked at once."""
    task, steps = request.task, request.steps
    a_run = budget.bytes_a_run(task, request.optimizer, steps=steps, dtype=request.dtype)
    kept = budget.bytes_kept(request.runs, len(request.recorded))
    shared = budget.bytes_shared(task, request.dtype, request.device)
    most = budget.most_runs(request.memory, kept + shared, a_run)

    def trial(size: int) -> Callable[[], object]:
        several = replace(
            request,
            rules=(request.rules * size)[:size],
            lr=torch.zeros(size, dtype=torch.float64),
            noises=(request.noises * size)[:size],
            seeds=[*range(size)],
            steps=chunks.MOST_STEPS,
            every=chunks.MOST_STEPS,
        )
        return Training(several, range(size)).step

    key = " ".join(
        str(part)
        for part in (
            task.name,
            sum(parameter.numel() for parameter in task.model().parameters()),
            task.batch_size,
            optimizers.describe(request.optimizer),
            request.dtype,
            request.device,
            "compiled" if request.compile else "",
        )
    )
    return chunks.choose(wanted, request.runs, most, key, trial)
