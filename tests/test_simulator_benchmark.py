"""benchmarks/simulator.py: it runs to the end, and its arithmetic; what it times is not judged."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from ratewise.simulate import Task, families

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "simulator.py"
PAGE = ROOT / "docs" / "evidence" / "simulator-speed.md"
PARTS = ("simulator", "simulator_contenders", "simulator_page")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts() -> Iterator[list[ModuleType]]:
    """Return the benchmark's modules, which find each other as they do when one is run."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        yield [importlib.import_module(name) for name in PARTS]
    finally:
        sys.path.remove(str(SCRIPT.parent))
        for name in PARTS:
            sys.modules.pop(name, None)


class Clock:
    """A clock that stands still until something takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pretended:
    """So many runs, whose step takes what it is told to."""

    def __init__(self, clock: Clock, runs: int, seconds: Callable[[], float]) -> None:
        self._clock, self.runs, self._seconds, self.shuffle = clock, runs, seconds, 0.0

    def ready(self) -> int:
        self._clock.now += 0.01  # whatever this takes
        return 3

    def step(self) -> None:
        self._clock.now += self._seconds()


def measured(parts: list[ModuleType], stack_seconds: float, runs: int, busy: float = 1.0) -> Any:
    """Return the cell of a loop of 1 ms a step, and a stack; both slow by `busy` a second."""
    _, contenders, page = parts
    clock = Clock()
    options = contenders.Options(CPU, 0.05, 6, clock=clock)

    def slowed(seconds: float) -> Callable[[], float]:
        return lambda: seconds * busy**clock.now

    loop = Pretended(clock, 1, slowed(1e-3))
    found = contenders.pairs(loop, Pretended(clock, runs, slowed(stack_seconds)), options)
    return page.Cell("a family", runs, *zip(*found, strict=True))


def test_the_ratio_is_that_of_run_steps(parts: list[ModuleType]):
    cell = measured(parts, 4e-3, 64)  # 64 runs in the time of 4
    assert cell.ratio == pytest.approx((16.0, 16.0, 16.0))
    assert cell.speed == pytest.approx(16_000.0)


def test_a_stack_that_is_but_the_loop_gains_nothing(parts: list[ModuleType]):
    assert measured(parts, 64e-3, 64).ratio == pytest.approx((1.0, 1.0, 1.0))
    assert measured(parts, 1e-3, 1).ratio == pytest.approx((1.0, 1.0, 1.0))


def test_a_machine_that_gets_busy_hits_both_and_the_ratio_stays(parts: list[ModuleType]):
    cell = measured(parts, 4e-3, 64, busy=1.5)
    assert cell.ratio.median == pytest.approx(16.0, rel=0.15)
    assert max(cell.loops) > 1.5 * min(cell.loops)


def test_the_shuffling_of_an_epoch_is_added(parts: list[ModuleType]):
    _, contenders, _ = parts
    clock = Clock()
    stack = Pretended(clock, 10, lambda: 10e-3)
    options = contenders.Options(CPU, 0.05, 3, clock=clock)
    assert contenders.burst(stack, options) == pytest.approx(1000.0)
    stack.shuffle = 1e-3
    assert contenders.burst(stack, options) == pytest.approx(500.0)


def test_the_span_is_from_the_10th_to_the_90th_percentile(parts: list[ModuleType]):
    *_, page = parts
    assert page.spread([float(i) for i in range(101)]) == pytest.approx((50.0, 10.0, 90.0))
    assert page.spread([3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_growth(parts: list[ModuleType], power: float):
    *_, page = parts
    sizes = (50, 100, 200, 400)
    grown = page.Growth("a", "steps", "", sizes, tuple(3.0 * size**power for size in sizes))
    assert grown.exponent == pytest.approx(power)


def test_the_roof_is_the_lower_of_two(parts: list[ModuleType]):
    *_, page = parts
    machine = page.Machine(bandwidth=1e9, product=1e10)
    family = page.Family("a", 1, 1, "", 1.0, 1.0, (), 0.0, bytes=1e3, flops=1e3)
    assert machine.roof(family) == pytest.approx(1e6)
    assert machine.roof(family._replace(flops=1e6)) == pytest.approx(1e4)


def report(page: ModuleType, ratio: float, name: str) -> Any:
    """Return a report of one family at N = 1 and 256, the stack of 256 so much faster."""
    cells = [
        page.Cell(name, 1, (1000.0,) * 3, (1000.0,) * 3, 1),
        page.Cell(name, 256, (1000.0,) * 3, (1000.0 * ratio,) * 3, 256),
    ]
    family = page.Family(name, 340, 16, "the family's", 1000.0, 1.0, (1.1,), 0.0, 1e3, 1e3)
    return page.Report("CPU", [family], cells, [], page.Machine(1e9, 1e9))


@pytest.mark.parametrize(("ratio", "word"), [(30.0, "met"), (29.9, "missed")])
def test_a_target_is_met_or_missed(parts: list[ModuleType], ratio: float, word: str):
    *_, page = parts
    lines = {line[0]: line[-1] for line in page.verdicts(report(page, ratio, page.TINY))}
    assert lines[f"{page.TINY}, N = 256: >= 30x"] == word
    assert lines["lenet: >= 2x"] == "-"
    assert lines["never slower"] == "met"


def test_slower_than_the_loop_is_told_at_the_stack_that_auto_takes(parts: list[ModuleType]):
    *_, page = parts
    slow = report(page, 0.5, "vit")
    wanted = "never slower"
    lines = {line[0]: line for line in page.verdicts(slow)}
    assert lines[wanted][-1] == "missed"
    assert lines[wanted][1] == "1 of 2 slower (1 clearly), N = 256; least 0.50x"
    assert lines["vit: >= 2x"][-1] == "missed"
    slow.cells[1] = slow.cells[1]._replace(chunk=1)  # auto takes the stack of one instead
    lines = {line[0]: line for line in page.verdicts(slow)}
    assert lines[wanted][-1] == "met"


def test_the_loop_trains_and_each_way_of_writing_a_model_gives_the_same(parts: list[ModuleType]):
    _, contenders, _ = parts
    for name in ("gru", "attention", "vit", "wide-transformer"):
        task = families.family(name)
        x = task.data_for(0)[0][:4]
        outputs = []
        for build in contenders.models(task).values():
            model = build()
            given = torch.Generator().manual_seed(0)
            weights = {
                key: torch.randn(p.shape, generator=given) / 4
                for key, p in sorted(model.named_parameters())
            }
            outputs.append(torch.func.functional_call(model, weights, (x,)))
        assert len(outputs) == 2
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("rule", ["constant", "greedy"])
def test_the_loop_descends(parts: list[ModuleType], rule: str, records: bool):
    _, contenders, _ = parts
    task = families.family("quadratic")
    loop = contenders.Loop(task, task.model(), rule, 0.05, CPU, records=records)
    for _ in range(100):
        loop.step()
    values = [h[0] if records else h for h in loop.history]
    assert len(values) == 100
    assert float(values[-1]) < 0.5 * float(values[0])


def test_a_stack_is_never_stepped_beyond_its_horizon(parts: list[ModuleType]):
    _, contenders, _ = parts
    task = families.family(
        "mlp", data="teacher", inputs=4, width=4, classes=2, batch_size=4, size=12
    )
    options = contenders.Options(CPU, 0.01, 1)
    stack = contenders.Simulated(contenders.Case(task), 2, options)
    for _ in range(2 * contenders.HORIZON):
        assert stack.ready() == 1
        before = stack._training.steps
        assert before % 3 != 0  # a step that shuffles is not timed
        stack.step()
        assert stack._training.steps == before + 1 <= contenders.HORIZON


def test_what_a_step_demands(parts: list[ModuleType]):
    _, contenders, _ = parts
    data = (torch.randn(8, 16), torch.randn(8, 4))
    task = Task("linear", lambda: nn.Linear(16, 4), nn.functional.mse_loss, data, 8)
    traffic, operations = contenders.demands(task)
    assert operations == 2 * (2 * 8 * 16 * 4)  # forward, and of the weights; none of the inputs
    parameters, batch = 68, 4 * 8 * (16 + 4)
    assert traffic >= 40 * parameters + batch
    assert traffic < 40 * parameters + 4 * batch


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark where no CUDA device can be seen."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )


def tables(text: str) -> dict[str, list[list[str]]]:
    """Return the cells of each table by the heading above it; lines must be whole."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|"):
            found.setdefault(heading, []).append([c.strip() for c in line.strip("|").split("|")])
    for rows in found.values():
        assert len({len(row) for row in rows[:3]}) == 1
    return found


def test_a_quick_run_prints_every_table_and_writes_the_page(tmp_path: Path):
    file = tmp_path / "speed.md"
    done = run("--quick", "--page", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout == file.read_text(encoding="utf-8")
    assert "these numbers mean nothing" in done.stdout
    assert "GPU: not measured" in done.stdout
    found = tables(done.stdout)
    assert {row[-1] for row in found["Wanted"][2:]} <= {"met", "missed", "-"}
    names = ["tiny mlp", "quadratic", "tiny mlp, greedy"]
    assert [row[0] for row in found["Ratio to the ordinary loop"][2:]] == names
    pairs = found["Every pair"][2:]
    assert [(row[0], row[1]) for row in pairs] == [(n, size) for n in names for size in "14"]
    for row in pairs:
        for number in [row[2], row[3], row[4], *row[5].split(" to "), row[6], row[7].rstrip("%")]:
            float(number.replace(",", ""))
    assert [row[0] for row in found["The families"][2:]] == names
    assert [row[0] for row in found["The roofline"][2:]] == names
    assert len(found["Cost over steps and runs"]) == 6
    wide = [line for line in done.stdout.splitlines() if len(line) > 100]
    assert not [line for line in wide if not line.startswith("Made by")]


def test_what_is_left_out_says_why():
    done = run("--families", "deep-transformer", "--quick", "--memory", "0.0032")
    assert done.returncode == 0, done.stderr
    rows = {row[1]: row for row in tables(done.stdout)["Every pair"][2:]}
    assert rows["4"][3:5] == ["left out:", "memory"]
    assert "left out" not in rows["1"]


def test_a_wrong_name_and_a_missing_gpu_are_told_in_one_line():
    done = run("--families", "mpl")
    assert done.returncode == 1
    assert done.stderr.startswith("unknown family 'mpl': known are tiny mlp")
    done = run("--device", "cuda")
    assert (done.returncode, done.stdout) == (0, "not measured: no CUDA device\n")


def test_the_page_is_this_command_s():
    text = PAGE.read_text(encoding="utf-8")
    assert "Made by `python benchmarks/simulator.py" in text
    assert "mean nothing" not in text
    found = tables(text)
    assert [row[0] for row in found["The families"][2:]] != []
    assert {*families.names()} <= {row[0] for row in found["Ratio to the ordinary loop"]}
