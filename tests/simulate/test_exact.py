"""N stacked runs are N ordinary ones: losses, gradients, updates, rates, over 100 steps."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.simulate.trainings import (
    OPTIMIZERS,
    Alone,
    bowl,
    images,
    off,
    ordinary,
    regression,
    sentences,
)
from torch import optim
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from ratewise import GreedyLR
from ratewise.rules.greedy_config import GreedyConfig
from ratewise.rules.plateau import PlateauConfig
from ratewise.simulate import Greedy, Plateau, Task, Trajectories, optimizers, run

pytestmark = pytest.mark.numerics

STEPS = 100
QUICK: dict[str, Any] = {"factor": 0.7, "patience": 1, "window": 3}
NERVOUS: dict[str, Any] = {"factor": 0.5, "patience": 0, "window": 1, "reference": "previous"}
STEADY: dict[str, Any] = {"factor": 0.5, "patience": 2, "eps": 0.0}
#: Five runs, each under its own rule.
RULES = [
    "cosine",
    GreedyConfig(**QUICK),
    "constant",
    Greedy(GreedyConfig(**NERVOUS), anchor="cosine"),
    Plateau(PlateauConfig(**STEADY, min_scale=0.01)),
]
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def rates(name: str) -> list[float]:
    """Five rates from one that is slow to one that is just borne, for each optimizer."""
    unit = {"sgd": 1.0, "adag": 2.0, "adad": 30.0, "rmsp": 0.1}.get(name[:4].strip(), 0.3)
    return [unit * share for share in (0.1, 0.03, 0.01, 0.05, 0.003)]


def stacked(task: Task, build: Any, lr: list[float], **options: Any) -> Trajectories:
    return run(task, build, RULES, runs=5, steps=STEPS, lr=lr, seed=4, chunk=5, **options)


def assert_equal(result: Trajectories, row: int, alone: Alone, tolerance: float) -> None:
    assert off(result.loss[row], alone.loss) < tolerance
    assert off(result.grad_norm[row], alone.grad_norm) < tolerance
    assert off(result.update_ratio[row], alone.update_ratio) < tolerance
    assert off(result.final[row], alone.final) < tolerance
    assert result.diverged_at[row] == alone.diverged_at == 0


def test_every_optimizer_of_the_allow_list_is_here():
    weight = torch.zeros(1, requires_grad=True)
    assert {type(build([weight], lr=1.0)) for build in OPTIMIZERS.values()} == {
        *optimizers.RATE_PROPORTIONAL
    }


@every_optimizer
def test_in_float64_a_run_is_an_ordinary_run_to_1e_9(name):
    """Rates of each run's own that change with time: the loop is given them as recorded."""
    result = stacked(regression(), OPTIMIZERS[name], rates(name), dtype=torch.float64)
    for row, seed in enumerate(result.seeds):
        lr = result.lr[row]
        assert_equal(
            result, row, ordinary(regression(), OPTIMIZERS[name], seed, STEPS, lr=lr), 1e-9
        )
    changes = [len(set(lr)) for lr in result.lr]
    assert changes[0] == STEPS
    assert changes[1] > 5
    assert changes[2] == 1


@every_optimizer
def test_in_float32_a_run_is_an_ordinary_run_to_1e_5(name):
    """Where the ordinary loss has stayed below twice its start."""
    result = stacked(regression(), OPTIMIZERS[name], rates(name))
    compared = 0
    for row in (0, 1, 3):
        alone = ordinary(
            regression(),
            OPTIMIZERS[name],
            result.seeds[row],
            STEPS,
            lr=result.lr[row],
            dtype=torch.float32,
            norms=False,
        )
        tame = np.maximum.accumulate(alone.loss) < 2 * result.initial[row]
        assert off(result.loss[row, tame], alone.loss[tame]) < 1e-5
        compared += tame.sum()
    assert compared > STEPS


@pytest.mark.parametrize("task", [images, sentences], ids=["convolution", "attention"])
@pytest.mark.parametrize("name", ["sgd nesterov decayed", "adam"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_other_architectures(task, name, dtype):
    lr = [0.03 * rate for rate in rates(name)]
    result = stacked(task(), OPTIMIZERS[name], lr, dtype=dtype)
    for row in (0, 3):
        alone = ordinary(
            task(), OPTIMIZERS[name], result.seeds[row], STEPS, lr=result.lr[row], dtype=dtype
        )
        if dtype == torch.float64:
            assert_equal(result, row, alone, 1e-9)
        else:
            assert alone.loss.max() < 2 * alone.loss[0]
            assert off(result.loss[row], alone.loss) < 1e-5


def cosine(optimizer: optim.Optimizer) -> Any:
    scheduler = CosineAnnealingLR(optimizer, STEPS)
    return lambda loss: scheduler.step()


#: What an ordinary loop has in the place of each of RULES.
SCHEDULERS = [
    cosine,
    lambda optimizer: GreedyLR(optimizer, **QUICK).step,
    lambda optimizer: lambda loss: None,
    lambda optimizer: (
        GreedyLR(
            optimizer, config=GreedyConfig(**NERVOUS), schedule="cosine", total_steps=STEPS
        ).step
    ),
    lambda optimizer: (
        ReduceLROnPlateau(optimizer, **STEADY, min_lr=0.01 * optimizer.param_groups[0]["lr"]).step
    ),
]


@pytest.mark.parametrize("name", ["sgd", "sgd nesterov decayed", "adamw"])
def test_the_closed_loop_is_an_ordinary_loop_with_its_scheduler(name):
    """Nothing is taken from the stacked run here: the loop's own scheduler hears its own loss."""
    lr = rates(name)
    result = stacked(regression(), OPTIMIZERS[name], lr, dtype=torch.float64)
    for row, (seed, schedule) in enumerate(zip(result.seeds, SCHEDULERS, strict=True)):
        alone = ordinary(regression(), OPTIMIZERS[name], seed, STEPS, lr=lr[row], schedule=schedule)
        assert off(result.lr[row], alone.lr) < 1e-9
        assert_equal(result, row, alone, 1e-9)
        if row != 2:
            assert len(set(alone.lr)) > 3


def test_a_named_optimizer_is_torch_s_and_sgd_has_momentum():
    for name, build in {"sgd": partial(optim.SGD, momentum=0.9), "adamw": optim.AdamW}.items():
        named, built = (
            run(regression(), choice, runs=2, steps=20, lr=0.01, chunk=2)
            for choice in (name, build)
        )
        assert np.array_equal(named.loss, built.loss)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(
    ("task", "lr"),
    [(bowl, [100.0, 3.0, 1e6, 0.5]), (regression, [30.0, 0.03, 1e12, 0.1])],
    ids=["quadratic", "regression"],
)
def test_a_run_that_diverges_does_so_in_both(task, lr, dtype):
    build = OPTIMIZERS["sgd"]
    result = run(task(), build, runs=4, steps=STEPS, lr=lr, chunk=4, dtype=dtype)
    ends = []
    for row, seed in enumerate(result.seeds):
        alone = ordinary(task(), build, seed, STEPS, lr=lr[row], dtype=dtype)
        ends.append(alone.diverged_at)
        if dtype == torch.float64:
            assert result.diverged_at[row] == alone.diverged_at
            assert off(result.loss[row], alone.loss) < 1e-9
        assert (result.diverged_at[row] > 0) == (alone.diverged_at > 0)
    assert ends[0] > 1
    assert ends[2] > 1
    assert ends[3] == 0
    assert result.diverged().tolist() == [end > 0 for end in ends]
    finite = np.isfinite(result.loss[0])
    assert finite[: result.diverged_at[0] - 1].all()
    assert not finite[result.diverged_at[0] - 1]


@pytest.mark.parametrize("kind", [optim.Rprop, optim.ASGD], ids=lambda kind: kind.__name__)
def test_an_optimizer_that_is_off_the_list_is_not_equal(kind, monkeypatch):
    """What the list is for, and that this comparison would notice."""
    monkeypatch.setattr(optimizers, "RATE_PROPORTIONAL", (*optimizers.RATE_PROPORTIONAL, kind))
    result = stacked(regression(), kind, [0.1, 0.03, 0.01, 0.05, 0.003], dtype=torch.float64)
    alone = ordinary(regression(), kind, result.seeds[0], STEPS, lr=result.lr[0])
    assert off(result.loss[0], alone.loss) > 1e-6


def test_a_rate_that_is_wrong_by_a_hundred_millionth_is_noticed():
    result = stacked(regression(), OPTIMIZERS["adamw"], rates("adamw"), dtype=torch.float64)
    wrong = result.lr[0] * (1 + 1e-8)
    alone = ordinary(regression(), OPTIMIZERS["adamw"], result.seeds[0], STEPS, lr=wrong)
    with pytest.raises(AssertionError):
        assert_equal(result, 0, alone, 1e-9)
