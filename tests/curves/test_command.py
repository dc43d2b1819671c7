"""`ratewise forecast`: a loss with its interval from a store of runs, or a refusal in one line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.curves.made import PEAK, losses, rates, several
from typer.testing import CliRunner

from ratewise import cli, curves
from ratewise.curves.stored import to_record
from ratewise.errors import InvalidArgument
from ratewise.rules import plan as plans
from ratewise.runs import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "store"
    with Store(folder) as kept:
        wild = replace(several()[0], name="wild", diverged_at=7)
        kept.add_all(to_record(one) for one in [*several()[1::2], wild])
    return folder


def asked(store: Path, **options: object):
    said = {"schedule": "cosine", "peak-lr": PEAK, "total-steps": 4000, "warmup-steps": 100}
    words = [str(x) for name, value in (said | options).items() for x in (f"--{name}", value)]
    return CliRunner().invoke(cli.app, ["forecast", str(store), *words])


def test_it_says_where_a_longer_run_will_end_and_what_that_rests_on(store: Path):
    done = asked(store)
    assert done.exit_code == 0, done.exception
    said = re.search(r"training loss after 4,000 steps: (\S+) \[(\S+), (\S+)\]", done.output)
    loss, low, high = map(float, said.groups())
    true = float(losses("functional", rates("cosine", PEAK, 4000), np.array([4000]))[0])
    assert loss == pytest.approx(true, rel=5e-3)
    assert low < loss < high
    assert "from 9 past runs, by the functional scaling law, arXiv 2509.19189" in done.output
    constants = [line for line in done.output.splitlines() if line.startswith("  ") and "[" in line]
    assert ", ".join(constants).count("[") >= 7
    assert max(map(len, constants)) <= 120
    assert "~" not in done.output
    assert "wild: it diverged at step 7" in done.output


def test_runs_of_two_models_are_not_fitted_together(tmp_path: Path):
    with Store(tmp_path / "both") as kept:
        kept.add_all(
            to_record(replace(one, name=f"{model}/{one.name}"))
            for one in several()[1::2]
            for model in ("large", "small")
        )
    done = asked(tmp_path / "both")
    assert isinstance(done.exception, InvalidArgument)
    assert "runs of 2 tasks" in str(done.exception)
    assert "'large', 'small'" in str(done.exception) or "large, small" in str(done.exception)
    alone = asked(tmp_path / "both", task="small")
    assert alone.exit_code == 0, alone.exception
    assert "from 9 past runs" in alone.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"peak-lr": 0.1}, "no past run comes near this schedule"),
        ({"task": "other"}, "has no run of task 'other'"),
        ({"loss": "held_out"}, "got 0"),
    ],
)
def test_what_is_not_known_is_said(store: Path, options: dict, words: str):
    done = asked(store, **options)
    assert isinstance(done.exception, InvalidArgument)
    assert words in str(done.exception)


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_it_writes_a_plan_and_a_page(store: Path, tmp_path: Path, suffix: str):
    plan, page = tmp_path / "plan.json", (tmp_path / "page").with_suffix(suffix)
    done = asked(store, plan=plan, report=page)
    assert done.exit_code == 0, done.exception
    assert f"PlannedLR(optimizer, {str(plan)!r})" in done.output
    read = plans.read(plan)
    wanted = curves.scheduled("cosine", PEAK, 4000, warmup_steps=100)
    assert np.abs(read.rates() - wanted).max() <= 1e-4 * PEAK
    assert read.provenance["runs_in_all"] == 9
    assert f"{read.forecast['loss']:.4f}" in done.output
    text = page.read_text()
    assert read.digest in text
    assert f"{read.forecast['loss']:.4f} [" in text
    assert all(one.name in text for one in several()[1::2])
    if suffix == ".md":
        assert page.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "data:image/png;base64," in text


def test_a_name_from_a_log_is_no_markup(store: Path, tmp_path: Path):
    odd = "<script>|```"
    with Store(tmp_path / "odd") as kept:
        first, *rest = several()[1::2]
        kept.add_all(to_record(one) for one in [replace(first, name=odd), *rest])
    for page in (tmp_path / "page.html", tmp_path / "page.md"):
        assert asked(tmp_path / "odd", report=page).exit_code == 0
        if page.suffix == ".html":
            assert "<script>" not in page.read_text()
        else:
            assert page.read_text().count("```") == 2 + 1  # the fence, and the name in its table


@pytest.mark.parametrize(
    ("options", "words"),
    [({"plan": "plan.txt"}, "--plan must be"), ({"report": "page.pdf"}, "--report must be")],
)
def test_a_file_of_another_kind_is_named_before_anything_is_fitted(
    store: Path, options: dict, words: str
):
    done = asked(store, **options)
    assert isinstance(done.exception, InvalidArgument)
    assert words in str(done.exception)


def test_nothing_is_written_for_what_no_run_comes_near(store: Path, tmp_path: Path):
    done = asked(store, plan=tmp_path / "plan.json", report=tmp_path / "a.md", **{"peak-lr": 0.1})
    assert isinstance(done.exception, InvalidArgument)
    assert not list(tmp_path.iterdir())
