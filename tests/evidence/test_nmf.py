"""The study of learned rates in miniature; what judges is apart, and claims can fail."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evidence.how import How
from evidence.nmf import numbers, plan, problems, real, runs
from evidence.nmf import run as running
from evidence.nmf.claims import claims, reached
from evidence.nmf.methods import METHODS, Stack, reseeded, run_stack, tried
from evidence.nmf.numbers import HINDSIGHT, ONE, PROBLEM, TUNED, Group, Outcome, judged, outcome
from evidence.results import Results
from ratewise.errors import StoreError
from ratewise.learning.factorisations import FactorisationRecipe, FactorisationSettings
from ratewise.learning.noisy_descent import Step
from ratewise.learning.ppo import learn
from ratewise.learning.random_factorisations import Shape, draw


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
    small = plan.Settings((2, 2), (3, 2), (2, 1), 2, 60, 3, 2, 1, 50, 1, tuple(names))
    data = str(folder)  # where no set lies: digits come with the packages
    running.run(How(folder / "found", folder / "page.md", data, progress=False), small)
    return folder, small, outcome(Results(folder / "found" / "nmf.parquet"), small)


def test_a_miniature_writes_page_and_figures_and_goes_on(made):
    folder, small, _ = made
    text = (folder / "page.md").read_text()
    for needed in (
        "held out: 6 problems",
        "200 x 120",
        "60 steps",
        "digits",
        "held out: cosine, tuned per problem",
        "held out: step, in hindsight",
        "one setting for all",
        "seed-1",
        "digits, decaying",
    ):
        assert needed in text
    for picture in ("nmf-rates.png", "nmf-histories.png"):
        assert (folder / picture).stat().st_size > 10_000
    kept = folder / "found" / "nmf.parquet"
    before = kept.stat().st_mtime_ns
    for only in (False, True):
        how = How(kept.parent, folder / "page.md", str(folder), page_only=only, progress=False)
        running.run(how, small)
        assert (folder / "page.md").read_text() == text
    assert kept.stat().st_mtime_ns == before


def test_a_study_that_was_stopped_goes_on_with_what_is_missing(made, tmp_path: Path, capsys):
    folder, small, _ = made
    whole, part = Results(folder / "found" / "nmf.parquet"), Results(tmp_path / "nmf.parquet")
    units = [unit for unit in plan.units(small) if unit in whole]
    for unit in units[:-3]:
        part.add(unit, whole.of(unit))
    running.run(How(tmp_path, tmp_path / "page.md", str(tmp_path)), small)
    assert (tmp_path / "page.md").read_text() == (folder / "page.md").read_text()
    again = Results(tmp_path / "nmf.parquet")
    assert all(again.of(unit) == whole.of(unit) for unit in units[:-3])  # with their seconds
    assert "about, on one core" in capsys.readouterr().out


def test_nothing_is_written_where_runs_are_missing(made, tmp_path: Path):
    with pytest.raises(StoreError, match="without --page-only"):
        running.run(How(tmp_path, tmp_path / "page.md", page_only=True), made[1])
    assert list(tmp_path.iterdir()) == []


def test_results_of_other_code_are_not_taken(made, monkeypatch: pytest.MonkeyPatch):
    folder, small, _ = made
    results = Results(folder / "found" / "nmf.parquet")
    assert all(unit in results for unit in list(plan.units(small))[:20])
    monkeypatch.setattr(plan.code, "digest", lambda *modules: "other")
    assert not any(unit in results for unit in plan.units(small))


def test_runs_are_counted_as_they_are_made(made):
    folder, small, _ = made
    results, units = Results(folder / "found" / "nmf.parquet"), plan.units(small)
    for digest, unit in units.items():
        if digest in results:
            rows = results.of(digest)
            found = len(rows) * (1 if unit.method not in METHODS else len(rows[0].losses))
            groups = plan.groups(small, None)[unit.group]()
            count = sum(len(stack.problems) for stack in groups)
            assert found == count * plan.runs(small, unit)


def test_what_tunes_what_judges_and_what_teaches_are_different_problems():
    first, second = (
        problems.stacks(stream, (2, 2)) for stream in (problems.TUNING, problems.JUDGING)
    )
    assert all(
        a.name != b.name or not torch.equal(a.problems.v, b.problems.v)
        for a in first
        for b in second
    )
    for seed in range(3):  # a policy draws from [seed, round]: never these streams
        assert problems.TUNING[0] != seed
        assert problems.JUDGING[0] != seed
    assert len(plan.Settings().policies) >= 3


def stack() -> Stack:
    return problems.stacks(problems.TUNING, (1, 3))[0]


def test_seeds_of_a_problem_differ_by_start_and_noise_alone():
    own = reseeded(stack(), 2)
    v, w = own.problems.v, own.problems.w
    assert torch.equal(v[0], v[1])
    assert not torch.equal(w[0], w[1])
    assert torch.equal(w, reseeded(stack(), 2).problems.w)
    assert not torch.equal(v[1], v[2])
    # the noise is not made of the numbers that the start is made of
    noise = torch.randn(w.shape, generator=torch.Generator().manual_seed(own.seed))
    scale = (v.mean((1, 2), keepdim=True) / w.shape[2]).sqrt()
    assert not torch.allclose(w, scale * noise.abs())


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


def group(ours: float, spread: float = 0.1) -> Group:
    """Three policies at 0.99, 1 and 1.01 times `ours`, against methods that are all alike."""
    rng = np.random.default_rng(0)
    base = np.log(rng.uniform(0.01, 0.1, 320))
    mine = base + np.log(ours) + spread * rng.standard_normal(320)
    losses = {name: dict.fromkeys(TUNED, base) for name in METHODS}
    learned = {"a": mine + np.log(1.01), "b": mine, "c": mine - np.log(1.01)}
    floors = base + np.log(np.where(np.arange(320) % 16 < 8, 0.2, 0.9))
    clusters = np.repeat(np.arange(20), 16)
    return Group("held out", clusters, losses, learned, {"a": 0.0}, floors, {})


@pytest.mark.parametrize(("ours", "wanted"), [(0.8, "held"), (0.98, "missed"), (1.0, "missed")])
def test_a_claim_is_reached_only_if_the_numbers_say_so(ours: float, wanted: str):
    found = numbers.middle(group(ours), "cosine")
    assert math.exp(found.estimate) == pytest.approx(ours, rel=0.02)
    title = "held out: cosine, tuned per problem"
    (claim,) = [claim for claim in claims([group(ours)]) if claim.title == title]
    assert claim.outcome == wanted
    assert reached(found, 0.97) is (wanted == "held")


def test_the_middle_policy_is_neither_the_best_nor_the_worst():
    held = group(0.9)
    means = {
        name: numbers.mean_interval(held, held.ratios(name, "step")).estimate
        for name in held.learned
    }
    assert means["c"] < means["b"] < means["a"]
    assert numbers.middle(held, "step").estimate == means["b"]


def test_what_resembles_each_other_is_one_unit():
    held = group(0.9)
    shape = np.repeat(np.random.default_rng(1).standard_normal(20), 16)
    alike = numbers.mean_interval(held, shape)
    assert alike.n == 20
    assert alike.high - alike.low > 3 * (2 * 1.96 * shape.std() / math.sqrt(320))


def test_tuned_means_three_things():
    """On seeds that judge; what tunes per problem sees others, and hindsight sees them."""
    settings = plan.Settings(tried=3, tuning_seeds=3, judging_seeds=2)
    losses = np.zeros((1, 5, 3))
    losses[0, :3] = [[0.0, 9.0, 5.0], [1.0, 0.0, 5.0], [1.0, 0.0, 5.0]]  # medians 1, 0, 5
    losses[0, 3:] = [[3.0, 2.0, 1.0], [5.0, 4.0, 1.0]]
    ends, picked = judged(losses, settings, one=0)
    assert picked.tolist() == [1]
    assert {how: ends[how].tolist() for how in TUNED} == {
        ONE: [4.0],
        PROBLEM: [3.0],
        HINDSIGHT: [1.0],
    }
    worse = judged(losses[:, [3, 3, 3, 3, 4]], settings, one=0)[0]
    assert worse[PROBLEM].tolist() == [1.0], "it saw what judges"


def test_a_difference_of_a_hundredth_of_a_percent_is_a_tie_for_the_first():
    assert [int(x) for x in numbers.lowest(np.array([0.5, 9e-5, 0.0]))] == [1, 2]
    assert [int(x) for x in numbers.lowest(np.array([0.5, 11e-5, 0.0]))] == [2, 1]


def test_which_problems_can_fall_depends_on_no_single_method():
    held = group(0.9)
    before = held.free()
    assert before.sum() == 160
    worst = {**held.losses, "cosine": dict.fromkeys(TUNED, np.full(320, 5.0))}
    assert (replace(held, losses=worst).free() == before).all()
    high = {name: dict.fromkeys(TUNED, np.full(320, 5.0)) for name in METHODS}
    assert replace(held, losses=high).free().all()


def test_misfit_is_what_no_rate_removes_and_tells_problems_apart():
    exact, short = (draw(Shape(20, 24, 4, 40), 40, np.random.default_rng(seed)) for seed in (0, 1))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(40, *size, generator=generator) for size in ((20, 4), (4, 24)))
    exact = replace(exact, v=a @ b)
    short = replace(short, v=torch.rand(40, 20, 24, generator=generator))  # of full rank
    assert runs.misfit(exact, 300).median() < 0.01 < 0.1 < runs.misfit(short, 300).min()


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


def test_runs_of_a_method_differ_only_by_their_rates():
    own = stack()
    one = METHODS["constant"].build({"c": torch.full((3,), 0.5)}, own.steps)
    same = METHODS["exponential"].build(
        {"c": torch.full((3,), 0.5), "last": torch.ones(3)}, own.steps
    )
    assert torch.equal(run_stack(own, one), run_stack(own, same))
