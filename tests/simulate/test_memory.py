"""The memory's budget: what a run is said to take, and what calls really take."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.simulate.trainings import OPTIMIZERS, bowl, images, regression

from ratewise.errors import InvalidArgument
from ratewise.simulate import arguments, memory, run
from ratewise.simulate.memory import bytes_a_run, bytes_kept, bytes_shared, most_runs, spread
from ratewise.simulate.runner import Training

MIB = 1 << 20


def test_alive_counts_what_is_alive_once():
    with memory._Alive() as alive:
        first = torch.zeros(1000)
        assert alive.now == 4000
        view = first[10:].view(-1, 10)
        assert alive.now == 4000
        second = first + 1
        assert alive.now == 8000
        del first
        assert alive.now == 8000, "the view keeps it"
        del view, second
        assert alive.now == 0
    assert alive.most == 8000


def test_what_takes_more_is_said_to_take_more():
    def of(task: Any, optimizer: Any = "sgd", **options: Any) -> int:
        return bytes_a_run(task, optimizer, **{"steps": 10, **options})

    small = of(regression())
    assert small > 37 * 4 * 5
    assert of(dataclasses.replace(regression(), batch_size=24)) > small
    assert of(regression(), "adam") > small
    assert of(regression(), dtype=torch.float64) > small
    assert of(images()) > small > of(bowl())
    assert of(regression(), steps=1010) - small == 1000 * 32
    many = tuple(part.repeat(50, 1) for part in regression().data_for(0))
    own = dataclasses.replace(regression(), data=lambda seed: many)
    assert of(own) - small > 2 * sum(part.nbytes for part in many)
    assert of(regression()) == small


def test_data_that_are_copied_count_once():
    cpu, (x, y) = torch.device("cpu"), regression().data_for(0)
    assert bytes_shared(regression(), torch.float32, cpu) == 0
    assert bytes_shared(regression(), torch.float64, cpu) == 2 * (x.nbytes + y.nbytes)
    elsewhere = torch.device("cuda")
    assert bytes_shared(regression(), torch.float32, elsewhere) == x.nbytes + y.nbytes
    own = dataclasses.replace(regression(), data=lambda seed: (x, y))
    assert bytes_shared(own, torch.float64, cpu) == 0


def test_as_many_runs_as_fit_beside_the_results():
    assert most_runs(1000, 100, 90) == 10
    assert most_runs(200, 100, 90) == 1, "results are there twice while they are joined"
    for budget, kept, a_run in [(199, 100, 90), (189, 90, 100), (0, 0, 1)]:
        with pytest.raises(
            InvalidArgument, match=r"^memory must be at least \d+ bytes.*record less"
        ):
            most_runs(budget, kept, a_run)
    assert bytes_kept(10, 7) == 10 * (5 * 8 * 7 + 64)


def test_a_budget_too_small_for_one_run_is_named_before_any_work(monkeypatch):
    monkeypatch.setattr(Training, "step", None)
    with pytest.raises(InvalidArgument, match=r"^memory must be at least .* got 10000: raise it"):
        run(regression(), "sgd", runs=4, steps=5, lr=0.1, memory=10_000)
    with pytest.raises(InvalidArgument, match=r"^memory must be at least .* for the results"):
        run(regression(), "sgd", runs=100, steps=10_000, lr=0.1, memory=30 * MIB)


def test_a_chunk_beyond_the_budget_is_named_and_auto_stays_within(monkeypatch, tmp_path):
    monkeypatch.setenv("RATEWISE_CACHE", str(tmp_path))
    a_run = bytes_a_run(regression(), "sgd", steps=2)
    budget = bytes_kept(40, 2) + 5 * a_run + a_run // 2
    options: dict[str, Any] = {"runs": 40, "steps": 2, "lr": 0.1, "memory": budget}
    assert run(regression(), "sgd", **options, chunk=5).chunk == 5
    with pytest.raises(
        InvalidArgument, match=r"^chunk must be at most 5 within the memory's budget"
    ):
        run(regression(), "sgd", **options, chunk=6)
    assert run(regression(), "sgd", **options).chunk <= 5


@pytest.mark.parametrize("runs", [1, 2, 3, 7, 10, 64, 100, 1023])
def test_chunks_are_even_and_leave_out_no_run(runs):
    for chunk in {1, 2, 3, 4, 7, 50, runs}:
        parts = spread(runs, chunk)
        sizes = [len(part) for part in parts]
        assert [run_ for part in parts for run_ in part] == [*range(runs)]
        assert max(sizes) <= chunk
        assert max(sizes) - min(sizes) <= 1
        assert len(parts) == -(-runs // chunk)


@pytest.mark.parametrize("runs", [1, 3])
def test_a_stack_is_gone_with_its_last_use_and_not_at_the_next_collection(runs):
    """What refers to itself waits for the garbage collector, which does not look at bytes."""
    settings: dict[str, Any] = {"noise": "gaussian", "device": "cpu", "dtype": torch.float32}
    request = arguments.check(
        regression(), OPTIMIZERS["adam"], "greedy", runs=runs, steps=2, lr=0.1, seed=0,
        every=1, memory=MIB, compile=False, **settings
    )  # fmt: skip
    gc.disable()
    try:
        training = Training(request, range(runs))
        training.step()
        training.step()
        result = training.finish()
        parts = (training, training.stack, training.stack.flat, training.stack.model)
        seen = [weakref.ref(part) for part in parts]
        del training, parts
        assert [part() for part in seen] == [None] * 4
    finally:
        gc.enable()
    assert result.runs == runs


def test_a_chunk_is_gone_before_the_next_is_made(monkeypatch):
    alive: weakref.WeakSet[Training] = weakref.WeakSet()
    begun, begin = [], Training.__init__

    def noted(self: Training, *arguments: Any) -> None:
        begun.append(len(alive))
        alive.add(self)
        begin(self, *arguments)

    monkeypatch.setattr(Training, "__init__", noted)
    gc.disable()
    try:
        run(regression(), "adam", runs=6, steps=2, lr=0.1, chunk=2)
    finally:
        gc.enable()
    assert begun == [0, 0, 0]


def clearable() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


@pytest.mark.skipif(not clearable(), reason="needs Linux's /proc/self/clear_refs")
@pytest.mark.parametrize(("name", "runs"), [("wide", 800), ("deep", 400), ("own", 900)])
def test_a_call_stays_within_its_budget_and_would_not_without(name, runs):
    """In a process of its own, from what it had when a small call had warmed it up."""
    budget = 48 * MIB
    command = [sys.executable, "-m", "tests.simulate.peak_memory", name, str(budget), str(runs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=900, env=environment
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["bounded"] <= budget, figures
    assert figures["bounded"] > budget / 5, "it makes use of it"
    assert figures["unbounded"] > 1.5 * budget, figures
