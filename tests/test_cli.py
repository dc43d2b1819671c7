"""The command line: what it prints, what it refuses, in one line and with status 2."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.compare.records import stored
from typer.testing import CliRunner

import ratewise
from ratewise import cli
from ratewise.learning import update_ratio_env
from ratewise.learning.tasks import KINDS
from ratewise.rules import learned
from ratewise.runs import Store


class Ended(NamedTuple):
    """What a command leaves behind."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def command(tmp_path: Path, monkeypatch, capsys) -> Callable[..., Ended]:
    """What a shell would start in `tmp_path`, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ratewise", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Ended(end.value.code or 0, *capsys.readouterr())

    return run


def test_compare_then_report(tmp_path: Path, command):
    asked = ["--tasks", "digits-mlp", "--schedules", "greedy,cosine", "--seeds", "2"]
    short = ["--rates", "0.001,0.01", "--steps", "20", "--out", "out"]
    done = command("compare", *asked, *short)
    assert done.status == 0, done.stderr
    assert "digits-mlp, adamw" in done.stdout
    assert done.stdout.rstrip().endswith("report: out/index.html")
    for name in ("index.html", "report.md", "figures/schedules.png", "sweep.json"):
        assert (tmp_path / "out" / name).exists(), name
    (tmp_path / "out" / "index.html").unlink()
    again = command("report", "out")
    assert again.status == 0, again.stderr
    assert again.stdout == done.stdout
    assert (tmp_path / "out" / "index.html").exists()


STOPPED = {
    ("compare",): ("ratewise.compare.sweep.run", "are kept in report; the same command continues"),
    ("report", "."): ("ratewise.compare.report.write", "the same command writes the report again"),
    ("learn",): (
        "ratewise.learning.ppo.learn",
        "policy.safetensors; the same command continues",
    ),
    ("nmf", "fit", "x.npy", "--components", "2"): ("ratewise.nmf.fit_file", "starts again"),
    ("forecast", "s", "--schedule", "linear", "--peak-lr", "1", "--total-steps", "9"): (
        "ratewise.curves.command.forecast",
        "the same command starts again",
    ),
    ("tune", "--task", "digits-mlp", "--store", "past"): (
        "ratewise.compare.advised.tune",
        "are kept in past; the same command continues",
    ),
    ("runs", "import", "logs", "--out", "kept"): (
        "ratewise.curves.importing.import_logs",
        "are kept in kept; the same command continues",
    ),
}


@pytest.mark.parametrize("arguments", STOPPED, ids=" ".join)
def test_ctrl_c_says_how_to_go_on_and_exits_130(tmp_path: Path, monkeypatch, arguments):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    stored(Store(tmp_path), lambda *_: 0.5)
    target, words = STOPPED[arguments]
    module, name = target.rsplit(".", 1)
    monkeypatch.setattr(importlib.import_module(module), name, stopped)
    done = CliRunner().invoke(cli.app, list(arguments))
    assert done.exit_code == 130
    assert done.output.startswith("ratewise: stopped; ")
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_every_command_says_how_to_go_on():
    groups = {"": cli.app, "nmf ": cli.nmf, "runs ": cli.runs}
    known = {" ".join(arguments[:2]) for arguments in STOPPED}
    for prefix, group in groups.items():
        for one in group.registered_commands:
            name = prefix + (one.name or one.callback.__name__)
            assert any(f"{entry} ".startswith(f"{name} ") for entry in known), name


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group of processes")
def test_ctrl_c_on_a_terminal_stops_workers_too_and_the_command_goes_on(tmp_path: Path):
    line = [sys.executable, "-m", "ratewise", "compare", "--tasks", "digits-mlp", "--jobs", "2"]
    line += [
        "--schedules",
        "cosine,greedy",
        "--seeds",
        "2",
        "--rates",
        "0.001,0.01",
        "--out",
        "out",
    ]
    process = subprocess.Popen(
        [*line, "--steps", "400"], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 200
    while not list((tmp_path / "out").glob("runs/*.parquet")) and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 130, errors
    said = "ratewise: stopped; finished runs are kept in out; the same command continues with the"
    lines = [line for line in errors.splitlines() if not re.match(r"[\w ]+: \d+/\d+", line)]
    assert len(lines) == 1, "beside how far it has come, on a slow machine"
    assert lines[0].startswith(said)
    assert Store(tmp_path / "out").load()


LIMITED = """
import resource, sys
from ratewise.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
main()
"""


def test_a_disk_that_is_full_is_one_line_and_the_same_command_goes_on(tmp_path: Path):
    def limited(size: int) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", LIMITED, str(size), "report", "out"]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=900)

    store = stored(Store(tmp_path / "out"), lambda *_: 0.5)
    before = store.load()
    for size, name in ((1_000, "figures/schedules.png"), (1_000_000, "index.html")):
        done = limited(size)
        assert done.returncode == 2, done.stderr
        assert f"out/{name} cannot be written (File too large): make room" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not list((tmp_path / "out").rglob(".tmp-*"))
        assert not (tmp_path / "out" / "index.html").exists()
        assert store.load() == before
    assert limited(100_000_000).returncode == 0
    assert (tmp_path / "out" / "index.html").exists()


def test_names_are_listed(command):
    done = command("compare", "--list")
    for name in ("pydoc-gru", "california-housing", "adafactor", "greedy-article"):
        assert name in done.stdout


def test_kinds_of_tasks_are_listed(command):
    assert command("learn", "--list").stdout.split() == [*KINDS, "nmf"]


def test_a_policy_is_learned_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = {"groups": 1, "trainings": 1, "copies": 2, "windows": 5, "minibatch": 8}
    monkeypatch.setattr(
        update_ratio_env,
        "UpdateRatioSettings",
        partial(update_ratio_env.UpdateRatioSettings, **small),
    )
    out = tmp_path / "own.safetensors"
    asked = ["learn", "--tasks", "mlp", "--steps", "1", "--out", str(out)]
    done = CliRunner().invoke(cli.app, asked)
    assert done.exit_code == 0, done.output
    assert f"policy: {out}" in done.output
    first = learned.load(out)
    assert first.provenance["tasks"] == ["mlp"]
    assert (tmp_path / "own.curve.json").exists()
    again = CliRunner().invoke(cli.app, asked)  # it is learned already
    assert again.exit_code == 0, again.output
    assert learned.load(out).digest == first.digest


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [("--version", 0, ratewise.__version__), ("report absent", 2, "a folder that exists")],
)
def test_the_package_is_a_command_in_a_process_of_its_own(tmp_path, arguments, status, words):
    line = [sys.executable, "-m", "ratewise", *arguments.split()]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == status
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--schedules", "cosin"], "did you mean 'cosine'"),
        (["compare", "--tasks", "digit-mlp"], "did you mean 'digits-mlp'"),
        (["compare", "--optimizers", "adam"], "did you mean 'adamw'"),
        (["compare", "--seeds", "0"], "seeds must be an integer >= 1, got 0"),
        (["compare", "--rates", "big"], "--rates must be numbers or a count"),
        (["compare", "--tasks", "fashion-cnn", "--data", "nowhere"], "looked for nowhere"),
        (["compare", "--out", "full"], "full is not a ratewise store, it holds letter.txt"),
        (["compare", "--out", "full/letter.txt"], "is a file"),
        (["learn", "--tasks", "convent"], "did you mean 'convnet'"),
        (["learn", "--steps", "0"], "decisions must be an integer >= 1, got 0"),
        (["learn", "--out", "policy.pt"], "--out must be a file that ends in .safetensors"),
        (["nmf", "fit", "absent.npy", "--components", "2"], "absent.npy is missing"),
        (["nmf", "fit", "full/letter.txt", "--components", "2"], "DATA must be a file in .npy"),
        (["report", "absent"], "a folder that exists"),
        (["report", "full"], "is not a ratewise store"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(tmp_path: Path, command, arguments, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    done = command(*arguments)
    assert done.status == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"
