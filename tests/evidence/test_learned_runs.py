"""The runs of the study of learned schedules in miniature: complete, resumable, and sound."""

from __future__ import annotations

import contextlib
import math
import sys
from collections import Counter
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from evidence import judged, peers
from evidence.learned import plan
from evidence.learned import run as running
from evidence.learned.kept import Run, load
from evidence.learned.plan import Settings, Unit
from evidence.results import Results
from ratewise import simulate
from ratewise.errors import MissingExtra, StoreError, UnknownName
from ratewise.rules.learned import Policy
from ratewise.rules.ratio_law import DEFAULT
from ratewise.simulate.update_ratio import UpdateRatio

SGD, ADAM = "mlp teacher 10 sgd 150", "mlp teacher 08 adamw 150"
needs_peers = pytest.mark.skipif(not peers.installed(), reason="needs the group 'evidence'")


def policy_of(bound: float) -> Policy:
    """Return a policy that corrects nothing, on the anchor that "update-ratio" is."""
    return Policy.anchor(DEFAULT, bound=bound, windows=25, schedule=UpdateRatio().schedule)


def small(folder: Path) -> Settings:
    policy = folder / "anchor.safetensors"
    if not policy.exists():
        policy_of(1.5).save(policy)
    return Settings(
        tasks=(SGD, ADAM),
        rates=3,
        ratios=(0.01, 0.02),
        seeds=(101, 102),
        policies=(str(policy),),
        peers=peers.installed(),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Results]:
    folder = tmp_path_factory.mktemp("learned")
    settings, results = small(folder), Results(folder / "learned.parquet")
    running.make(settings, results, progress=False)
    return settings, results


@pytest.fixture(scope="module")
def runs(made: tuple[Settings, Results]) -> list[Run]:
    settings, results = made
    return load(Results(results.path), settings)


def of(runs: list[Run], task: str, schedule: str) -> list[Run]:
    """Return a method's runs on a task."""
    return [r for r in runs if (r.task, r.schedule) == (task, schedule)]


def test_the_study_is_as_large_as_promised():
    settings = Settings()
    assert settings.tasks == tuple(one.name for one in judged.tasks())
    assert settings.rates == 7
    assert len(settings.seeds) == 2
    assert [unit.task for unit in plan.units(settings) if unit.part == "rules"] == [*settings.tasks]
    beside = [unit.task for unit in plan.units(settings) if unit.part == "peers"]
    assert {judged.named(name).optimizer for name in beside} == {"adam", "adamw"}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_grid_has_the_usual_rate(optimizer: str):
    grid = plan.rates(Settings(tasks=()), optimizer)
    assert len(grid) == 7
    assert grid[-1] / grid[0] == pytest.approx(1000)
    assert plan.USUAL in grid
    names = [m.name for m in plan.methods(Settings(policies=()), "rules", optimizer, 300)]
    assert "cosine 1e-3" not in names


def test_the_usual_rate_is_added_where_the_grid_lacks_it():
    settings = Settings(rates=3, policies=())
    found = [m for m in plan.methods(settings, "rules", "adamw", 300) if m.name == "cosine 1e-3"]
    assert plan.USUAL not in plan.rates(settings, "adamw")
    assert [(m.lr, m.base) for m in found] == [(1e-3, 1e-3)]


def test_every_run_is_there(made: tuple[Settings, Results], runs: list[Run]):
    settings, _ = made
    ids = [run.run_id for unit in plan.units(settings) for run in plan.planned(settings, unit)]
    assert len(ids) == len(set(ids)) == len(runs)
    counts = Counter(record.schedule for record in runs if record.task == SGD)
    grid = dict.fromkeys(plan.RULES, 6)
    assert counts == {**grid, "update-ratio": 6, "update-ratio tuned": 4, "learned anchor": 6}
    assert {record.family for record in runs} == {"mlp"}
    assert {record.steps for record in runs} == {150}
    tuned = of(runs, ADAM, "update-ratio tuned")
    assert {record.base_lr for record in tuned} == set(settings.ratios)
    for record in runs:
        assert len(record.at) == len(record.losses) == len(record.sizes)
        if not record.diverged:
            assert record.at[-1] == 150
            assert math.isfinite(record.held_out)


def test_a_second_call_trains_nothing(
    made: tuple[Settings, Results], monkeypatch: pytest.MonkeyPatch
):
    settings, results = made
    before = results.path.read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a run was trained again")

    monkeypatch.setattr(simulate, "run", refuse)
    monkeypatch.setattr(peers, "run", refuse)
    running.make(settings, Results(results.path), progress=False)
    assert results.path.read_bytes() == before


def test_another_policy_is_another_run(made: tuple[Settings, Results], tmp_path: Path):
    settings, results = made
    other = tmp_path / "anchor.safetensors"  # the same name, another bound
    policy_of(1.0).save(other)
    changed = replace(settings, policies=(str(other),))
    lacking = [unit for name, unit in plan.wanted(changed).items() if name not in results]
    assert lacking == [Unit(SGD, "policies"), Unit(ADAM, "policies")]
    with pytest.raises(StoreError, match="without --page-only"):
        load(results, changed)


@pytest.mark.parametrize("task", [SGD, ADAM])
def test_a_policy_that_corrects_nothing_is_its_anchor(runs: list[Run], task: str):
    ours, anchor = of(runs, task, "learned anchor"), of(runs, task, "update-ratio")
    found = {(r.base_lr, r.seed): r for r in anchor}
    assert len(ours) == len(found) == 6
    for record in ours:
        other = found[record.base_lr, record.seed]
        assert record.initial == other.initial
        assert record.final == pytest.approx(other.final, rel=1e-6)
        assert record.losses == pytest.approx(other.losses, rel=1e-6)


def test_an_anchor_of_its_own_is_run_too(tmp_path: Path):
    other = tmp_path / "other.safetensors"
    Policy.anchor(DEFAULT, bound=1.5, windows=25, schedule="stable-decay").save(other)
    found = plan.methods(Settings(tasks=(), policies=(str(other),)), "policies", "sgd", 150)
    (anchor,) = [method for method in found if method.name == "anchor"]
    assert anchor.rule.schedule == "stable-decay"
    (ours,) = [m for m in found if m.name == "learned other" and m.lr == anchor.lr]
    both = [anchor, ours]
    made = simulate.run(
        judged.task(SGD), "sgd", [m.rule for m in both], runs=2, steps=150, lr=0.1, seed=[1, 1]
    )
    assert made.final[1] == pytest.approx(made.final[0], rel=1e-6)


@pytest.mark.parametrize("task", [SGD, ADAM])
@pytest.mark.parametrize("name", ["update-ratio", "learned anchor"])
def test_the_base_rate_does_not_matter(runs: list[Run], task: str, name: str):
    for seed in (101, 102):
        found = [r for r in of(runs, task, name) if r.seed == seed]
        assert len({r.base_lr for r in found}) == 3
        finals = [r.final for r in found]
        assert finals == pytest.approx([finals[0]] * 3, rel=1e-6)
    # a control: to cosine the same rates are not one
    cosine = [r.final for r in of(runs, task, "cosine") if r.seed == 101]
    assert max(cosine) > 1.5 * min(cosine)


def test_a_policy_that_does_not_exist_is_told_before_anything_is_trained(tmp_path: Path):
    settings = Settings(tasks=(SGD,), policies=("nobody",), peers=False)
    with pytest.raises(UnknownName, match="nobody"):
        running.make(settings, Results(tmp_path / "learned.parquet"), progress=False)


# -- peers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [101, 7])
def test_the_control_is_the_simulators_run(seed: int):
    task = judged.task(ADAM)
    ours = peers.run(task, peers.CONTROL, steps=40, seed=seed, every=7)
    theirs = simulate.run(task, "adamw", "cosine", runs=1, steps=40, lr=1e-3, seed=[seed], every=7)
    assert ours.step.tolist() == theirs.step.tolist()
    for name in ("loss", "lr", "initial", "final", "held_out"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-5, rtol=0)


@needs_peers
def test_peers_learn(made: tuple[Settings, Results], runs: list[Run]):
    found = [r for r in runs if r.task == ADAM and r.schedule in peers.METHODS]
    assert Counter(r.schedule for r in found) == dict.fromkeys(peers.METHODS, 2)
    for record in found:
        assert not record.diverged
        assert np.isfinite(record.losses).all()
        assert np.isnan(record.sizes).all()
        if record.schedule != "d-adaptation":  # which overshoots on this one
            assert record.final < record.initial
    settings, results = made
    for kept in results.of(plan.digest(plan.planned(settings, Unit(ADAM, "peers")))):
        assert f'"{peers.named(kept.method).package}"' in kept.versions


@needs_peers
@pytest.mark.parametrize("method", peers.METHODS)
def test_a_peer_is_better_than_the_untrained_model(method: str):
    found = peers.run(judged.task("mlp digits adamw 200"), method, steps=200, seed=101)
    assert found.diverged_at[0] == 0
    assert found.final[0] < 0.8 * found.initial[0]
    assert found.held_out[0] < found.initial[0]


@needs_peers
def test_averaged_weights_are_what_is_evaluated(monkeypatch: pytest.MonkeyPatch):
    ours = peers.run(judged.task(ADAM), "schedule-free", steps=100, seed=101)
    monkeypatch.setattr(peers._Loop, "_resting", lambda self: contextlib.nullcontext())
    others = peers.run(judged.task(ADAM), "schedule-free", steps=100, seed=101)
    assert np.array_equal(ours.loss, others.loss)
    assert ours.initial == others.initial
    assert abs(ours.final - others.final) > 0.01 * ours.final


def test_a_run_ends_at_a_loss_that_is_not_finite(monkeypatch: pytest.MonkeyPatch):
    control = peers.named(peers.CONTROL)
    wild = replace(control, build=attrgetter("SGD"), settings={"lr": 1e30})
    monkeypatch.setitem(peers.METHODS, peers.CONTROL, wild)
    found = peers.run(judged.task(ADAM), peers.CONTROL, steps=20, seed=101)
    assert 1 < found.diverged_at[0] < 20
    assert found.diverged().all()
    assert np.isnan(found.loss[0, -1])


@pytest.mark.parametrize("method", [name for name in peers.METHODS if name != peers.CONTROL])
def test_an_absent_package_is_named(method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    module = peers.named(method).module
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{module}.*--group evidence"):
        peers.run(judged.task(ADAM), method, steps=2, seed=1)
    with pytest.raises(MissingExtra, match=module):
        running.make(Settings(policies=()), Results(tmp_path / "x.parquet"), progress=False)
    assert not peers.installed()


def test_a_peer_that_does_not_exist_is_told_so():
    with pytest.raises(UnknownName, match="unknown peer 'prodigi': did you mean 'prodigy'"):
        peers.run(judged.task(ADAM), "prodigi", steps=2, seed=1)
