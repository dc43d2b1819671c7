"""How fast the simulator is: the code runs to the end, and its arithmetic; no time is judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from evidence.how import How
from evidence.speed import simulator
from evidence.speed import simulator_loops as contenders
from evidence.speed import simulator_numbers as numbers
from ratewise.simulate import Task, families

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "evidence" / "simulator-speed.md"
CPU = torch.device("cpu")


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


def measured(stack_seconds: float, runs: int, busy: float = 1.0) -> Any:
    """Return the cell of a loop of 1 ms a step, and a stack; both slow by `busy` a second."""
    clock = Clock()
    options = contenders.Options(CPU, 0.05, 6, clock=clock)

    def slowed(seconds: float) -> Callable[[], float]:
        return lambda: seconds * busy**clock.now

    loop = Pretended(clock, 1, slowed(1e-3))
    found = contenders.pairs(loop, Pretended(clock, runs, slowed(stack_seconds)), options)
    return numbers.Cell("a family", runs, *zip(*found, strict=True))


def test_the_ratio_is_that_of_run_steps():
    cell = measured(4e-3, 64)  # 64 runs in the time of 4
    assert cell.ratio == pytest.approx((16.0, 16.0, 16.0))
    assert cell.speed == pytest.approx(16_000.0)


def test_a_stack_that_is_but_the_loop_gains_nothing():
    assert measured(64e-3, 64).ratio == pytest.approx((1.0, 1.0, 1.0))
    assert measured(1e-3, 1).ratio == pytest.approx((1.0, 1.0, 1.0))


def test_a_machine_that_gets_busy_hits_both_and_the_ratio_stays():
    cell = measured(4e-3, 64, busy=1.5)
    assert cell.ratio.median == pytest.approx(16.0, rel=0.15)
    assert max(cell.loops) > 1.5 * min(cell.loops)


def test_the_shuffling_of_an_epoch_is_added():
    clock = Clock()
    stack = Pretended(clock, 10, lambda: 10e-3)
    options = contenders.Options(CPU, 0.05, 3, clock=clock)
    assert contenders.burst(stack, options) == pytest.approx(1000.0)
    stack.shuffle = 1e-3
    assert contenders.burst(stack, options) == pytest.approx(500.0)


def test_the_roof_is_the_lower_of_two():
    machine = numbers.Machine(bandwidth=1e9, product=1e10)
    family = numbers.Family("a", 1, 1, "", 1.0, 1.0, (), 0.0, bytes=1e3, flops=1e3)
    assert machine.roof(family) == pytest.approx(1e6)
    assert machine.roof(family._replace(flops=1e6)) == pytest.approx(1e4)


def report(ratio: float, name: str) -> Any:
    """Return a report of one family at N = 1 and 256, the stack of 256 so much faster."""
    cells = [
        numbers.Cell(name, 1, (1000.0,) * 3, (1000.0,) * 3, 1),
        numbers.Cell(name, 256, (1000.0,) * 3, (1000.0 * ratio,) * 3, 256),
    ]
    family = numbers.Family(name, 340, 16, "the family's", 1000.0, 1.0, (1.1,), 0.0, 1e3, 1e3)
    return numbers.Report("CPU", [family], cells, [], numbers.Machine(1e9, 1e9))


@pytest.mark.parametrize(("ratio", "word"), [(30.0, "held"), (29.9, "missed")])
def test_a_target_is_met_or_missed(ratio: float, word: str):
    found = {claim.title: claim for claim in numbers.claims(report(ratio, numbers.TINY))}
    assert found[f"{numbers.TINY}, N = 256"].outcome == word
    assert found["lenet"].outcome == "undecided"
    assert found["never slower"].outcome == "held"


def test_slower_than_the_loop_is_told_at_the_stack_that_auto_takes():
    slow = report(0.5, "vit")
    found = {claim.title: claim for claim in numbers.claims(slow)}
    assert found["never slower"].outcome == found["vit"].outcome == "missed"
    assert found["never slower"].value == "1 of 2 slower (1 clearly), N = 256; least 0.50x"
    slow.cells[1] = slow.cells[1]._replace(chunk=1)  # auto takes the stack of one instead
    found = {claim.title: claim for claim in numbers.claims(slow)}
    assert found["never slower"].outcome == "held"


def test_the_loop_trains_and_each_way_of_writing_a_model_gives_the_same():
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
def test_the_loop_descends(rule: str, records: bool):
    task = families.family("quadratic")
    loop = contenders.Loop(task, task.model(), rule, 0.05, CPU, records=records)
    for _ in range(100):
        loop.step()
    values = [h[0] if records else h for h in loop.history]
    assert len(values) == 100
    assert float(values[-1]) < 0.5 * float(values[0])


def test_a_stack_is_never_stepped_beyond_its_horizon():
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


def test_what_a_step_demands():
    data = (torch.randn(8, 16), torch.randn(8, 4))
    task = Task("linear", lambda: nn.Linear(16, 4), nn.functional.mse_loss, data, 8)
    traffic, operations = contenders.demands(task)
    assert operations == 2 * (2 * 8 * 16 * 4)  # forward, and of the weights; none of the inputs
    parameters, batch = 68, 4 * 8 * (16 + 4)
    assert traffic >= 40 * parameters + batch
    assert traffic < 40 * parameters + 4 * batch


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


def test_a_quick_run_writes_every_table(tmp_path: Path):
    file = tmp_path / "speed.md"
    simulator.run(How(tmp_path, file), simulator.SIZES["quick"])
    text = file.read_text(encoding="utf-8")
    assert "these numbers mean nothing" in text
    names = ["tiny mlp", "quadratic", "tiny mlp, greedy"]
    found = tables(text)
    assert [row[0] for row in found["Ratio to the ordinary loop"][2:]] == names
    pairs = found["Every pair"][2:]
    assert [(row[0], row[1]) for row in pairs] == [(n, size) for n in names for size in "14"]
    for row in pairs:
        for number in [row[2], row[3], row[4], *row[5].split(" to "), row[6], row[7].rstrip("%")]:
            float(number.replace(",", ""))
    assert [row[0] for row in found["The families"][2:]] == names
    assert [row[0] for row in found["The roofline"][2:]] == names
    assert len(found["Cost over steps and runs"]) == 6
    simulator.run(How(tmp_path, file, page_only=True), simulator.SIZES["quick"])
    assert file.read_text(encoding="utf-8") == text


def test_what_is_left_out_says_why():
    case = contenders.Case(families.family("deep-transformer"))
    options = contenders.Options(CPU, 0.003, 1, budget=3_500_000)
    loop = contenders.Loop(case.task, case.task.model(), case.rule, 1e-3, CPU)
    assert simulator._cell(case, 4, loop, [], options).why == "memory"
    assert simulator._cell(case, 1, loop, [], options).why == ""


def test_the_page_is_this_command_s():
    text = PAGE.read_text(encoding="utf-8")
    assert "Made by `python -m evidence simulator-speed" in text
    assert "mean nothing" not in text
    found = tables(text)
    assert [row[0] for row in found["The families"][2:]] != []
    assert {*families.names()} <= {row[0] for row in found["Ratio to the ordinary loop"]}
