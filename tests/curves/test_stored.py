"""Curves in the store of runs: there and back, once, with an account, and from the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.compare.records import record
from typer.testing import CliRunner

from ratewise import cli
from ratewise.curves import Curve, Facts, Series, read
from ratewise.curves.importing import Named, import_logs
from ratewise.curves.stored import from_record, to_record
from ratewise.errors import InvalidArgument
from ratewise.runs import Store

CURVE = Curve(
    "mine",
    Series.of([1, 10], [0.1, 0.2]),
    Series.of([5, 10], [3.0, 2.0]),
    Series.of([8], [2.5]),
    Facts("adamw", "cosine", "words", 32, 1000, 0.5, 20),
    ("something",),
    12,
)


def same(a: Curve, b: Curve) -> bool:
    flat = [
        [(key, x.step.tolist(), x.value.tolist()) for key, x in one.series.items()]
        for one in (a, b)
    ]
    rest = [(one.name, one.facts, one.left_out, one.diverged_at) for one in (a, b)]
    return flat[0] == flat[1] and rest[0] == rest[1]


def test_a_curve_goes_into_the_store_and_comes_out(tmp_path: Path):
    with Store(tmp_path / "store") as store:
        store.add(to_record(CURVE))
        (found,) = store.load()
        assert same(from_record(found), CURVE)
        sql = "SELECT role, task, base_lr, steps, batch_size, parameters, passes FROM runs"
        assert store.query(sql) == [("imported", "words", 0.2, 20, 32, 1000, 0.5)]
    (curve,) = read(tmp_path / "store").curves
    assert same(curve, CURVE)


def test_the_same_curve_has_one_identity_and_another_number_another():
    assert to_record(CURVE).run_id == to_record(CURVE).run_id
    other = replace(CURVE, held_out_loss=Series.of([8], [np.nextafter(2.5, 3)]))
    assert to_record(other).run_id != to_record(CURVE).run_id


def test_runs_that_ratewise_made_are_curves_too():
    run = record()
    curve = from_record(run)
    assert curve.train_loss.step.tolist() == run.train_step
    assert curve.held_out_loss.value.tolist() == run.validation_loss
    assert (curve.facts.optimizer, curve.facts.total_steps) == ("adamw", 100)


def logs(folder: Path, lr: bool = True) -> Path:
    folder.mkdir()
    for name in ("a", "b"):
        rate = ",0.1" if lr else ""
        rows = "".join(f"{i},{3 - 0.1 * i + (name == 'b')}{rate}\n" for i in range(1, 9))
        (folder / f"{name}.csv").write_text(f"step,loss{',lr' if lr else ''}\n{rows}")
    return folder


def test_importing_twice_adds_once_and_says_so(tmp_path: Path):
    folder = logs(tmp_path / "logs")
    first = import_logs(folder, tmp_path / "store")
    assert first.summary.splitlines()[0].startswith("2 runs with 32 points were added to")
    again = import_logs(folder, tmp_path / "store")
    assert "2 runs were there already" in again.summary
    assert len(Store(tmp_path / "store").load()) == 2


def test_runs_without_rates_are_named_and_a_named_schedule_mends_it(tmp_path: Path):
    folder = logs(tmp_path / "logs", lr=False)
    bare = import_logs(folder, tmp_path / "bare")
    assert "2 runs have no rates (a, b): no law can be fitted" in bare.summary
    done = import_logs(folder, tmp_path / "store", schedule=Named("cosine", 0.1, 16))
    assert "no rates" not in done.summary
    curve = from_record(Store(tmp_path / "store").load()[0])
    assert curve.rates()[-1] == pytest.approx(0.05)
    assert (curve.facts.schedule, curve.facts.total_steps) == ("cosine", 16)


def test_the_command_reads_and_accounts(tmp_path: Path):
    folder, store = logs(tmp_path / "logs"), tmp_path / "store"
    (folder / "bad.csv").write_text("x,y\n1,2\n")
    with (folder / "a.csv").open("a") as file:
        file.write("9,na")
    asked = ["runs", "import", str(folder), "--out", str(store), "--task", "mine"]
    done = CliRunner().invoke(cli.app, [*asked, "--batch-size", "8"])
    assert done.exit_code == 0, done.output
    assert "2 runs with 32 points" in done.output
    assert "a: the last line, half-written" in done.output
    assert "bad: bad has no column of steps" in done.output
    assert {(run.task, run.batch_size) for run in Store(store).load()} == {("mine", 8)}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--schedule", "cosine"], "--schedule must be given with --peak-lr"),
        (["--columns", "step"], "--columns must be pairs with = between"),
        (["--branches", "a=x"], "unknown run 'x'"),
    ],
)
def test_what_the_command_refuses(tmp_path: Path, wrong: list[str], words: str):
    folder = logs(tmp_path / "logs")
    done = CliRunner().invoke(
        cli.app, ["runs", "import", str(folder), "--out", str(tmp_path / "s"), *wrong]
    )
    assert isinstance(done.exception, ValueError)
    assert words in str(done.exception)
    assert not isinstance(done.exception, InvalidArgument) or not (tmp_path / "s").exists()
