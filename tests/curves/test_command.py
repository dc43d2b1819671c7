"""`ratewise forecast`: a loss with its interval from a store of runs, or a refusal in one line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.curves.made import PEAK, curve, losses, rates, several
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


def begun(share: float, over: float = 0.0, **changes: object) -> curves.Curve:
    """Return the beginning of a run of 4,000 steps, whose losses lie above the law's."""
    whole = curve("cosine", PEAK, 4000)
    until = int(4000 * share)
    at, loss = whole.train_loss.until(until)
    known = {"lr": whole.lr.until(until), "train_loss": curves.Series.of(at, loss * (1 + over))}
    return replace(whole, name="now", **(known | changes))


def with_begun(store: Path, folder: Path, run: curves.Curve) -> Path:
    with Store(folder) as kept:
        kept.add_all([*Store(store).load(), to_record(run)])
    return folder


def loss_of(output: str) -> float:
    return float(re.search(r"training loss after 4,000 steps: (\S+) \[", output)[1])


def test_a_training_under_way_lends_its_losses(store: Path, tmp_path: Path):
    ends = []
    for over in (0.0, 0.004):
        now = with_begun(store, tmp_path / f"{over}", begun(0.5, over))
        done = asked(now, begun="now", plan=tmp_path / "plan.json", report=tmp_path / "page.md")
        assert done.exit_code == 0, done.exception
        assert "from 9 past runs" in done.output  # the run itself is none
        assert "run now so far: 2,000 of 4,000 steps" in done.output
        assert "were judged from" not in done.output
        ends.append(loss_of(done.output))
        assert plans.read(tmp_path / "plan.json").provenance["begun_steps"] == 2000
        assert "so far" in (tmp_path / "page.md").read_text()
    assert 0.25 * 0.004 < ends[1] / ends[0] - 1 < 1.1 * 0.004
    early = asked(with_begun(store, tmp_path / "early", begun(0.2)), begun="now")
    assert "judged from 30% of a run on" in early.output


def test_a_training_under_way_may_be_named_by_its_log(store: Path, tmp_path: Path):
    run = begun(0.5)
    losses = dict(zip(*map(np.ndarray.tolist, run.train_loss), strict=True))
    rows = [
        f"{step},{rate!r},{losses.get(step, '')}"
        for step, rate in zip(*map(np.ndarray.tolist, run.lr), strict=True)
    ]
    log = tmp_path / "now.csv"
    log.write_text("\n".join(["step,lr,train_loss", *rows]) + "\n")
    by_log = asked(store, begun=log)
    assert by_log.exit_code == 0, by_log.exception
    by_name = asked(with_begun(store, tmp_path / "both", run), begun="now")
    assert loss_of(by_log.output) == loss_of(by_name.output)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (begun(0.5, diverged_at=1990), "diverged at step 1990"),
        (curve("cosine", PEAK, 4000), "has 4,000 steps, the schedule 4,000"),
        (curve("constant", PEAK, 2000), "where the schedule has"),
        (begun(0.5, train_loss=curves.Series.empty()), "has no train loss"),
        (begun(0.5, over=1 / np.log(2) - 1), "look like bits"),
    ],
)
def test_a_run_that_is_not_this_training_is_named(
    store: Path, tmp_path: Path, run: curves.Curve, words: str
):
    done = asked(with_begun(store, tmp_path / "both", replace(run, name="now")), begun="now")
    assert isinstance(done.exception, InvalidArgument)
    assert words in str(done.exception)


def test_a_run_that_is_nowhere_is_named(store: Path):
    done = asked(store, begun="nothing")
    assert isinstance(done.exception, InvalidArgument)
    assert "--begun must be the name of a run in the store or the log of one" in str(done.exception)
