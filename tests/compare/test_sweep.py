"""A comparison as a whole: planned, run, killed, gone on with, reported."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ratewise import compare
from ratewise.compare import analysis, plan, tasks, training
from ratewise.compare.task import Task
from ratewise.compare.tuning import MethodOnTask
from ratewise.errors import InvalidArgument, RunFailed, StoreError, UnknownName, WrongType
from ratewise.files import writing
from ratewise.pool import processes
from ratewise.runs import RunRecord, Store

QUICK: dict[str, Any] = {
    "schedules": ["greedy", "cosine"],
    "seeds": 2,
    "rates": [0.01, 0.1, 1.0],  # the middle one is best: no grid is extended
    "steps": 20,
    "progress": False,
}


def files(folder: Path) -> dict[str, int]:
    """Return the runs that lie there, with the moments at which they were written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "runs").glob("*.parquet")}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> compare.Comparison:
    """A comparison in one process, which tests read and do not change."""
    return compare.run("digits-mlp", **QUICK, out=tmp_path_factory.mktemp("quick") / "out")


def test_grid_then_judged_on_fresh_seeds(quick: compare.Comparison):
    done = quick
    records = done.records()
    grid = [run for run in records if run.role == "grid"]
    judged = [run for run in records if run.role == "judged"]
    assert {run.seed for run in grid} == {0, 1}
    assert {run.seed for run in judged} == {plan.JUDGED_SEEDS, plan.JUDGED_SEEDS + 1}
    runs = analysis.load(done.store)
    for schedule in ("greedy", "cosine"):
        key = MethodOnTask("digits-mlp", "adamw", schedule)
        assert {run.base_lr for run in judged if run.schedule == schedule} == {
            runs.tuned[key].base_lr
        }
        assert runs.tuned[key].runs == sum(run.schedule == schedule for run in grid)
    assert done.report.html.exists()
    assert "digits-mlp, adamw" in done.table()


def test_an_optimum_at_the_edge_extends_the_grid(tmp_path: Path):
    low = {**QUICK, "rates": [1e-5, 1e-4, 1e-3], "schedules": ["cosine"]}
    done = compare.run("digits-mlp", **low, out=tmp_path / "out")
    rates = sorted({run.base_lr for run in done.records() if run.role == "grid"})
    assert rates[:4] == [1e-5, 1e-4, 1e-3, 1e-2]


def test_same_seed_same_numbers_whatever_the_number_of_processes(tmp_path: Path, quick):
    two = compare.run("digits-mlp", **QUICK, out=tmp_path / "two", jobs=2)
    a, b = quick.records(), two.records()
    assert [run.run_id for run in a] == [run.run_id for run in b]
    assert [run.test_loss for run in a] == [run.test_loss for run in b]
    assert {run.machine["torch_threads"] for run in b} == {1}


def test_a_second_call_repeats_nothing_and_a_wider_one_adds(tmp_path: Path, quick):
    out = shutil.copytree(quick.store.folder, tmp_path / "out", copy_function=shutil.copy2)
    before = files(out)
    compare.run("digits-mlp", **QUICK, out=out)
    assert files(out) == before
    wider = compare.run("digits-mlp", **{**QUICK, "seeds": 3}, out=out)
    after = files(out)
    assert len(after) == len(before) + 2
    assert before.items() <= after.items()
    narrower = compare.run("digits-mlp", **{**QUICK, "schedules": ["cosine"]}, out=out)
    assert {run.schedule for run in narrower.records()} == {"cosine"}
    assert {run.schedule for run in wider.store.load()} == {"cosine", "greedy"}


KILLED: dict[str, Any] = {**QUICK, "task": ["digits-mlp", "diabetes-mlp"], "seeds": 3, "steps": 150}


def started(folder: Path, **changes: Any) -> subprocess.Popen[bytes]:
    """Begin the comparison that is going to be killed, in a process with two workers."""
    script = folder / "sweep.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from ratewise import compare

            if __name__ == "__main__":
                compare.run(**{KILLED | changes!r}, jobs=2, out="out")
            """
        )
    )
    return subprocess.Popen(
        [sys.executable, str(script)], cwd=folder, start_new_session=True, stdout=subprocess.PIPE
    )


def whole(folder: Path) -> set[str]:
    return {path.name for path in (folder / "runs").glob("*.parquet")}


@pytest.mark.parametrize("after", [1, 9])
def test_killed_at_any_moment_it_loses_no_finished_run_and_repeats_none(tmp_path: Path, after: int):
    out, process = tmp_path / "out", started(tmp_path)
    deadline = time.monotonic() + 900
    while len(whole(out)) < after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()  # its workers hold the pipe too: until all have ended
    survivors = files(out)
    assert after <= len(survivors) < 36, "killed too early or too late to show anything"
    assert len(Store(out).load()) == len(survivors), "a file that is there is not whole"
    compare.run(**KILLED, out=out)
    finished = files(out)
    assert survivors.items() <= finished.items(), "a finished run was lost or repeated"
    assert len(analysis.load(Store(out)).records) == len(finished)
    assert (out / "index.html").exists()
    assert not list((out / "runs").glob(".tmp-*"))


def test_what_a_killed_worker_left_unfinished_is_gone_when_the_work_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = tmp_path / "out" / "runs" / f"{writing.UNFINISHED}{killed.pid}-1-run"
    train = training.train

    def leaving(*arguments: Any, **options: Any) -> RunRecord:
        left.write_bytes(b"half a file")  # after the store was opened, and cleaned
        return train(*arguments, **options)

    monkeypatch.setattr(training, "train", leaving)
    done = compare.run("diabetes-mlp", **{**QUICK, "schedules": ["cosine"]}, out=tmp_path / "out")
    assert done.records()
    assert not left.exists()


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    out, process = tmp_path / "out", started(tmp_path, steps=600)
    deadline = time.monotonic() + 900
    while not whole(out) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()  # the parent alone
    try:
        process.communicate(timeout=900)  # the workers hold the pipe: until the last has ended
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("workers go on without their parent")
    assert len(whole(out)) < 36, "the work was done before the parent was killed"


def model() -> nn.Module:
    return nn.Linear(4, 1)


def loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def failing(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    if model.weight.abs().max() > 1e3:
        raise ArithmeticError("weights exploded")
    return loss(model, batch)


def own(**changes: Any) -> Task:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    part = (x, x.sum(1, keepdim=True))
    task = Task(
        name="own", model=model, loss=loss, train=part, validation=part, test=part, steps=20,
        batch_size=16,
    )  # fmt: skip
    return replace(task, **changes)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are forks: they need not import torch first."""
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr(processes, "get_context", lambda _: context)


@pytest.mark.usefixtures("forked")
def test_a_task_of_one_s_own_in_this_process_and_in_several(tmp_path: Path):
    options = {**QUICK, "schedules": ["greedy", "constant"], "rates": [0.03, 0.3, 3.0]}
    one = compare.run(own(), **options, out=tmp_path / "one")
    two = compare.run(own(), **options, out=tmp_path / "two", jobs=2)
    assert [r.test_loss for r in one.records()] == [r.test_loss for r in two.records()]
    local = own(loss=lambda model, batch: loss(model, batch))
    with pytest.raises(InvalidArgument, match="define its functions at the top of a module"):
        compare.run(local, **options, out=tmp_path / "three", jobs=2)
    assert compare.run(local, **options, out=tmp_path / "three").records()


def test_a_task_s_own_rates_are_its_grid(tmp_path: Path):
    made = plan.make(
        own(rates={"adamw": [0.5, 0.05]}), ["adamw", "sgd"], ["cosine"], seeds=1, tuning_seeds=1,
        rates=3, preset="small", data=None, steps=None,
    )  # fmt: skip
    assert made.grids["own", "adamw"] == (0.05, 0.5)
    assert len(made.grids["own", "sgd"]) == 3


def test_a_run_that_raises_is_named_and_the_others_are_kept(tmp_path: Path):
    options = {**QUICK, "optimizers": ["sgd"], "schedules": ["constant"], "rates": [0.01, 1e6]}
    with pytest.raises(RunFailed, match=r"2 of 4 runs failed.*\n.*lr 1e\+06.*weights exploded"):
        compare.run(own(loss=failing), **options, out=tmp_path / "out")
    assert {run.base_lr for run in Store(tmp_path / "out").load()} == {0.01}


def killing(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    if model.weight.abs().max() > 1e3:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(model, batch)


@pytest.mark.usefixtures("forked")
def test_a_run_that_ends_its_process_is_named_and_the_others_are_kept(tmp_path: Path):
    options = {**QUICK, "optimizers": ["sgd"], "schedules": ["constant"], "rates": [0.01, 1e6]}
    with pytest.raises(
        RunFailed, match=r"2 of 4 runs failed.*\n.*lr 1e\+06.*process ended 3 times"
    ):
        compare.run(own(loss=killing), **options, jobs=2, out=tmp_path / "out")
    assert {run.base_lr for run in Store(tmp_path / "out").load()} == {0.01}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"seeds": 0}, InvalidArgument, "seeds must be an integer >= 1, got 0"),
        ({"seeds": 2.5}, InvalidArgument, "seeds"),
        ({"tuning_seeds": 0}, InvalidArgument, "tuning_seeds must be an integer from 1 to 1000"),
        ({"tuning_seeds": 1001}, InvalidArgument, "tuning_seeds"),
        ({"jobs": 0}, InvalidArgument, "jobs must be an integer >= 1"),
        ({"steps": 0}, InvalidArgument, "steps"),
        ({"rates": []}, InvalidArgument, "rates must be finite numbers > 0"),
        ({"rates": [0.1, -1]}, InvalidArgument, "rates"),
        ({"rates": [0.1, 0.1]}, InvalidArgument, "different numbers"),
        ({"rates": 0}, InvalidArgument, "rates"),
        ({"schedules": ["cosin"]}, UnknownName, "did you mean 'cosine'"),
        ({"schedules": []}, InvalidArgument, "schedules must be a list with at least one name"),
        ({"schedules": ["cosine", "cosine"]}, InvalidArgument, "name each once"),
        ({"optimizers": ["adam"]}, UnknownName, "did you mean 'adamw'"),
        ({"optimizers": []}, InvalidArgument, "optimizers"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_made(tmp_path: Path, changes, error, words):
    with pytest.raises(error, match=words):
        compare.run("digits-mlp", **{**QUICK, **changes}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_tasks_and_folders(tmp_path: Path):
    with pytest.raises(UnknownName, match="did you mean 'digits-cnn'"):
        compare.run("digit-cnn", **QUICK, out=tmp_path / "out")
    with pytest.raises(WrongType, match="names or Tasks, got int"):
        compare.run([3], **QUICK, out=tmp_path / "out")
    with pytest.raises(InvalidArgument, match="name each once"):
        compare.run(["digits-mlp", "digits-mlp"], **QUICK, out=tmp_path / "out")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(StoreError, match=r"letter\.txt"):
        compare.run("digits-mlp", **QUICK, out=tmp_path)


def test_default_schedules_and_tasks_exist():
    from ratewise.compare import schedules, sweep

    assert set(sweep.DEFAULT_SCHEDULES) <= set(schedules.names())
    assert tasks.requirements("digits-mlp") == "bundled"
