"""The study of the defaults in miniature: it runs, resumes, and keeps its tasks apart."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from evidence.greedy_defaults import plan
from evidence.greedy_defaults import run as running
from evidence.greedy_defaults.numbers import Score, finalists, scores
from evidence.greedy_defaults.plan import OPTIMIZERS, Round, Settings
from evidence.how import How
from ratewise.compare.tuning import MethodOnTask, Tuned
from ratewise.rules.greedy_config import GreedyConfig

SMALL = Settings(
    windows=(1,),
    paces=((0.9, 3), (0.5, 0)),
    rounds=(
        Round(("diabetes-mlp",), tuning_seeds=1, steps=15),
        Round(("breast-cancer-mlp",), tuning_seeds=1, steps=15),
        Round(("digits-mlp",), tuning_seeds=1, seeds=2, steps=15),
    ),
    rates=2,
    judged=("cosine", "linear"),
)


def test_a_miniature_writes_its_page_and_goes_on_without_repeating(tmp_path: Path):
    page = tmp_path / "page.md"
    chosen = running.run(How(tmp_path / "runs", page, data=None, progress=False), SMALL)
    assert set(chosen) == {"factor", "patience", "window", "reference", "plateau"}
    text = page.read_text()
    for needed in (
        "Chosen: **factor=",
        "Round 1",
        "Round 3",
        "`greedy`: the first goal is",
        "diabetes",
    ):
        assert needed in text
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.parquet")}
    page.unlink()
    running.run(How(tmp_path / "runs", page, data=None, progress=False), SMALL)
    assert page.read_text() == text
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.parquet")}


def test_no_task_is_used_in_two_rounds():
    rounds = Settings().rounds
    names = [task for part in rounds for task in part.tasks]
    assert len(names) == len(set(names))
    assert len(rounds[2].tasks) >= 4
    assert rounds[2].seeds >= 8


def test_all_combinations_are_candidates_once():
    candidates = Settings().candidates()
    assert len(candidates) == len({str(options) for options in candidates}) == 5 * 4 * 2 * 2
    for options in candidates:
        GreedyConfig(**options)


def test_scores_are_log_ratios_to_tuned_cosine():
    options = Settings().candidates()[0]
    name = plan.label(options)
    tuned = {}
    for optimizer, ours, theirs in (("sgd", 0.9, 1.0), ("adamw", math.inf, 1.0)):
        for schedule, found in ((name, ours), ("cosine", theirs)):
            tuned[MethodOnTask("t", optimizer, schedule)] = Tuned(0.1, found, 0, 2)
    (score,) = scores(tuned, [options])
    assert score.log_ratios["t", "sgd"] == pytest.approx(math.log(0.9))
    assert score.log_ratios["t", "adamw"] == pytest.approx(math.log(10))
    assert score.mean == pytest.approx((math.log(0.9) + math.log(10)) / 2)
    assert len(OPTIMIZERS) == 2


def test_finalists_are_different_but_for_plateau():
    base = Settings().candidates()
    ranked = [Score(str(i), options, {("t", "o"): float(i)}) for i, options in enumerate(base)]
    chosen = finalists(ranked)
    keys = [tuple(v for k, v in options.items() if k != "plateau") for options in chosen]
    assert len(chosen) == len(set(keys)) == plan.FINALISTS
    assert chosen[0] == base[0]


def test_the_package_s_defaults_are_the_ones_the_page_chose():
    page = Path(__file__).parents[2] / "docs" / "evidence" / "greedylr-defaults.md"
    text = page.read_text()
    defaults = dataclasses.asdict(GreedyConfig())
    line = next(line for line in text.splitlines() if line.startswith("Chosen: "))
    for name in ("factor", "patience", "window", "reference", "plateau"):
        assert f"{name}={defaults[name]!r}" in line
