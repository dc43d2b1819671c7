"""Optimizers by name: what a grid fills, and what makes a run another run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ratewise.compare import optimizers, schedules, tasks
from ratewise.compare.optimizers import Optimizer
from ratewise.compare.schedules import Schedule
from ratewise.compare.training import configuration, one_thread, train
from ratewise.errors import UnknownName
from ratewise.runs import make_run_id

ALONE = Schedule("none", "none")


@pytest.fixture(scope="module")
def task():
    return replace(tasks.load("digits-mlp"), steps=30, evaluations=3)


@pytest.mark.parametrize("name", ["hypergradient-sgd", "hypergradient-adam"])
def test_a_hypergradient_moves_the_rate_that_is_recorded(task, name: str):
    chosen = Optimizer("h", name, {"lr": 0.01, "per": "group"}, tuned="hyper_lr")
    with one_thread():
        run = train(task, chosen, ALONE, 1e-4, seed=0)
        still = train(task, chosen, ALONE, 0.0, seed=0)
    assert run.base_lr == 1e-4
    assert run.lr[0] == pytest.approx(0.01)  # no direction before the first step
    assert len(set(run.lr)) > 10
    assert set(still.lr) == {still.lr[0]}  # the control: a hyper-rate of 0 moves nothing


@pytest.mark.parametrize("name", ["line-search", "line-search-adam"])
def test_a_line_search_trains_and_records_the_rate_of_each_step(task, name: str):
    with one_thread():
        run = train(task, name, ALONE, 1.0, seed=0)
    assert run.status == "finished"
    assert run.test_loss[-1] < 0.8 * run.test_loss[0]
    assert 0 < min(run.lr) < max(run.lr) <= 1.0


def test_a_line_search_sees_the_batches_that_others_see(task):
    with one_thread():
        search = train(task, "line-search", ALONE, 1.0, seed=3)
        plain = train(task, "sgd", "constant", 0.01, seed=3)
    assert search.train_loss[0] == plain.train_loss[0]


def test_what_is_tuned_is_part_of_a_run_s_identity(task):
    def identity(optimizer: Optimizer) -> str:
        return make_run_id(configuration(task, optimizer, ALONE, 0.01, 0))

    base = Optimizer("h", "hypergradient-sgd", {"lr": 0.01}, tuned="hyper_lr")
    others = [
        base,
        replace(base, options={"lr": 0.02}),
        replace(base, options={"lr": 0.01, "per": "element"}),
        replace(base, kind="hypergradient-adam"),
        replace(base, tuned="lr", options={"hyper_lr": 0.01}),
    ]
    assert len({identity(one) for one in others}) == len(others)
    assert identity(base) == identity(replace(base))


def test_torch_s_own_are_configured_as_they_were_before_there_were_others(task):
    """Stores of earlier comparisons go on: the identity of their runs has not changed."""
    config = configuration(task, optimizers.named("sgd"), schedules.named("cosine"), 0.1, 0)
    assert config["optimizer"] == "sgd"
    assert config["optimizer_options"] == {"momentum": 0.9}


def test_a_grid_reaches_as_far_as_it_is_told():
    wide = Optimizer("h", "hypergradient-sgd", {}, "hyper_lr", low=1e-7, decades=6.0).grid(7)
    assert wide == [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert math.isclose(Optimizer("s", "sgd").grid(1)[0], 0.0316)


def test_every_name_builds_an_optimizer():
    model = torch.nn.Linear(3, 2)
    for name in optimizers.names():
        built = optimizers.named(name).build(model, 0.01, steps_per_epoch=5)
        assert isinstance(built, torch.optim.Optimizer)
        assert float(built.param_groups[0]["lr"]) == pytest.approx(0.01)
    with pytest.raises(UnknownName, match="did you mean 'line-search'"):
        optimizers.named("line-serch")
