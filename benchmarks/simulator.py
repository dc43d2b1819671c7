"""How many optimizer steps a second the simulator makes, beside the ordinary loop.

For each family and N runs: the loop that one writes for one run, and a stack of N, in turn in
this one process (loop, stack, loop, stack, ...), so that a busy moment of the machine hits both;
printed are medians of the pairs' ratios and their 10% to 90% span, and the stack that
`chunk="auto"` takes for N runs. A stack is measured in its steady state, recording included;
setting it up is left out, and stands in a column of its own.

    python benchmarks/simulator.py [--page docs/evidence/simulator-speed.md]
    python benchmarks/simulator.py --families mlp,lenet --most 256
    python benchmarks/simulator.py --quick   # the code alone: these numbers mean nothing
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from simulator_contenders import (
    LR,
    SIZES,
    Case,
    Loop,
    Options,
    Simulated,
    burst,
    demands,
    drawn_once,
    models,
    pairs,
    rates,
    request,
)
from simulator_page import MLP, SMALL, TINY, Cell, Family, Growth, Machine, Report, page

from ratewise import simulate
from ratewise.errors import InvalidArgument, RatewiseError
from ratewise.progress import tracked
from ratewise.simulate import families, runner
from ratewise.simulate.task import Task

#: Seconds that one step of a stack may take.
LONGEST = 20.0


def cases(chosen: list[str], compiled: bool, quick: bool) -> list[Case]:
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
    names = chosen or ([TINY, "quadratic"] if quick else list(tasks))
    if unknown := [name for name in names if name not in tasks]:
        raise SystemExit(f"unknown family {unknown[0]!r}: known are {', '.join(tasks)}")
    found = [Case(replace(tasks[name](), name=name)) for name in names]
    for case in found[:]:
        if case.task.name in (TINY, MLP):
            task = replace(case.task, name=f"{case.task.name}, greedy")
            found.append(Case(task, "greedy"))
            if compiled:
                task = replace(case.task, name=f"{case.task.name}, compiled")
                found.append(Case(task, compile=True, sizes=(64, 256, 1024)))
    return found


def faster(case: Case, options: Options) -> tuple[str, Loop]:
    """Return the model that makes the faster loop: its name, and the loop, warm."""
    loops = {
        name: Loop(case.task, build(), case.rule, LR, options.device)
        for name, build in models(case.task).items()
    }
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(4 if len(loops) > 1 else 1):
        for name, loop in loops.items():
            speeds[name].append(burst(loop, options))
    best = max(loops, key=lambda name: statistics.median(speeds[name]))
    return best, loops[best]


def measure_family(case: Case, options: Options) -> tuple[Family, list[Cell]]:
    """Return what a family showed: once, and at each number of runs."""
    name, loop = faster(case, options)
    cells: list[Cell] = []
    for runs in (size for size in case.sizes if size <= options.most):
        gc.collect()
        cells.append(_cell(case, runs, loop, cells, options))
    if not case.compile:
        cells = with_auto(case, cells, options)
    build = models(case.task)[name]
    fused = Loop(case.task, build(), case.rule, LR, options.device, fused=True)
    recording = Loop(case.task, build(), case.rule, LR, options.device, records=True)
    beside = pairs(loop, fused, options)
    alone = [] if case.compile else pairs(recording, Simulated(case, 1, options), options)
    traffic, work = demands(case.task)
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
    found = pairs(loop, Simulated(case, runs, options), options)
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


def growth(case: Case, chunk: int, options: Options) -> list[Growth]:
    """Return how the time of whole runs grows with their steps, and with their number."""
    slow = case.task.name != TINY
    task = replace(case.task, evaluation=max(1, case.task.batch_size))
    chunk, short, some = min(chunk, 128), 5 if slow else 50, min(chunk, 32 if slow else 128)
    lengths: tuple[int, ...] = (50, 100, 200, 400)
    counts = tuple(128 << i for i in range(6))
    if options.quick:
        lengths, counts, short, chunk, some = (2, 4, 8), (4, 8, 16), 2, 4, 4

    def seconds(runs: int, steps: int) -> float:
        result = simulate.run(
            task, runs=runs, steps=steps, lr=LR, chunk=chunk, device=options.device
        )
        return result.seconds

    over_steps = tuple(min(seconds(some, steps) for _ in range(2)) for steps in lengths)
    over_runs = tuple(min(seconds(runs, short) for _ in range(2)) for runs in counts)
    stacked = f"stacks of {min(chunk, some)}"
    return [
        Growth(case.task.name, "steps", f"{some} runs, {stacked}", lengths, over_steps),
        Growth(case.task.name, "runs", f"{short} steps, stacks of {chunk}", counts, over_runs),
    ]


def measure(chosen: list[Case], options: Options) -> Report:
    """Return all that one device showed."""
    cuda = options.device.type == "cuda"
    name = f"GPU: {torch.cuda.get_device_name(options.device)}" if cuda else "CPU"
    machine = Machine(*rates(options.device, options.quick))
    report = Report(name, [], [], [], machine)
    for case in tracked(chosen, len(chosen), f"{options.device}, families"):
        family, cells = measure_family(case, options)
        report.families.append(family)
        report.cells.extend(cells)
        if case.rule == "constant" and case.task.name in (TINY, "lenet") and not case.compile:
            report.growth.extend(growth(case, max(c.chunk for c in cells), options))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", default="", help="names with commas between; default all")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest N")
    parser.add_argument("--seconds", type=float, help="of each measurement, default 0.1")
    parser.add_argument("--repeats", type=int, help="pairs, default 7")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: both, if there are")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB that a stack may take")
    parser.add_argument("--compile", action="store_true", help="torch.compile's ratio, too")
    parser.add_argument("--quick", action="store_true", help="a trial of the code")
    parser.add_argument("--page", type=Path, help="write the page to this file, too")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (0.003 if arguments.quick else 0.1)
    repeats = arguments.repeats or (2 if arguments.quick else 7)
    if min(arguments.most, arguments.threads, repeats) < 1 or min(seconds, arguments.memory) <= 0:
        parser.error("--most, --repeats, --threads, --seconds and --memory must be positive")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no CUDA device")
        return
    devices = [arguments.device] if arguments.device else ["cpu"]
    if arguments.device is None and torch.cuda.is_available():
        devices.append("cuda")

    torch.set_num_threads(arguments.threads)
    names = [name.strip() for name in arguments.families.split(",") if name.strip()]
    chosen = cases(names, arguments.compile, arguments.quick)
    most = 4 if arguments.quick else arguments.most
    budget = int(arguments.memory * 2**30)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RATEWISE_CACHE"] = folder  # sizes of stacks are measured, not remembered
        try:
            reports = [
                measure(
                    chosen,
                    Options(torch.device(name), seconds, repeats, most, budget, arguments.quick),
                )
                for name in devices
            ]
        except RatewiseError as error:
            raise SystemExit(f"{type(error).__name__}: {error}") from error
    about = (
        f"AdamW, float32; {repeats} pairs of {seconds:g} s (at least one step, and fewer pairs "
        f"where these are long), {arguments.threads} thread{'s' * (arguments.threads > 1)}, "
        f"stacks within {arguments.memory:g} GiB; Python {platform.python_version()}, torch "
        f"{torch.__version__}, {platform.system()} {platform.machine()}."
    )
    if arguments.quick:
        about += " A trial of the code: these numbers mean nothing."
    command = " ".join(["python", "benchmarks/simulator.py", *sys.argv[1:]])
    text = page(reports, command, about)
    print(text, end="")
    if arguments.page is not None:
        arguments.page.parent.mkdir(parents=True, exist_ok=True)
        arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
