"""The article's study in miniature: it runs, goes on, and its counts can come out either way."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.compare.records import record

from evidence.article import cost, plan
from evidence.article import run as running
from evidence.article import tasks as made_tasks
from evidence.article.claims import Found, Rival
from evidence.article.numbers import Parts, cell, count, diversity, slope, speed, time_to
from evidence.how import How
from ratewise.compare.statistics import Interval
from ratewise.compare.tuning import MethodOnTask
from ratewise.runs import RunRecord

pytestmark = pytest.mark.skipif(
    not os.environ.get("RATEWISE_DATA"), reason="RATEWISE_DATA names no data folder"
)

SMALL = plan.Settings(
    tasks=("fashion-mlp", "polarity-text"),
    optimizers=("sgd", "adamw"),
    baselines=("constant", "cosine"),
    rates=2,
    tuning_seeds=1,
    seeds=2,
    steps=4,
    sizes={"10k": (16, 2, 2), "20k": (24, 2, 2)},
    pretraining=5,
    cost=cost.Settings(models=("10k",), rounds=2, seconds=0.0),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Parts]:
    folder = tmp_path_factory.mktemp("article")
    parts = running.run(How(folder / "runs", folder / "page.md", data=None, progress=False), SMALL)
    return folder, parts


def test_a_miniature_writes_page_and_figures_and_goes_on_without_repeating(made):
    folder, _ = made
    text = (folder / "page.md").read_text()
    for needed in (
        "As good or better than the usual schedules",
        "line-search-adam",
        "greedy-transformers against the schedules",
        "slope a tenfold",
        "lora",
        "On the cpu, by parameters",
        "not measured" if not torch.cuda.is_available() else "On the cuda",
    ):
        assert needed.lower() in text.lower(), needed
    for picture in ("article-schedules.png", "article-histories.png"):
        assert (folder / picture).stat().st_size > 10_000
    before = {p: p.stat().st_mtime_ns for p in (folder / "runs").rglob("*.parquet")}
    running.run(How(folder / "runs", folder / "page.md", data=None, progress=False), SMALL)
    assert (folder / "page.md").read_text() == text
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "runs").rglob("*.parquet")}


def test_every_method_had_the_same_number_of_tuning_runs_but_for_extended_grids(made):
    _, parts = made
    budget: dict[MethodOnTask, int] = {}
    for run in [*parts.schedules, *parts.rivals]:
        if run.role == "grid":
            key = MethodOnTask(run.task, run.optimizer, run.schedule)
            budget[key] = budget.get(key, 0) + 1
    least = SMALL.rates * SMALL.tuning_seeds
    assert set(budget.values()) <= set(range(least, least + 9))
    assert len({key.optimizer for key in budget}) == 2 + len(plan.RIVALS)


def test_hypergradients_start_at_the_rate_that_a_constant_schedule_was_best_with(made):
    _, parts = made
    constant = {
        (run.task, run.optimizer): run.base_lr
        for run in parts.schedules
        if run.role == "judged" and run.schedule == "constant"
    }
    starts = {
        (run.task, plan.RIVALS[run.optimizer], run.config["optimizer_options"]["lr"])
        for run in parts.rivals
        if run.optimizer.startswith("hypergradient")
    }
    assert starts == {(*key, rate) for key, rate in constant.items()}


def test_runs_of_one_seed_are_pairs_whatever_the_optimizer(made):
    _, parts = made
    first: dict[tuple[str, int], set[float]] = {}
    for run in [*parts.schedules, *parts.rivals]:
        first.setdefault((run.task, run.seed), set()).add(run.validation_loss[0])
    assert all(len(losses) == 1 for losses in first.values())


def test_no_task_chose_the_defaults_of_the_criterion_of_counts():
    chose = {
        *("digits-mlp", "diabetes-mlp", "breast-cancer-mlp"),
        *("digits-cnn", "pydoc-gru", "housing-mlp"),
    }
    assert not chose & set(plan.TASKS)
    assert len(plan.TASKS) >= 8
    full = plan.Settings()
    assert (full.rates, full.tuning_seeds, full.seeds) == (7, 2, 5)


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


def test_time_to_a_loss_is_of_steps_and_of_seconds_and_infinite_if_never():
    run = _run("a", "greedy", 0.5, 0, seconds=4.0)
    assert time_to(run, 1.3) == (50.0, 2.0)
    assert time_to(run, 0.1) == (math.inf, math.inf)


def test_speed_knows_that_a_method_with_fewer_steps_may_take_longer():
    runs = judged(0.5, 0.9, seconds=(4.0, 1.0))
    pairs = [
        (MethodOnTask(t, "sgd", "greedy"), MethodOnTask(t, "sgd", "cosine")) for t in ("a", "b")
    ]
    found = speed(runs, pairs, {"a": 0.93, "b": 0.93})
    assert found.steps.estimate <= 0.0 < found.seconds.estimate
    assert (found.seconds.n, found.seconds.over, found.seconds.high) == (2, "tasks", math.inf)
    never = speed(runs, pairs, {"a": 0.01, "b": 0.01})
    assert (never.ours, never.theirs, never.steps.estimate) == (0, 0, 0.0)


def test_who_is_sooner_is_decided_over_tasks():
    """Six tasks that agree decide, five leave it open: pairs are no units."""
    for many, held in ((6, True), (5, None)):
        tasks = [f"task{i}" for i in range(many)]
        runs = {}
        for task in tasks:
            for optimizer, spent in (("sgd", 1.0), ("line-search", 2.0)):
                one = [_run(task, "greedy", 0.5, seed, spent) for seed in range(5)]
                runs[MethodOnTask(task, optimizer, "greedy")] = one
        pairs = [tuple(MethodOnTask(t, o, "greedy") for o in ("sgd", "line-search")) for t in tasks]
        found = speed(runs, pairs, dict.fromkeys(tasks, 1.3))
        assert (found.pairs, found.sooner) == (5 * many, 5 * many)
        assert Rival("line-search", count([]), found).held is held


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.1])
def test_a_slope_over_sizes_is_found_with_its_sign(gain: float):
    by_size = []
    for size in (10_000, 100_000, 1_000_000):
        runs = judged(math.exp(gain * math.log10(size)), 1.0)
        one = cell(runs, MethodOnTask("a", "sgd", "greedy"), MethodOnTask("a", "sgd", "cosine"))
        by_size.append((size, one))
    assert slope(by_size).estimate == pytest.approx(gain, abs=1e-9)


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
    assert Found(count([]), [], slopes, None, diversity({}, "greedy")).larger is held


# -- LoRA ---------------------------------------------------------------------------------------


def test_lora_trains_few_numbers_and_starts_where_the_model_was(made):
    folder, parts = made
    pretrained = made_tasks.pretrain(folder / "runs" / "pretrained", None, SMALL.pretraining)
    assert pretrained.test_loss == parts.pretrained
    task = made_tasks.adapted(pretrained, None)
    model = task.model()
    trained = [p for p in model.parameters() if p.requires_grad]
    every = sum(p.numel() for p in model.parameters())
    assert 0 < sum(p.numel() for p in trained) < 0.2 * every
    from safetensors.torch import load_file

    plain = made_tasks.CharTransformer(
        pretrained.alphabet, made_tasks.LENGTH, *made_tasks.SIZES["100k"]
    )
    plain.load_state_dict(load_file(pretrained.path))
    batch = (task.test[0][:4],)
    assert torch.equal(task.loss(model, batch), task.loss(plain, batch))
    task.loss(model, batch).backward()
    assert all(p.grad is not None for p in trained)


def test_sizes_are_what_their_names_say():
    for name, wanted in (("10k", 1e4), ("100k", 1e5), ("1M", 1e6)):
        task = made_tasks.sized(name, made_tasks.SIZES[name], None)
        number = sum(p.numel() for p in task.model().parameters())
        assert wanted / 1.2 < number < 1.2 * wanted, (name, number)


def test_costs_know_which_method_keeps_more(tmp_path: Path):
    found = cost.measure(tmp_path / "costs.json", SMALL.cost, progress=False)
    costs = {one.method: one for one in found}
    element = costs["hypergradient, a rate a parameter"]
    assert element.rates == element.parameters
    assert costs["hypergradient, a rate a group"].rates == 1 == costs["SGD, GreedyLR"].rates
    assert costs["SGD, GreedyLR"].extra_bytes == 0
    assert element.extra_bytes >= 4 * element.parameters
    assert all(np.isfinite(one.seconds).all() and one.seconds for one in costs.values())
