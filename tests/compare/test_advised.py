"""Tuning with a few runs: `ratewise tune`, and a comparison whose methods are tuned by advice."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ratewise import cli, compare
from ratewise.compare import advised, analysis, own
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule
from ratewise.compare.tuning import MethodOnTask
from ratewise.errors import InvalidArgument, UnknownName, WrongType
from ratewise.runs import Store

OWN = textwrap.dedent(
    """
    import torch
    from ratewise.compare import Task
    from own_parts import loss

    def task(steps=30):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(96, 4, generator=generator)
        y = x.sum(1, keepdim=True) + 0.1 * torch.randn(96, 1, generator=generator)
        parts = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
        return Task("sums", lambda: torch.nn.Linear(4, 1), loss, *parts, steps=steps, batch_size=8)

    made = task()
    number = 3
    """
)
PARTS = "import torch\n\ndef loss(model, batch):\n"
PARTS += "    return torch.nn.functional.mse_loss(model(batch[0]), batch[1])\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own_parts.py").write_text(PARTS)
    (tmp_path / "own_sums.py").write_text(OWN)
    return tmp_path / "own_sums.py"


def test_a_task_of_one_s_own_is_tuned_from_its_file(file: Path, tmp_path: Path):
    store = tmp_path / "store"
    line = ["tune", "--task", f"{file}:task", "--store", str(store), "--schedule", "linear"]
    done = CliRunner().invoke(cli.app, [*line, "--optimizer", "sgd", "--budget", "4"])
    assert done.exit_code == 0, done.exception
    assert "use rate" in done.output
    records = Store(store).load()
    assert 3 <= len(records) <= 4
    assert {record.role for record in records} == {"tuned"}
    ends = {record.base_lr: record.validation_loss[-1] for record in records}
    middle = sorted(ends)[len(ends) // 2]
    assert min(ends.values()) <= ends[middle]  # it moved towards the better ones
    again = CliRunner().invoke(cli.app, [*line, "--optimizer", "sgd", "--budget", "4"])
    assert again.output == done.output
    assert len(Store(store).load()) == len(records)


def test_an_update_ratio_is_tuned_in_its_own_unit_and_the_next_task_begins_there(tmp_path: Path):
    first = advised.tune("digits-mlp", store=tmp_path, steps=40, budget=3)
    assert [steps for _, _, steps in first.advisor.trials] == [40, 40, 40]
    assert f"UpdateRatioLR(optimizer, ratio={first.best:.4g}, schedule='linear'" in first.summary
    ratios = {record.config["schedule_options"]["ratio"] for record in Store(tmp_path).load()}
    assert ratios == {value for value, _, _ in first.advisor.trials}
    second = advised.tune("diabetes-mlp", store=tmp_path, steps=40, budget=1)
    assert second.advisor.prior.tasks == 1
    assert "first ratio: from 1 past trainings" in second.summary


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda rate: 1.0 / rate, "highest rate that was tried; a better one may lie above"),
        (lambda rate: rate, "lowest rate that was tried; a better one may lie below"),
        (lambda rate: 1.0 + math.log(rate / 0.1) ** 2, ""),
    ],
)
def test_a_budget_that_ends_at_an_edge_is_said(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loss: Callable[[float], float],
    words: str,
):
    monkeypatch.setattr(advised, "_end", lambda record: loss(record.base_lr))
    monkeypatch.setattr(advised, "_centre", lambda key, optimizer: 0.1)
    done = advised.tune(f"{file}:task", store=tmp_path / "a", schedule="linear", budget=3)
    assert len(done.advisor.trials) == 3
    assert ("warning" in done.summary) == bool(words)
    assert words in done.summary


def test_what_cannot_be_tuned_is_named(file: Path, tmp_path: Path):
    given = Schedule("mine", "update-ratio", {"ratio": 0.1})
    with pytest.raises(InvalidArgument, match="without a ratio of its own"):
        advised.tune("digits-mlp", store=tmp_path / "a", schedule=given)
    for name, error, words in (
        (f"{file}:nothing", UnknownName, "unknown task in"),
        (f"{file}:number", WrongType, "must be a ratewise.compare.Task"),
        (f"{tmp_path / 'none.py'}:task", InvalidArgument, "a file that exists"),
        ("digits-mpl", UnknownName, "did you mean"),
    ):
        with pytest.raises(error, match=words):
            own.load(name)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(InvalidArgument, match="ZeroDivisionError"):
        own.load(f"{tmp_path / 'broken.py'}:task")
    assert own.load(f"{file}:made").name == own.load(f"{file}:task").name == "sums"


def test_an_optimizer_without_a_usual_rate_begins_in_the_middle_of_its_grid(tmp_path: Path):
    of = Optimizer("mine", "sgd", low=1e-3, decades=2)
    done = advised.tune("digits-mlp", store=tmp_path, steps=10, budget=1, optimizer=of,
                        schedule="linear")  # fmt: skip
    assert done.advisor.trials[0][0] == pytest.approx(0.01)


ASKED: dict[str, Any] = {
    "schedules": ["linear", "greedy"],
    "optimizers": ["sgd"],
    "seeds": 2,
    "tuning_seeds": 2,
    "rates": [1e-3, 1e-2, 1e-1, 1.0],
    "steps": 20,
    "progress": False,
    "tuner": "advisor",
}


def test_a_comparison_tuned_by_advice_keeps_to_the_grid_s_budget(tmp_path: Path):
    done = compare.run("digits-mlp", **ASKED, out=tmp_path / "out")
    runs = analysis.load(done.store)
    for schedule in ASKED["schedules"]:
        key = MethodOnTask("digits-mlp", "sgd", schedule)
        tuned, grid = runs.tuned[key], runs.grid(key)
        assert 6 <= tuned.runs == len(grid) <= 8
        assert grid[0].seed in (0, 1)
        assert 0.03162 in {run.base_lr for run in grid}
        assert {run.base_lr for run in runs.judged(key)} == {tuned.base_lr}
    report = done.report.markdown.read_text()
    assert "what it ran next followed from its own losses" in report
    assert "same grid of base rates" not in report
    before = {run.run_id for run in done.records()}
    again = compare.run("digits-mlp", **ASKED, out=tmp_path / "out")
    assert {run.run_id for run in again.records()} == before


def test_an_unknown_tuner_is_named(tmp_path: Path):
    with pytest.raises(UnknownName, match="unknown tuner 'adviser'"):
        compare.run("digits-mlp", **{**ASKED, "tuner": "adviser"}, out=tmp_path / "out")
