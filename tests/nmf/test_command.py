"""`ratewise nmf fit`: factors, a picture and a summary from each kind of file; one-line errors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from tests.nmf import damaged
from tests.nmf.test_estimator import data
from typer.testing import CliRunner

from ratewise import cli
from ratewise.errors import UnknownName
from ratewise.nmf import StochasticNMF, fit_file
from ratewise.nmf.checks import InterruptedWarning
from ratewise.nmf.command import PICTURE

X = data()
FORMATS = {
    "x.npy": lambda path: np.save(path, X),
    "x.npz": lambda path: sp.save_npz(path, sp.csr_matrix(X)),
    "x.csv": lambda path: np.savetxt(path, X, delimiter=","),
    "x.mtx": lambda path: scipy.io.mmwrite(path, sp.csr_matrix(X)),
}


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, ["nmf", "fit", *map(str, arguments)])


def failed(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: Any) -> str:
    """Return the error's line of a command that has to fail."""
    monkeypatch.setattr(sys, "argv", ["ratewise", "nmf", "fit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("name", FORMATS)
def test_factors_a_picture_and_a_summary_come_from_every_format(name: str, tmp_path: Path):
    FORMATS[name](tmp_path / name)
    out = tmp_path / "deep" / "out"
    done = run(tmp_path / name, "--components", 3, "--out", out)
    assert done.exit_code == 0, done.output
    w, h = np.load(out / "W.npy"), np.load(out / "H.npy")
    model = StochasticNMF(3, random_state=0)
    np.testing.assert_allclose(w, model.fit_transform(X), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(h, model.components_, rtol=1e-5, atol=1e-7)
    error = np.linalg.norm(X - w @ h) / np.linalg.norm(X)
    summary = (out / "summary.txt").read_text()
    assert summary in done.stdout
    stored = "dense" if name in ("x.npy", "x.csv") else f"{np.count_nonzero(X)} stored"
    assert f"{name}: 90 x 12, {stored}; 3 components" in summary
    assert f"|X - W H| / |X| = {error:.6g}"[:26] in summary
    assert f"{model.n_iter_} passes, " in summary
    assert (out / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == [
        "H.npy",
        "W.npy",
        PICTURE,
        "summary.txt",
    ]


def test_settings_reach_the_model(tmp_path: Path):
    FORMATS["x.npy"](tmp_path / "x.npy")
    arguments = [tmp_path / "x.npy", "--components", 2, "--out", tmp_path / "out"]
    chosen = ["--solver", "sgd", "--schedule", "cosine", "--batch-size", 30, "--max-iter", 7]
    done = run(*arguments, *chosen, "--tol", 0, "--seed", 5, "--init", "random")
    assert done.exit_code == 0, done.output
    settings = {"solver": "sgd", "schedule": "cosine", "batch_size": 30, "max_iter": 7, "tol": 0}
    model = StochasticNMF(2, **settings, random_state=5, init="random").fit(X)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "H.npy"), model.components_)
    assert "7 passes, 21 mini-batches" in done.output
    end = (1 + np.cos(np.pi * 20 / 21)) / 2
    assert f"rate, in multiples of 1 / L: first 1, last {end:.3g}, least {end:.3g}" in done.output


def test_the_picture_has_what_the_fit_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ratewise.nmf import command

    drawn: list[Any] = []

    def draw(panels: Any, path: Path, **_: Any) -> None:
        drawn.append(panels)
        path.touch()

    monkeypatch.setattr(command, "save_panels", draw)
    FORMATS["x.npy"](tmp_path / "x.npy")
    for solver in ("hals", "sgd"):
        model = fit_file(tmp_path / "x.npy", tmp_path / solver, 3, solver=solver).model
        error, *rate = drawn.pop()
        (line,) = error.lines
        assert line.y[-1] == pytest.approx(model.reconstruction_err_ / np.linalg.norm(X))
        assert len(line.x) == len(line.y) == model.n_iter_
        assert len(rate) == (solver == "sgd")
        if rate:
            assert rate[0].lines[0].y == model.rate_history_.tolist()
            assert set(rate[0].lines[1].y) == {2.0}


def test_a_warning_is_one_line(tmp_path: Path):
    FORMATS["x.npy"](tmp_path / "x.npy")
    done = run(tmp_path / "x.npy", "--components", 13, "--max-iter", 2, "--out", tmp_path / "out")
    assert done.exit_code == 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("ratewise: n_components=13 is more than the rank of X, 12")
    assert lines[1].startswith("ratewise: max_iter=2 passes were made")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.npy", "--components", 2], "none.npy is missing"),
        (["x.txt", "--components", 2], "DATA must be a file in .npy"),
        (["bad.csv", "--components", 2], "bad.csv cannot be read as .csv"),
        (["negative.csv", "--components", 2], "X must be >= 0 everywhere, got -1.0"),
        (["gap.csv", "--components", 2], "NaN"),
        (["x.npy", "--components", 0], "n_components must be None, 'auto' or an integer >= 1"),
        (["x.npy", "--components", 2, "--solver", "hal"], "did you mean 'hals'"),
        (["x.npy", "--components", 2, "--schedule", "cosin"], "did you mean 'cosine'"),
        (["x.npy", "--components", 2, "--batch-size", 0], "batch_size must be"),
        (["x.npy", "--components", 2, "--out", "bad.csv"], "--out must be a folder"),
        (["x.npy", "--components", 2, "--out", "bad.csv/deep/out"], "--out must be a folder"),
        (["outside.npz", "--components", 2], "outside.npz is damaged: an index of 1073741824"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    arguments: list[Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.chdir(tmp_path)
    FORMATS["x.npy"](Path("x.npy"))
    Path("bad.csv").write_text("1,2\n3,x\n")
    Path("negative.csv").write_text("1,2\n3,-1\n")
    Path("gap.csv").write_text("1,2\n3,nan\n")
    damaged.save("outside.npz", "csr", "a large index")
    before = {path: path.read_bytes() for path in Path().iterdir()}
    line = failed(monkeypatch, capsys, *arguments)
    assert line.startswith("ratewise: ")
    assert words in line
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_components_have_to_be_said(tmp_path: Path):
    done = run(tmp_path / "x.npy")
    assert done.exit_code == 2
    assert "--components" in done.output


def test_ctrl_c_leaves_the_components_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ratewise.nmf import command

    class Interrupted(StochasticNMF):
        def _after_step(self, codes: Any, parts: Any) -> None:
            if self._solver.steps == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(command, "StochasticNMF", Interrupted)
    FORMATS["x.npy"](tmp_path / "x.npy")
    out = tmp_path / "out"
    with (
        pytest.warns(InterruptedWarning, match="interrupted in pass"),
        pytest.warns(InterruptedWarning, match="has the components so far"),
        pytest.raises(KeyboardInterrupt),
    ):
        fit_file(tmp_path / "x.npy", out, 3, max_iter=9)
    assert [path.name for path in out.iterdir()] == ["H.npy"]
    assert np.load(out / "H.npy").shape == (3, 12)
    done = run(tmp_path / "x.npy", "--components", 3, "--out", out)
    assert done.exit_code == 130
    assert done.stderr.splitlines()[0].startswith("ratewise: interrupted in pass")
    assert done.stderr.splitlines()[1:] == [
        f"ratewise: {out / 'H.npy'} has the components so far",
        f"ratewise: stopped; the same command starts again and replaces its files in {out}",
    ]


def test_without_matplotlib_there_is_all_but_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    FORMATS["x.npy"](tmp_path / "x.npy")
    done = fit_file(tmp_path / "x.npy", tmp_path / "out", 3)
    assert [path.name for path in done.files] == ["W.npy", "H.npy", "summary.txt"]
    assert f"no {PICTURE}: it needs matplotlib" in (tmp_path / "out" / "summary.txt").read_text()


def test_an_earlier_result_is_replaced(tmp_path: Path):
    FORMATS["x.npy"](tmp_path / "x.npy")
    for k in (2, 3):
        done = fit_file(tmp_path / "x.npy", tmp_path / "out", k)
        assert np.load(tmp_path / "out" / "H.npy").shape == (k, 12)
    assert len(done.files) == len(list((tmp_path / "out").iterdir())) == 4
    with pytest.raises(UnknownName, match="solver"):
        fit_file(tmp_path / "x.npy", tmp_path / "out", 2, solver="none")
    assert np.load(tmp_path / "out" / "H.npy").shape == (3, 12)


@pytest.mark.parametrize("name", ["W.npy", "summary.txt", PICTURE])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    FORMATS["x.npy"](tmp_path / "x.npy")
    (tmp_path / "out").mkdir()
    replace = os.replace

    def full(path: Path, target: Path) -> None:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(path, target)

    monkeypatch.setattr(os, "replace", full)
    arguments = [tmp_path / "x.npy", "--components", 2, "--out", tmp_path / "out"]
    line = failed(monkeypatch, capsys, *arguments)
    assert f"{name} cannot be written (No space left on device)" in line
    assert not [path for path in (tmp_path / "out").iterdir() if "tmp" in path.name]
    assert not (tmp_path / "out" / name).exists()
    monkeypatch.undo()
    assert run(*arguments).exit_code == 0


def test_without_scikit_learn_the_extra_is_named(tmp_path: Path):
    ask = """
import sys
sys.modules["sklearn"] = None
import ratewise, ratewise.nmf
from ratewise.errors import MissingExtra
for get in (lambda: ratewise.StochasticNMF, lambda: ratewise.nmf.fit_file):
    try:
        get()
    except MissingExtra as error:
        print(error)
from ratewise.cli import main
sys.argv = ["ratewise", "nmf", "fit", "x.npy", "--components", "2"]
main()
"""
    line = [sys.executable, "-c", ask]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    words = "ratewise.nmf needs 'sklearn', which is not installed: pip install 'ratewise[nmf]'"
    assert done.stdout.splitlines() == [words, words]
    said = words.replace("ratewise.nmf", "this command")
    assert done.stderr.splitlines() == [f"ratewise: {said}"]
    assert done.returncode == 2
