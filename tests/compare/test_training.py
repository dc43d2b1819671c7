"""One run: repeatable, paired by its seed, honest about divergence."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from ratewise.compare import schedules, tasks
from ratewise.compare.schedules import Schedule
from ratewise.compare.task import Task
from ratewise.compare.training import CHECKPOINTS, HISTORY, train
from ratewise.errors import InvalidArgument, UnknownName
from ratewise.rules.greedy_config import GreedyConfig

TIMES = ("train_seconds", "eval_seconds", "started_at")


def without_times(record: object) -> dict:
    return {k: v for k, v in dataclasses.asdict(record).items() if k not in TIMES}


@pytest.fixture(scope="module")
def task() -> Task:
    return dataclasses.replace(tasks.load("digits-mlp"), steps=60)


def test_same_seed_same_numbers_and_the_caller_s_random_state_is_left(task):
    before = torch.get_rng_state()
    first = train(task, "adamw", "greedy", 0.01, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert without_times(train(task, "adamw", "greedy", 0.01, seed=3)) == without_times(first)
    other = train(task, "adamw", "greedy", 0.01, seed=4)
    assert other.test_loss != first.test_loss
    assert other.run_id != first.run_id


def test_one_seed_pairs_all_methods(task):
    runs = [
        train(task, optimizer, schedule, lr, seed=1)
        for optimizer, schedule, lr in (
            ("adamw", "cosine", 0.01),
            ("adamw", "greedy", 0.001),
            ("sgd", "step", 0.01),
        )
    ]
    assert len({run.test_loss[0] for run in runs}) == 1, "initial weights differ"
    assert len({run.train_loss[0] for run in runs}) == 1, "first batches differ"


def test_histories_have_their_shapes(task):
    run = train(task, "adamw", "cosine", 0.01, seed=0)
    assert run.test_step == [round(share * 60) for share in CHECKPOINTS]
    assert run.train_step[0] == 1
    assert run.train_step[-1] == 60
    assert len(run.train_step) <= HISTORY
    assert run.eval_step[0] == 0
    assert len(run.eval_step) == task.evaluations + 1
    assert run.lr[0] == 0.01
    assert run.lr[-1] < 0.0001
    assert run.versions["torch"]
    assert run.config["seed"] == 0


def test_a_run_that_diverges_ends_there_and_is_infinite(task):
    run = train(task, "sgd", "constant", 1e18, seed=0)
    assert run.status == "diverged"
    assert 1 <= run.diverged_at <= 60
    assert run.train_step[-1] == run.diverged_at
    assert run.test_loss[-1] == math.inf
    assert run.validation_loss[-1] == math.inf
    assert run.test_step == [0, 6, 30, 60]


def test_a_nan_on_the_last_step_alone_is_seen():
    class Spoilt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.weight * x

    part = (torch.ones(4, 1),)
    own = Task(
        name="spoilt", model=Spoilt, loss=lambda model, batch: (model(batch[0]) - 2).log().mean(),
        train=part, validation=part, test=part, steps=1, batch_size=4,
    )  # fmt: skip
    run = train(own, "sgd", "constant", 0.1, seed=0)
    assert run.status == "diverged"
    assert run.test_loss[-1] == math.inf


@pytest.mark.parametrize("name", schedules.names())
def test_every_schedule_drives_a_run(task, name):
    run = train(task, "sgd", name, 0.05, seed=0)
    assert run.status == "finished"
    assert run.test_loss[-1] < run.test_loss[0]
    assert all(0 <= rate <= 0.5 for rate in run.lr)
    patient = ("plateau", "greedy-article", "transformers-greedy")  # may not act in 60 steps
    assert len(set(run.lr)) > 1 or name in patient


def test_the_constant_rate_may_fall_at_the_end():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    driver = schedules.build(Schedule("a", "stable-decay", {"share": 0.5}), optimizer, 40)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        driver.after_step(torch.tensor(1.0))
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[20:] == pytest.approx([1.0 - step / 20 for step in range(20)])
    with pytest.raises(InvalidArgument, match="share in"):
        schedules.build(Schedule("a", "stable-decay", {"share": 2}), optimizer, 40)


def test_greedy_gets_the_training_loss_and_the_article_s_the_validation_loss(task):
    seen: dict[str, list[float]] = {}
    for name in ("greedy", "greedy-article"):
        calls = seen.setdefault(name, [])
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
        driver = schedules.build(name, optimizer, 60)
        driver.scheduler.step = lambda loss, calls=calls: calls.append(float(loss))
        driver.after_step(torch.tensor(1.0))
        driver.after_epoch(2.0)
    assert seen == {"greedy": [1.0], "greedy-article": [2.0]}


def test_greedy_s_criterion_follows_from_the_run_s_length():
    for steps, options, criterion in (
        (300, {}, "significance"),
        (299, {}, "count"),
        (300, {"criterion": "count"}, "count"),
        (300, {"patience": 3}, "count"),
        (300, {"schedule": "cosine"}, "count"),
    ):
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
        scheduler = schedules.build(Schedule("a", "greedy", options), optimizer, steps).scheduler
        scheduler.step(1.0)
        assert scheduler.criterion == criterion, options


def test_identity_changes_with_a_default_and_with_an_option():
    plain = Schedule("a", "greedy")
    assert plain.settings["factor"] == GreedyConfig().factor
    for options in ({"factor": 0.5}, {"criterion": "count"}, {"criterion": "significance"}):
        assert Schedule("a", "greedy", options).settings != plain.settings
    assert Schedule("b", "cosine").settings == {}


def test_settings_of_the_rule_are_options_by_name_or_in_a_config():
    config = GreedyConfig(factor=0.5, reference="previous")
    whole = {**dataclasses.asdict(config), "decide_every": 2}
    by_name = {"factor": 0.5, "reference": "previous", "decide_every": 2}
    for options in (by_name, {"config": config, "decide_every": 2}):
        schedule = Schedule("mine", "greedy", options)
        assert schedule.settings == whole
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
        state = schedules.build(schedule, optimizer, 10).scheduler.state_dict()["ratewise"]
        assert {**state["rule"]["config"], "decide_every": state["decide_every"]} == whole


def test_a_schedule_of_one_s_own(task):
    run = train(task, "sgd", Schedule("mine", halving, {"every": 10}), 0.1, seed=0)
    assert run.schedule == "mine"
    assert run.lr[0] == 0.1
    assert run.lr[-1] == pytest.approx(0.1 * 0.5**5)
    assert run.config["schedule_kind"].endswith("halving")


def halving(optimizer, total_steps, every):
    return torch.optim.lr_scheduler.StepLR(optimizer, every, 0.5)


def test_unknown_schedules_suggest_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'cosine'"):
        schedules.named("cosin")
    with pytest.raises(UnknownName, match="unknown schedule 'nope'"):
        Schedule("x", "nope")
