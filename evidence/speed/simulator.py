"""How many optimizer steps a second the simulator makes, beside the ordinary loop.

For each family and N runs: the loop that one writes for one run, and a stack of N, in turn in
this one process (loop, stack, loop, stack, ...), so that a busy moment of the machine hits both;
printed are medians of the pairs' ratios and their 10% to 90% span, and the stack that
`chunk="auto"` takes for N runs. A stack is measured in its steady state, recording included;
setting it up is left out, and stands in a column of its own.
"""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch

from evidence.speed import kept
from evidence.speed import simulator_loops as timed
from evidence.speed.simulator_loops import LR, Case, Loop, Options, Simulated, drawn_once, request
from evidence.speed.simulator_numbers import (
    MLP,
    SMALL,
    TINY,
    Cell,
    Family,
    Grown,
    Machine,
    Report,
    text,
)
from evidence.timing import Growth, interleaved, measured_on
from ratewise import simulate
from ratewise.errors import InvalidArgument
from ratewise.progress import tracked
from ratewise.simulate import families, runner
from ratewise.simulate.task import Task

#: Seconds that one step of a stack may take.
LONGEST = 20.0


class Size(NamedTuple):
    """How thoroughly it is measured."""

    seconds: float = 0.1  #: of each measurement
    repeats: int = 7  #: pairs
    most: int = timed.SIZES[-1]  #: runs
    quick: bool = False  #: a trial of the code


SIZES = {"": Size(), "quick": Size(0.003, 2, 4, True)}


def cases(quick: bool) -> list[Case]:
    """Return what is measured: three perceptrons of given size, the families, a rule."""

    def tiny(width: int) -> Task:
        return families.family(
            "mlp", data="teacher", inputs=16, width=width, classes=4, batch_size=16
        )

    tasks: dict[str, Callable[[], Task]] = {
        TINY: lambda: tiny(16),
        SMALL: lambda: tiny(32),
        MLP: lambda: families.family("mlp", width=32, batch_size=64),
        **{name: partial(families.family, name) for name in families.names()},
    }
    names = [TINY, "quadratic"] if quick else list(tasks)
    found = [Case(replace(tasks[name](), name=name)) for name in names]
    greedy = [case.task for case in found if case.task.name in (TINY, MLP)]
    return found + [Case(replace(task, name=f"{task.name}, greedy"), "greedy") for task in greedy]


def faster(case: Case, options: Options) -> tuple[str, Loop]:
    """Return the model that makes the faster loop: its name, and the loop, warm."""
    loops = {
        name: Loop(case.task, build(), case.rule, LR, options.device)
        for name, build in timed.models(case.task).items()
    }
    bursts = {name: partial(timed.burst, loop, options) for name, loop in loops.items()}
    speeds = interleaved(bursts, 4 if len(loops) > 1 else 1, warm=0)
    best = max(loops, key=lambda name: statistics.median(speeds[name]))
    return best, loops[best]


def measure_family(case: Case, options: Options) -> tuple[Family, list[Cell]]:
    """Return what a family showed: once, and at each number of runs."""
    name, loop = faster(case, options)
    cells: list[Cell] = []
    for runs in (size for size in timed.SIZES if size <= options.most):
        gc.collect()
        cells.append(_cell(case, runs, loop, cells, options))
    cells = with_auto(case, cells, options)
    build = timed.models(case.task)[name]
    fused = Loop(case.task, build(), case.rule, LR, options.device, fused=True)
    recording = Loop(case.task, build(), case.rule, LR, options.device, records=True)
    beside = timed.pairs(loop, fused, options)
    alone = timed.pairs(recording, Simulated(case, 1, options), options)
    traffic, work = timed.demands(case.task)
    return (
        Family(
            name=case.task.name,
            parameters=sum(p.numel() for p in case.task.model().parameters()),
            batch=case.task.batch_size,
            baseline=name,
            loop=statistics.median(rate for rate, _ in beside),
            fused=statistics.median(rate / plain for plain, rate in beside),
            alone=tuple(stack / rate for rate, stack in alone),
            setup=setup(case, options),
            bytes=traffic,
            flops=work,
        ),
        cells,
    )


def _cell(case: Case, runs: int, loop: Loop, before: list[Cell], options: Options) -> Cell:
    """Measure one number of runs, or say why not."""
    try:
        runner._chunk(request(case._replace(task=drawn_once(case.task)), runs, options), runs)
    except InvalidArgument:
        return Cell(case.task.name, runs, why="memory")
    speeds = [cell.speed for cell in before if cell.stacks]
    if speeds and runs / speeds[-1] > LONGEST:
        return Cell(case.task.name, runs, why=f"{runs / speeds[-1]:.0f} s a step")
    found = timed.pairs(loop, Simulated(case, runs, options), options)
    loops, stacks = zip(*found, strict=True)
    return Cell(case.task.name, runs, loops, stacks)


def with_auto(case: Case, cells: list[Cell], options: Options) -> list[Cell]:
    """Return the cells with the stack that `chunk="auto"` takes for so many runs."""
    quick = case._replace(task=drawn_once(case.task))
    chosen = [
        cell._replace(chunk=runner._chunk(request(quick, cell.runs, options), "auto"))
        for cell in reversed(cells)  # what the largest measures, the others find
    ]
    return chosen[::-1]


def setup(case: Case, options: Options) -> float:
    """Return seconds a run before the first step."""
    runs = 2 if options.quick else 32
    asked = request(case, runs, options)
    runner.Training(asked, range(1))
    start = time.perf_counter()
    runner.Training(asked, range(runs))
    return (time.perf_counter() - start) / runs


def growth(case: Case, chunk: int, options: Options) -> list[Grown]:
    """Return how the time of whole runs grows with their steps, and with their number."""
    slow = case.task.name != TINY
    task = replace(case.task, evaluation=max(1, case.task.batch_size))
    chunk, short, some = min(chunk, 128), 5 if slow else 50, min(chunk, 32 if slow else 128)
    lengths: tuple[int, ...] = (50, 100, 200, 400)
    counts = tuple(128 << i for i in range(6))
    if options.quick:
        lengths, counts, short, chunk, some = (2, 4, 8), (4, 8, 16), 2, 4, 4

    def seconds(runs: int, steps: int) -> float:
        return simulate.run(
            task, runs=runs, steps=steps, lr=LR, chunk=chunk, device=options.device
        ).seconds

    over_steps = tuple(min(seconds(some, steps) for _ in range(2)) for steps in lengths)
    over_runs = tuple(min(seconds(runs, short) for _ in range(2)) for runs in counts)
    name = case.task.name
    fixed = f"{some} runs, stacks of {min(chunk, some)}", f"{short} steps, stacks of {chunk}"
    return [
        Grown("steps", fixed[0], Growth(name, lengths, over_steps)),
        Grown("runs", fixed[1], Growth(name, counts, over_runs)),
    ]


def shown_by(chosen: list[Case], options: Options) -> Report:
    """Return all that one device showed."""
    cuda = options.device.type == "cuda"
    name = f"GPU: {torch.cuda.get_device_name(options.device)}" if cuda else "CPU"
    machine = Machine(*timed.rates(options.device, options.quick))
    report = Report(name, [], [], [], machine)
    for case in tracked(chosen, len(chosen), f"{options.device}, families"):
        family, cells = measure_family(case, options)
        report.families.append(family)
        report.cells.extend(cells)
        if case.rule == "constant" and case.task.name in (TINY, "lenet"):
            report.growth.extend(growth(case, max(c.chunk for c in cells), options))
    return report


def measure(size: Size, data: str | None) -> dict[str, Any]:
    """Return what each device there is showed."""
    torch.set_num_threads(1)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() and not size.quick else [])]
    options = Options(torch.device("cpu"), size.seconds, size.repeats, size.most, quick=size.quick)
    with (
        tempfile.TemporaryDirectory() as folder,  # sizes of stacks are measured, not remembered
        mock.patch.dict(os.environ, {"RATEWISE_CACHE": folder}),
    ):
        chosen = cases(size.quick)
        reports = [
            shown_by(chosen, options._replace(device=torch.device(name))) for name in devices
        ]
    return {"reports": reports, "size": size, "on": measured_on("torch")}


run = kept.command(measure, text)
