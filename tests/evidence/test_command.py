"""`python -m evidence`: what it lists, refuses and says, in one line and with status 2."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from evidence import __main__ as command
from evidence import results
from evidence.how import How
from ratewise.pool import Where


def test_every_study_is_listed_and_can_be_run(capsys: pytest.CaptureFixture[str]):
    assert command.main(["--list"]) == 0
    listed = capsys.readouterr().out
    for name, study in command.STUDIES.items():
        assert f"{name}\n" in listed
        assert study.shows in listed
        module = importlib.import_module(f"evidence.{study.module}")
        assert "" in module.SIZES
        assert callable(module.run)


def test_every_page_has_a_study():
    root = Path(__file__).parents[2]
    pages = {path.name for path in (root / command.PAGES).glob("*.md")}
    by_hand = {"claims.md", "index.md"}  # test_stated_numbers.py checks claims against the others
    assert pages - by_hand <= {command.page_of(name).name for name in command.STUDIES}


KEPT = [n for n in command.STUDIES if (results.FOLDER / f"{n.replace('-', '_')}.parquet").exists()]


@pytest.mark.parametrize("name", KEPT)
def test_a_page_is_what_the_results_that_are_kept_say(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    published = Path(__file__).parents[2] / command.page_of(name)
    page = tmp_path / published.name
    module = name.replace("-", "_")  # its other name
    status = command.main([module, "--page-only", "--page", str(page)])
    said = capsys.readouterr().err
    if "no data folder was named" in said:
        pytest.skip("needs data: set RATEWISE_DATA")
    assert status == 0, said
    assert page.read_text(encoding="utf-8") == published.read_text(encoding="utf-8")


def test_some_results_are_kept():
    assert {"robustness", "nmf", "coverage", "greedy-defaults"} <= set(KEPT)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["robustnes"], "unknown study 'robustnes': did you mean 'robustness'?"),
        (["article", "--data", "nowhere"], "looked for nowhere"),
        (["robustness", "--jobs", "0"], "jobs must be an integer >= 1, got 0"),
        (["nmf", "--full", "--page-only"], "--full is no size of nmf: it has no other size"),
        (["robustness", "--full", "--quick"], "exclude each other"),
        (["update-ratio", "--page-only", "--out", "absent"], "update_ratio.parquet lacks runs"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
):
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_ctrl_c_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from evidence.robustness import run

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", stopped)
    assert command.main(["robustness", "--jobs", "3"]) == 130
    assert "`python -m evidence robustness --jobs 3` goes on there" in capsys.readouterr().err


def test_what_is_not_installed_is_told_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name, name="jinja2")

    monkeypatch.setattr(importlib, "import_module", absent)
    assert command.main(["robustness"]) == 2
    assert "'jinja2' is not installed" in capsys.readouterr().err


def test_where_runs_and_pages_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from evidence.robustness import run as kept
    from evidence.update_ratio import run as stored

    called: list[tuple[object, ...]] = []

    def note(how: How, settings: object) -> None:
        called.append((how, os.environ.get("RATEWISE_DATA")))

    monkeypatch.setenv("RATEWISE_DATA", "elsewhere")
    monkeypatch.setattr(kept, "run", note)
    monkeypatch.setattr(stored, "run", note)
    assert command.main(["robustness", "--page-only"]) == 0
    asked = ["--data", "here", "--out", str(tmp_path), "--page", "p.md", "--jobs", "3"]
    assert command.main(["update-ratio", "--page-only", *asked]) == 0
    assert called == [
        (
            How(results.FOLDER, command.PAGES / "robustness.md", None, Where(jobs=2), True),
            "elsewhere",
        ),
        (
            How(tmp_path, Path("p.md"), "here", Where(jobs=3), True),
            "here",
        ),  # processes that simulate look there
    ]
