"""The article's study in miniature: it runs, goes on, and its counts can come out either way."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.compare.records import record

from evidence.article import claims, cost, kept, numbers, plan, rivals
from evidence.article import run as running
from evidence.article import tasks as made_tasks
from evidence.article.claims import Found, Rival
from evidence.article.numbers import cell, count, diversity, slopes
from evidence.article.plan import OURS, Unit
from evidence.article.rivals import speed, steps_to
from evidence.how import How
from evidence.results import Results
from ratewise.compare import training
from ratewise.compare.statistics import Interval
from ratewise.compare.tuning import MethodOnTask
from ratewise.runs import RunRecord

pytestmark = pytest.mark.skipif(
    not os.environ.get("RATEWISE_DATA"), reason="RATEWISE_DATA names no data folder"
)

SMALL = plan.Settings(
    tasks=("faces-mlp", "wavy-mlp"),
    more=("housing-mlp",),
    others=("adagrad",),
    baselines=("constant", "cosine"),
    sized=("mnist1d-10k", "mnist1d-100k"),
    fine_tuned=("pydoc-lora",),
    rates=1,
    tuning_seeds=1,
    seeds=2,
    rival_seeds=2,
    steps=4,
    pretraining=3,
    models=("10k",),
    rounds=2,
    least=0.0,
)
FIRST = replace(SMALL, more=(), others=(), sized=(), fine_tuned=(), models=())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """The first parts, and then the others."""
    folder = tmp_path_factory.mktemp("article")
    how = How(folder, folder / "page.md", progress=False)
    running.run(how, FIRST)
    before = Results(folder / "article.parquet")
    running.run(replace(how, page_only=True, page=folder / "half.md"), SMALL)
    running.run(how, SMALL)
    return folder, before


def test_a_half_done_study_says_so_and_goes_on_without_repeating(made):
    folder, before = made
    half, text = ((folder / name).read_text() for name in ("half.md", "page.md"))
    parts = f"Complete: {plan.BEFORE}; {plan.BEFORE_RIVALS}. Not begun: {plan.TUNING};"
    assert parts in next(block for block in half.split("\n\n") if "**Half done.**" in block)
    assert "## Size" not in half
    assert "Half done" not in text
    for needed in (
        *("constant, then falling against the schedules", "Apart: greedy on the data that"),
        *("line-search-adam", "hypergradient-adam-multiplicative", "slope a tenfold"),
        *("pydoc-lora", "On the cpu, by parameters", "developed it", "first look", "second look"),
        "not measured" if not torch.cuda.is_available() else "On the cuda",
    ):
        assert needed in text, needed
    for picture in ("article-schedules.png", "article-histories.png"):
        assert (folder / picture).stat().st_size > 10_000
    after = Results(folder / "article.parquet")
    assert all(after.of(name) == before.of(name) for name in before._units)
    trainings = sum(len(runs) for runs in after._units.values()) - len(cost.METHODS)
    assert f"{trainings:,} trainings" in text
    stamp = (folder / "article.parquet").stat().st_mtime_ns
    running.run(How(folder, folder / "page.md", progress=False), SMALL)
    assert (folder / "page.md").read_text() == text
    assert (folder / "article.parquet").stat().st_mtime_ns == stamp


def test_a_part_that_is_under_way_is_in_no_number(made, tmp_path: Path):
    folder, _ = made
    whole, part = Results(folder / "article.parquet"), Results(tmp_path / "article.parquet")
    names = list(plan.wanted(SMALL, plan.units(SMALL)[plan.BEFORE]))
    for name in names[1:]:
        part.add(name, whole.of(name))
    study = numbers.load(part, SMALL)
    assert study.done[plan.BEFORE] == (3, 4)
    assert not study.judged
    assert claims.claims(claims.found(study)) == []
    part.add(names[0], whole.of(names[0]))
    complete = claims.claims(claims.found(numbers.load(part, SMALL)))
    assert [one.title for one in complete if "hypergradient" in one.title] == []
    assert len(complete) == 2 + len(claims.SINGLE) + 1


def test_data_that_developed_the_new_default_stands_in_no_headline(made):
    folder, _ = made
    study = numbers.load(Results(folder / "article.parquet"), SMALL)
    assert {method.task for method in study.of(study.tasks)} == {"faces-mlp", "wavy-mlp"}
    apart = study.of(study.tasks, developed=True)
    assert {method.task for method in apart} == {"housing-mlp"}
    full = plan.Settings()
    looks = {task: plan.look(task) for task in (*full.tasks, *full.more)}
    assert sum(look != "developed it" for look in looks.values()) == 12
    assert len({plan.data_set(x) for x, look in looks.items() if look != "developed it"}) == 10
    judged = (*full.sized, *full.fine_tuned)
    assert not {plan.data_set(task) for task in judged} & set(plan.DEVELOPED)


def test_every_method_of_a_unit_has_the_same_budget_and_the_same_pairs(made):
    folder, _ = made
    results = Results(folder / "article.parquet")
    for name, unit in plan.wanted(SMALL, plan.every(SMALL)).items():
        counts: dict[tuple[str, str], dict[str, int]] = {}
        first: dict[int, set[float]] = {}
        for run in kept.runs(results.of(name)):
            roles = counts.setdefault((run.optimizer, run.schedule), {})
            roles[run.role] = roles.get(run.role, 0) + 1
            if run.role == "judged":
                first.setdefault(run.seed, set()).add(run.validation_loss[0])
        clocks = [roles.pop(kept.CLOCK) for roles in counts.values() if kept.CLOCK in roles]
        assert clocks == ([SMALL.rival_seeds] if unit.part == "rivals" else [])
        assert {tuple(roles.items()) for roles in counts.values() if roles} == {
            (("grid", 1), ("judged", 2))
        }
        assert all(len(losses) == 1 for losses in first.values())


def test_hypergradients_start_at_the_rate_that_a_constant_schedule_was_best_with(made):
    folder, _ = made
    results = Results(folder / "article.parquet")
    found = running.starts(results, SMALL)
    assert len(found) == 8  # tasks with an optimizer
    met = {m: x for m, x in numbers.load(results, SMALL).judged.items() if m.schedule == "none"}
    assert {m.optimizer for m in met} == set(plan.RIVALS)
    for method, runs in met.items():
        if method.optimizer.startswith("hypergradient"):
            start = found[method.task, plan.RIVALS[method.optimizer]]
            assert runs[0].lr[0] == pytest.approx(start, rel=1e-6)


def test_the_new_default_is_pinned():
    pinned = {schedule.name: schedule.options["criterion"] for schedule in plan.GREEDY}
    assert pinned.pop(OURS) == "significance"
    assert set(pinned.values()) == {"count"}
    given = dict(plan.GREEDY[0].options)
    assert (given.pop("schedule"), given.pop("plateau")) == ("stable-decay:0.7", "neutral")
    assert given == {"criterion": "significance", "factor": 0.9, "patience": 0, "window": 100}
    assert plan.CONTROL.options == {"share": 0.7}


def test_units_know_what_determines_them_and_not_where_hypergradients_start():
    unit = Unit("rivals", "faces-mlp", "sgd")
    [name] = plan.wanted(SMALL, [unit])
    assert [name] == list(plan.wanted(replace(SMALL, more=()), [unit]))
    for changed in (replace(SMALL, steps=5), replace(SMALL, rates=2), replace(SMALL, rivals=())):
        assert [name] != list(plan.wanted(changed, [unit]))
    full = plan.Settings()
    every = plan.every(full)
    assert len(plan.wanted(full, every)) == len(every) == 94
    assert float(plan.table(full, every)[-1][-1]) < 4 * 3600


def test_what_is_kept_of_a_run_is_read_again():
    task = replace(made_tasks.load("faces-mlp", None), steps=60)
    run = training.train(task, "sgd", plan.GREEDY[0], 0.1, 3, role="judged")
    [again] = kept.runs(kept.kept([run]))
    for field in ("task", "optimizer", "schedule", "base_lr", "seed", "steps", "status"):
        assert getattr(again, field) == getattr(run, field), field
    assert again.test_loss == pytest.approx(run.test_loss, rel=1e-6)
    assert dict(zip(again.eval_step, again.validation_loss, strict=True)) == pytest.approx(
        {step: run.validation_loss[run.eval_step.index(step)] for step in range(0, 61, 3)}, rel=1e-6
    )
    by_step = dict(zip(run.train_step, run.lr, strict=True))
    there = [step for step in again.train_step if step in by_step]
    assert len(there) > 30
    assert all(
        again.lr[again.train_step.index(step)] == pytest.approx(by_step[step], rel=0.05)
        for step in there
    )
    lost = training.train(task, "sgd", "constant", 1e6, 3, role="judged")
    assert lost.status == "diverged"
    [again] = kept.runs(kept.kept([lost]))
    assert (again.status, again.lr, again.test_loss[-1]) == ("diverged", [], math.inf)


# -- the counts, on runs that were made up: each can come out either way ----------------------


def judged(ours: float, theirs: float, seconds: tuple[float, float] = (1.0, 1.0)) -> dict:
    """Two methods on two tasks, five seeds; a little noise that they share."""
    found: dict[MethodOnTask, list[RunRecord]] = {}
    for task in ("a", "b"):
        for schedule, loss, spent in (("greedy", ours, 0), ("cosine", theirs, 1)):
            found[MethodOnTask(task, "sgd", schedule)] = [
                _run(task, schedule, loss * (1 + 0.01 * seed), seed, seconds[spent])
                for seed in range(5)
            ]
    return found


def _run(task: str, schedule: str, loss: float, seed: int, seconds: float) -> RunRecord:
    made = record(task, "sgd", schedule, seed=seed, loss=loss)
    return replace(made, train_seconds=seconds)


@pytest.mark.parametrize(
    ("ours", "as_good", "worse", "paper"),
    [(0.5, 1.0, 0.0, 1.0), (1.0, 1.0, 0.0, 1.0), (1.05, 0.0, 1.0, 1.0), (1.5, 0.0, 1.0, 0.0)],
)
def test_a_count_says_better_and_worse_and_what_the_paper_forgives(ours, as_good, worse, paper):
    runs = judged(ours, 1.0)
    cells = [
        cell(runs, method, method._replace(schedule="cosine"))
        for method in runs
        if method.schedule == "greedy"
    ]
    found = count([one for one in cells if one])
    assert (found.as_good, found.share("worse"), found.paper_as_good) == (as_good, worse, paper)
    assert math.exp(found.overall.estimate) == pytest.approx(ours, rel=1e-6)


def test_steps_to_a_loss_are_infinite_if_it_never_gets_there():
    run = _run("a", "greedy", 0.5, 0, seconds=4.0)
    assert (steps_to(run, 1.3), steps_to(run, 0.1)) == (50.0, math.inf)


def raced(tasks: tuple[str, ...], spent: float, target: float = 1.3) -> rivals.Speed:
    """GreedyLR ends at 0.5 in 1 s, a line search at 0.9 in as many steps and `spent` seconds."""
    runs: dict[MethodOnTask, list[RunRecord]] = {}
    for task in tasks:
        for optimizer, schedule, loss, seconds in (
            ("sgd", "greedy", 0.5, 1.0),
            ("sgd", "constant", target / 1.02, 1.0),
            ("line-search", "none", 0.9, spent),
        ):
            runs[MethodOnTask(task, optimizer, schedule)] = [
                _run(task, schedule, loss, seed, seconds) for seed in range(5)
            ]
    return speed(runs, dict.fromkeys([(task, "sgd") for task in tasks], 0.01), "line-search")


def test_speed_knows_that_a_method_with_fewer_steps_may_take_longer():
    found = raced(("a", "b"), spent=0.25)
    assert (found.ours, found.theirs, found.pairs) == (10, 10, 10)
    assert math.exp(found.steps.estimate) == pytest.approx(50 / 100)
    assert math.exp(found.seconds.estimate) == pytest.approx(50 / 100 * 4)
    never = raced(("a", "b"), spent=1.0, target=0.01)
    assert (never.ours, never.theirs, never.steps.estimate) == (0, 0, 0.0)


@pytest.mark.parametrize(("spent", "held"), [(4.0, True), (0.25, False)])
def test_who_is_sooner_is_decided_over_data_sets(spent: float, held: bool):
    """Pairs are no units: the tasks of one data set alone leave no more than its seeds."""
    found = raced(("a", "b", "c"), spent)
    assert (found.pairs, found.seconds.n, found.seconds.over) == (15, 3, "tasks")
    assert Rival("line-search", count([]), found).held is held
    assert raced(("a-x", "a-y", "b"), spent).seconds.over == "data sets"


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.1])
def test_a_slope_over_sizes_is_found_with_its_sign(gain: float):
    by_size = {}
    for size in ("10k", "100k", "1M"):
        runs = judged(math.exp(gain * math.log10(numbers.parameters(size))), 1.0)
        of = partial(MethodOnTask, "a", "sgd")
        by_size[size] = cell(runs, of("greedy"), of("cosine"))
    assert slopes(by_size) == pytest.approx([gain] * 5, abs=1e-9)


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_schedules_that_differ_between_tasks_are_told_from_noise(apart: float):
    runs = judged(0.5, 1.0)
    for task, away in (("a", 0.0), ("b", apart)):
        key = MethodOnTask(task, "sgd", "greedy")
        runs[key] = [replace(r, lr=[r.base_lr * math.exp(away)] * len(r.lr)) for r in runs[key]]
    assert diversity(runs, "greedy").between == pytest.approx(apart / math.sqrt(2), abs=1e-12)
    if apart:
        assert diversity(runs, "greedy").ratio > 1e9
    key = MethodOnTask("a", "sgd", "greedy")
    wild = [replace(r, lr=[r.base_lr * (1 + r.seed)] * len(r.lr)) for r in runs[key]]
    assert diversity({**runs, key: wild}, "greedy").within > 0.1


@pytest.mark.parametrize(
    ("high", "held"), [((-0.1, -0.1), True), ((-0.1, 0.1), None), ((0.3, 0.1), None)]
)
def test_size_helps_only_against_every_schedule(high: tuple[float, float], held: bool | None):
    slopes = {str(i): Interval(x - 0.1, x - 0.2, x, 5) for i, x in enumerate(high)}
    assert Found(None, {}, [], slopes, None, None).larger is held


# -- tasks ----------------------------------------------------------------------------------------


def test_lora_trains_few_numbers_and_starts_where_the_model_was():
    lora, full = (made_tasks.load(f"pydoc-{kind}", None, 3) for kind in ("lora", "full"))
    model, plain = lora.model(), full.model()
    every = sum(p.numel() for p in model.parameters())
    assert 0 < sum(p.numel() for p in model.parameters() if p.requires_grad) < 0.2 * every
    assert all(p.requires_grad for p in plain.parameters())
    batch = (lora.test[0][:4],)
    assert torch.equal(lora.loss(model, batch), full.loss(plain, batch))
    lora.loss(model, batch).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        next(plain.parameters()).zero_()
    assert not torch.equal(next(full.model().parameters()), next(plain.parameters()))


@pytest.mark.parametrize("name", plan.SIZED)
def test_sizes_are_what_their_names_say(name: str):
    task, wanted = made_tasks.load(name, None), numbers.parameters(name.split("-")[1])
    assert wanted / 1.2 < sum(p.numel() for p in task.model().parameters()) < 1.2 * wanted
    assert task.data_set == plan.data_set(name)


@pytest.mark.parametrize("name", [*plan.MORE, *plan.FINE_TUNED[1::2]])
def test_a_task_has_its_length_and_parts_that_are_apart(name: str):
    task = made_tasks.load(name, None, 1)
    assert task.steps == plan.steps_of(plan.Settings(), name)
    assert task.data_set == plan.data_set(name)
    assert torch.isfinite(task.loss(task.model(), tuple(x[:8] for x in task.test)))
    if name.endswith("-mlp"):
        rows = [{tuple(row) for row in part[0].tolist()} for part in (task.train, task.test)]
        assert not rows[0] & rows[1]


def test_costs_know_which_method_keeps_more(made):
    folder, _ = made
    found = cost.load(Results(folder / "article.parquet"), SMALL)
    costs = {one.method: one for one in found}
    element = costs["hypergradient, a rate a parameter"]
    assert element.rates == element.parameters
    assert costs["hypergradient, a rate a group"].rates == 1 == costs["SGD, GreedyLR"].rates
    assert costs["SGD, GreedyLR"].extra_bytes == 0
    assert element.extra_bytes >= 4 * element.parameters
    assert all(len(one.seconds) == len(one.base_seconds) == SMALL.rounds for one in found)
    assert all(math.isfinite(x) for one in found for x in one.seconds)
