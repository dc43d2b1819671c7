"""The study of learned rates in miniature; what judges is apart, and claims can fail."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evidence.how import How
from evidence.nmf import numbers, plan, real
from evidence.nmf import run as running
from evidence.nmf.claims import WANTED, claims, reached, transferred
from evidence.nmf.methods import METHODS, Stack, run_stack, tried
from evidence.nmf.numbers import Outcome, Result, outcome
from evidence.results import Results
from ratewise.errors import StoreError
from ratewise.learning.factorisations import FactorisationRecipe, FactorisationSettings
from ratewise.learning.noisy_descent import Step
from ratewise.learning.ppo import learn
from ratewise.learning.random_factorisations import Shape, draw
from ratewise.nmf.learned import load


def how(out: Path, page: Path, **options: Any) -> How:
    """Return how the miniature is run: of the real sets, digits alone."""
    return How(out, page, data=str(out), progress=False, **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, plan.Settings, Outcome]:
    folder = tmp_path_factory.mktemp("nmf")
    names = []
    for seed in (0, 1):
        settings = FactorisationSettings(
            decisions=24,
            stacks=1,
            wide=0,
            problems=2,
            copies=4,
            windows=4,
            minibatch=24,
            seed=seed,
        )
        learn(FactorisationRecipe(settings), folder / f"seed-{seed}.safetensors", progress=False)
        names.append(str(folder / f"seed-{seed}.safetensors"))
    small = plan.Settings((2, 4), (3, 4), (2, 4), 60, 4, 50, 1, tuple(names))
    running.run(how(folder / "found", folder / "page.md"), small)
    return folder, small, outcome(Results(folder / "found" / "nmf.parquet"), small)


def test_a_miniature_writes_page_and_figures_and_goes_on(made):
    folder, small, _ = made
    text = (folder / "page.md").read_text()
    for needed in (
        "held out: 12 problems",
        "200 x 120",
        "60 steps",
        "digits",
        "cosine, median",
        "warmup-hold-decay, geometric mean",
        "seed-1",
        "digits, decaying",
    ):
        assert needed in text
    for picture in ("nmf-rates.png", "nmf-histories.png"):
        assert (folder / picture).stat().st_size > 10_000
    kept = folder / "found" / "nmf.parquet"
    before = kept.stat().st_mtime_ns
    for only in (False, True):
        running.run(how(kept.parent, folder / "page.md", page_only=only), small)
        assert (folder / "page.md").read_text() == text
    assert kept.stat().st_mtime_ns == before


def test_a_study_that_was_stopped_goes_on_with_what_is_missing(made, tmp_path: Path):
    folder, small, found = made
    whole, part = Results(folder / "found" / "nmf.parquet"), Results(tmp_path / "nmf.parquet")
    units = list(plan.tuning_units(small))
    policies = [load(name).digest for name in small.policies]
    units += list(plan.judging_units(small, found.chosen, policies))
    for unit in units[:-3]:  # stopped among the groups that are judged
        part.add(unit, whole.of(unit))
    running.run(how(tmp_path, tmp_path / "page.md"), small)
    assert (tmp_path / "page.md").read_text() == (folder / "page.md").read_text()
    again = Results(tmp_path / "nmf.parquet")
    assert all(again.of(unit) == whole.of(unit) for unit in units[:-3])  # with their seconds


def test_nothing_is_written_where_runs_are_missing(made, tmp_path: Path):
    with pytest.raises(StoreError, match="without --page-only"):
        running.run(How(tmp_path, tmp_path / "page.md", page_only=True), made[1])
    assert list(tmp_path.iterdir()) == []


def test_what_tunes_what_judges_and_what_teaches_are_different_problems():
    first, second = (plan.stacks(stream, (2, 2)) for stream in (plan.TUNING, plan.JUDGING))
    assert all(
        a.name != b.name or not torch.equal(a.problems.v, b.problems.v)
        for a in first
        for b in second
    )
    for seed in range(3):  # a policy draws from [seed, round]: never these streams
        assert plan.TUNING[0] != seed
        assert plan.JUDGING[0] != seed
    full = plan.Settings()
    assert full.judging[0] * full.judging[1] >= 500
    assert len(full.policies) >= 3


@pytest.mark.parametrize(
    ("name", "columns"), [("digits", 64), ("faces", 28 * 23), ("gene expression", 38)]
)
def test_parts_of_real_sets_are_stacks_for_each_kind_of_noise(name: str, columns: int):
    if name != "digits" and not os.environ.get("RATEWISE_DATA"):
        pytest.skip("RATEWISE_DATA names no data folder")
    found = real.stacks(name, 2, None)
    assert [one.name for one in found] == ["isotropic 0.1", "isotropic 0.5", "samples"]
    for one in found:
        assert one.problems.v.shape == (2, 100, columns)
        assert one.problems.v.min() >= 0
        torch.testing.assert_close(one.problems.v.mean((1, 2)), torch.ones(2))
    assert real.matrix(name, None)[0].shape[1] == columns


def stack() -> Stack:
    return plan.stacks(plan.TUNING, (1, 3))[0]


@pytest.mark.parametrize("name", METHODS)
def test_many_settings_at_once_are_each_alone(name: str):
    own, method = stack(), METHODS[name]
    settings = method.settings(3, seed=0)
    together = tried(method, own, settings)
    for column, one in enumerate(settings):
        alone = tried(method, own, [one])[:, 0]
        torch.testing.assert_close(together[:, column], alone, rtol=2e-2, atol=1e-6)


def test_open_schedules_have_their_shapes():
    seen = torch.zeros(1)
    nothing = Step(seen, seen, seen, seen)
    shapes = {}
    for name, setting in {
        "constant": {"c": 1.0},
        "step": {"c": 1.0, "gamma": 0.1, "drops": 1.0},
        "exponential": {"c": 1.0, "last": 0.01},
        "cosine": {"c": 1.0, "last": 0.0},
        "warmup-hold-decay": {"c": 1.0, "warmup": 0.1, "hold": 0.5, "last": 0.0},
    }.items():
        rule = METHODS[name].build({k: torch.tensor([v]) for k, v in setting.items()}, 100)
        rates = []
        for step in range(100):
            rates.append(float(rule.rate(step)))
            rule.heard(nothing)
        shapes[name] = rates
    assert set(shapes["constant"]) == {1.0}
    assert shapes["step"][49] == 1.0
    assert shapes["step"][50] == pytest.approx(0.1)
    assert shapes["exponential"][50] == pytest.approx(0.1)
    assert shapes["cosine"][50] == pytest.approx(0.5)
    whole = shapes["warmup-hold-decay"]
    assert whole[0] < 0.2
    assert whole[30] == 1.0
    assert whole[75] == pytest.approx(0.5)


def test_the_noise_formula_lowers_the_rate_by_the_share_of_the_noise():
    setting = {"c": 1.0, "warmup": 0.0, "hold": 0.9, "last": 0.0}
    for noise, inner, wanted in ((0.75, 0.0, 0.25), (0.0, 0.4, 0.4)):
        rule = METHODS["noise formula"].build(
            {k: torch.tensor([v]) for k, v in setting.items()}, 100
        )
        for _ in range(5):
            one = torch.ones(1)
            rule.heard(Step(one, inner * one, one, noise * one))
        assert float(rule.rate(5)) == pytest.approx(wanted, rel=1e-5)


def result(ours: float, spread: float = 0.1) -> Result:
    rng = np.random.default_rng(0)
    base = [rng.uniform(0.01, 0.1, 16) for _ in range(20)]
    mine = [x * ours * np.exp(spread * rng.standard_normal(16)) for x in base]
    losses = {"learned p": [x.tolist() for x in mine]}
    losses |= {name: [x.tolist() for x in base] for name in METHODS}
    floors = [(x * np.where(np.arange(16) < 8, 0.2, 0.9)).tolist() for x in base]
    return Result("held out", [""] * 20, losses, {"p": 0.0}, floors)


@pytest.mark.parametrize(("ours", "wanted"), [(0.8, True), (0.97, False), (1.0, False)])
def test_a_claim_is_reached_only_if_the_numbers_say_so(ours: float, wanted: bool):
    found = numbers.median_interval(result(ours), "learned p", "cosine")
    assert reached(found, WANTED["cosine"]) is wanted
    (claim,) = [c for c in claims([result(ours)], ["learned p"]) if c.title == "cosine, median"]
    assert (claim.outcome == "held") is wanted
    assert math.exp(found.estimate) == pytest.approx(ours, rel=0.05)


def test_a_tail_of_failures_is_seen():
    bad = result(0.9)
    bad.losses["learned p"][0] = [10.0] * 16
    bad.losses["learned p"][1] = [math.inf] * 16
    assert numbers.tail(bad, "learned p", "cosine") > 10
    assert numbers.tail(result(0.9), "learned p", "cosine") < 1.2
    assert [
        transferred(numbers.mean_interval(one, "learned p", "cosine"))
        for one in (result(0.9), bad, result(1.05))
    ] == [True, None, False]


def test_misfit_is_what_no_rate_removes_and_tells_problems_apart():
    exact, short = (draw(Shape(20, 24, 4, 40), 40, np.random.default_rng(seed)) for seed in (0, 1))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(40, *size, generator=generator) for size in ((20, 4), (4, 24)))
    exact = replace(exact, v=a @ b)
    short = replace(short, v=torch.rand(40, 20, 24, generator=generator))  # of full rank
    assert running.misfit(exact, 300).median() < 0.01 < 0.1 < running.misfit(short, 300).min()
    both = numbers.parts(result(0.8), "learned p", "cosine")
    assert [sum(len(x) for x in both[free]) for free in (True, False)] == [160, 160]


def test_runs_of_a_method_differ_only_by_their_rates():
    own = stack()
    one = METHODS["constant"].build({"c": torch.full((3,), 0.5)}, own.steps)
    same = METHODS["exponential"].build(
        {"c": torch.full((3,), 0.5), "last": torch.ones(3)}, own.steps
    )
    assert torch.equal(run_stack(own, one), run_stack(own, same))
