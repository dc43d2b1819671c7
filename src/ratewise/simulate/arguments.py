"""The arguments of `simulate.run`, checked before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ratewise.errors import invalid, wrong_type
from ratewise.rules.checks import check_count
from ratewise.simulate import families, optimizers
from ratewise.simulate.memory import check_budget
from ratewise.simulate.noise import Noise
from ratewise.simulate.rule import Rule, as_rule
from ratewise.simulate.stack import Stack, measured
from ratewise.simulate.task import Task


@dataclass(frozen=True)
class Request:
    """N runs, in full: one entry a run where runs may differ."""

    task: Task
    optimizer: optimizers.Choice
    rules: list[Rule]
    lr: torch.Tensor  #: [N] float64
    noises: list[Noise]
    seeds: list[int]
    steps: int
    every: int
    device: torch.device
    dtype: torch.dtype
    memory: int
    compile: bool

    @property
    def runs(self) -> int:
        """Number of runs, N."""
        return len(self.seeds)

    @property
    def recorded(self) -> list[int]:
        """The steps whose figures are kept, from 1: every `every`-th, and always the last."""
        steps = list(range(self.every, self.steps + 1, self.every))
        return steps if steps and steps[-1] == self.steps else [*steps, self.steps]


def check(
    task: Any,
    optimizer: Any,
    rule: Any,
    *,
    runs: Any,
    steps: Any,
    lr: Any,
    noise: Any,
    seed: Any,
    device: Any,
    dtype: torch.dtype,
    every: Any,
    memory: Any,
    compile: bool,
) -> Request:
    """Return the request, or raise a named error that says what is wrong with it."""
    check_count("runs", runs, 1)
    check_count("steps", steps, 1)
    check_count("every", every, 1)
    if isinstance(task, str):
        task = families.family(task)
    if not isinstance(task, Task):
        fix = "pass a family's name such as 'mlp', or a ratewise.simulate.Task"
        raise wrong_type("task", "a task", task, fix)
    if dtype not in (torch.float32, torch.float64):
        raise invalid("dtype", "torch.float32 or torch.float64", dtype, "pass one of these")
    request = Request(
        task=task,
        optimizer=optimizer,
        rules=[as_rule(one) for one in _each("rule", rule, runs)],
        lr=_rates(lr, runs),
        noises=[_noise(one) for one in _each("noise", noise, runs)],
        seeds=_seeds(seed, runs),
        steps=steps,
        every=every,
        device=_device(device),
        dtype=dtype,
        memory=check_budget(memory),
        compile=bool(compile),
    )
    _try(request)
    return request


def _each(name: str, value: Any, runs: int) -> list[Any]:
    """Return one entry a run of what may be given once for all."""
    if not isinstance(value, list | tuple):
        return [value] * runs
    if len(value) != runs:
        allowed = f"one for all runs or a sequence of {runs}, one a run"
        raise invalid(name, allowed, f"{len(value)} entries", "match runs=")
    return list(value)


def _rates(lr: Any, runs: int) -> torch.Tensor:
    """Return one base rate a run, [runs] in float64."""
    if isinstance(lr, torch.Tensor | np.ndarray):
        lr = lr.tolist()
    several, rates = isinstance(lr, list | tuple), _each("lr", lr, runs)
    for run, rate in enumerate(rates):
        number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
        if not number or not math.isfinite(rate) or rate < 0:
            where = f" (run {run})" if several else ""
            raise invalid("lr", f"a finite number >= 0{where}", rate, "pass e.g. 1e-3")
    return torch.tensor([float(rate) for rate in rates], dtype=torch.float64)


def _noise(value: Any) -> Noise:
    """Return the noise that a value stands for: itself, a kind's name, or None."""
    if value is None:
        return Noise()
    if isinstance(value, str):
        return Noise(value)
    if not isinstance(value, Noise):
        fix = "pass 'gaussian' or ratewise.simulate.Noise('gaussian', 'gradient', 0.5)"
        raise wrong_type("noise", "a noise", value, fix)
    return value


def _seeds(seed: Any, runs: int) -> list[int]:
    """Return one seed a run; those of a single seed s begin at s * 2654435769 mod 2**32.

    torch's generators on the CPU take the lowest 32 bits of a seed and no more. 2**32 over the
    golden ratio keeps the runs of any two s apart there: for s < 1000, a million runs each.
    """
    if isinstance(seed, np.ndarray):
        seed = seed.tolist()
    several = isinstance(seed, Sequence) and not isinstance(seed, str)
    given = _each("seed", list(seed), runs) if several else [seed]
    for one in given:
        whole = isinstance(one, int) and not isinstance(one, bool)
        if not whole or not 0 <= one < 1 << 32:
            raise invalid("seed", "an integer in [0, 2**32)", one, "pass e.g. 0")
    return given if several else [(seed * 2654435769 + run) % (1 << 32) for run in range(runs)]


def _device(device: Any) -> torch.device:
    """Return the device, if it is there."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()  # "meta" is there, and holds nothing
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        allowed = f"one that is there ({', '.join(there)})"
        raise invalid("device", allowed, str(device), "pass device='cpu'") from error
    return found


def _try(request: Request) -> None:
    """Make one run's forward: what is wrong with the task or the optimizer shows here."""
    task, seed = request.task, request.seeds[0]
    data = task.data_for(seed)
    task.check(data)
    for noise in request.noises:
        if noise.place == "data" and noise.kind != "none" and len(data) < 2:
            fix = "put the noise on 'loss' or 'gradient'"
            raise invalid("noise", f"on what {task.name} has", "data", fix)
    stack = Stack(task, request.optimizer, [seed], dtype=request.dtype)
    batch = tuple(
        (part.to(request.dtype) if part.is_floating_point() else part)[: task.batch_size]
        for part in data
    )
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        loss = task.loss(stack.model(*batch[:1]), *batch[1:])
    if not measured(loss):
        got = (
            f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        )
        fix = "return the mean over the batch"
        raise invalid("task.loss", "a floating-point scalar a run", got, fix)
