"""What is wrong is named, with what to type instead, before anything is trained."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.simulate.trainings import Point, bowl, regression, squared
from torch import Tensor, nn, optim

from ratewise.errors import InvalidArgument, RatewiseError, UnknownName, WrongType
from ratewise.simulate import Noise, Task, run
from ratewise.simulate.runner import Training

RUNS = 3


class OwnAdam(optim.Adam):
    """Might do anything."""


@pytest.fixture
def untrained(monkeypatch):
    """Make it an error to train, to time a trial, and even to set one up."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(Training, "__init__", forbidden)
    monkeypatch.setattr(Training, "step", forbidden)


def call(**changes: Any) -> Any:
    settings: dict[str, Any] = {
        "task": regression(),
        "optimizer": "adam",
        "rule": "greedy",
        "runs": RUNS,
        "steps": 5,
        "lr": 0.01,
        "chunk": 3,
    }
    return run(**{**settings, **changes})


def assert_named(error: type[RatewiseError], message: str, **changes: Any) -> None:
    """The error is of that type, and its message begins so and ends with a remedy."""
    with pytest.raises(error) as caught:
        call(**changes)
    text = str(caught.value)
    assert text.startswith(message), text
    remedy = "known: " if error is UnknownName else ": "
    assert remedy in text[len(message) :], text
    assert type(caught.value) is error


def test_what_is_right_is_trained(untrained, monkeypatch):
    """The guard of these tests would notice work."""
    with pytest.raises(AssertionError, match="work was begun"):
        call()
    monkeypatch.undo()
    assert call().runs == RUNS


def test_unknown_names(untrained):
    assert_named(
        UnknownName, "unknown family 'quadratik': did you mean 'quadratic'", task="quadratik"
    )
    assert_named(UnknownName, "unknown rule 'cosin': did you mean 'cosine'", rule="cosin")
    rules = ["cosine", "greedy", "gredy"]
    assert_named(UnknownName, "unknown rule 'gredy': did you mean 'greedy'", rule=rules)
    assert_named(UnknownName, "unknown optimizer 'adamm': did you mean 'adam'", optimizer="adamm")
    assert_named(UnknownName, "unknown noise 'gausian': did you mean 'gaussian'", noise="gausian")
    with pytest.raises(UnknownName, match="unknown place of noise 'los': did you mean 'loss'"):
        Noise("drift", "los")


def test_things_of_another_kind(untrained):
    assert_named(WrongType, "task must be a task, got int", task=3)
    assert_named(WrongType, "rule must be a rule, got float", rule=0.1)
    assert_named(WrongType, "noise must be a noise, got float", noise=0.1)
    assert_named(WrongType, "noise must be a noise, got int", noise=[None, "drift", 3])
    assert_named(WrongType, "optimizer must be a name, a class or a function, got int", optimizer=3)
    fix = "optimizer must be a function that returns an optimizer, got NoneType"
    assert_named(WrongType, fix, optimizer=lambda parameters, lr: None)
    assert_named(InvalidArgument, "dtype must be torch.float32 or", dtype=torch.float16)


OFF = {
    "by name, ASGD": "asgd",
    "by name, Rprop": "Rprop",
    "by name, LBFGS": "lbfgs",
    "by name, SparseAdam": "sparseadam",
    "by class, ASGD": optim.ASGD,
    "by class, Rprop": optim.Rprop,
    "by class, LBFGS": optim.LBFGS,
    "by class, a subclass": OwnAdam,
    "by class, the base": optim.Optimizer,
    "by partial, ASGD": partial(optim.ASGD, weight_decay=0.1),
    "by partial, Rprop": partial(optim.Rprop, etas=(0.5, 1.1)),
    "by partial, a subclass": partial(OwnAdam, betas=(0.8, 0.9)),
    "by function, LBFGS": lambda parameters, lr: optim.LBFGS(parameters, lr=lr),
}
#: Younger than the oldest torch that will do.
YOUNG = [getattr(optim, name) for name in ("Adafactor", "Muon") if hasattr(optim, name)]
for kind in YOUNG:
    OFF |= {
        f"by name, {kind.__name__}": kind.__name__.lower(),
        f"by class, {kind.__name__}": kind,
        f"by partial, {kind.__name__}": partial(kind, weight_decay=0.1),
    }


@pytest.mark.parametrize("which", OFF)
def test_an_optimizer_off_the_allow_list(which, untrained):
    message = "optimizer must be one whose step is proportional to lr (sgd, adam, adamw, "
    assert_named(InvalidArgument, message, optimizer=OFF[which])


def test_an_optimizer_with_a_rate_of_its_own(untrained):
    """All runs would silently be trained at that multiple of their rates."""
    message = "optimizer must be a function that uses the lr it is given (1.0), got [0.001]"
    assert_named(InvalidArgument, message, optimizer=lambda parameters, lr: optim.Adam(parameters))


@pytest.mark.parametrize("name", ["runs", "steps", "every"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", None])
def test_counts(name, value, untrained):
    assert_named(InvalidArgument, f"{name} must be an integer >= 1, got {value!r}", **{name: value})


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, -1e-3, True, "0.1", None, np.float32("nan")]
)
def test_rates(value, untrained):
    start = "lr must be a finite number >= 0"
    assert_named(InvalidArgument, f"{start}, got", lr=value)
    assert_named(InvalidArgument, f"{start} (run 1), got", lr=[0.1, value, 0.1])
    if isinstance(value, float):
        assert_named(InvalidArgument, f"{start} (run 2), got", lr=torch.tensor([0.1, 0.1, value]))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_lists_of_another_length(count, untrained):
    allowed = f"must be one for all runs or a sequence of 3, one a run, got '{count} entries'"
    for name, entry in (("lr", 0.1), ("rule", "cosine"), ("noise", "drift"), ("seed", 3)):
        assert_named(InvalidArgument, f"{name} {allowed}", **{name: [entry] * count})
    assert_named(InvalidArgument, f"lr {allowed}", lr=np.full(count, 0.1))
    assert_named(InvalidArgument, f"lr {allowed}", lr=torch.full((count,), 0.1))
    assert_named(InvalidArgument, f"seed {allowed}", seed=range(count))


@pytest.mark.parametrize("value", [-1, 2**32, 1.0, True, "0", None, math.nan])
def test_seeds(value, untrained):
    message = f"seed must be an integer in [0, 2**32), got {value!r}"
    assert_named(InvalidArgument, message, seed=value)
    assert_named(InvalidArgument, message, seed=[1, 2, value])


def test_sequences_of_any_kind_are_good():
    for lr in ((0.1, 0.1, 0.1), np.full(3, 0.1), torch.full((3,), 0.1, dtype=torch.float64)):
        assert call(lr=lr).lr[:, 0].tolist() == [0.1] * 3
    for seed in (range(3), (0, 1, 2), np.arange(3)):
        assert call(seed=seed).seeds == (0, 1, 2)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "0.1"])
def test_strengths(value):
    with pytest.raises(InvalidArgument, match=r"^strength must be a finite number >= 0, got"):
        Noise("drift", strength=value)


def test_noise_on_data_of_a_task_without(untrained):
    message = "noise must be on what test-bowl has, got 'data'"
    noise = [None, None, Noise("gaussian", "data")]
    assert_named(InvalidArgument, message, task=bowl(), noise=noise)
    with pytest.raises(AssertionError, match="work was begun"):
        call(task=bowl(), noise=Noise("none", "data"))


@pytest.mark.parametrize("device", ["cuda:77", "nonsense", "meta", 3.5, None])
def test_devices_that_are_not_there(device, untrained):
    message = "device must be one that is there (cpu"
    assert_named(InvalidArgument, message, device=device)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2G", None])
def test_budgets(value, untrained):
    assert_named(InvalidArgument, "memory must be a number of bytes >= 1, got", memory=value)


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "many", None])
def test_chunks(value, untrained):
    assert_named(InvalidArgument, "chunk must be 'auto' or an integer >= 1, got", chunk=value)


def test_budgets_too_small(untrained):
    assert_named(InvalidArgument, "memory must be at least", memory=5_000)
    assert_named(InvalidArgument, "chunk must be at most 2 within", chunk=3, memory=30_000)


LOSSES = {
    "one a row": lambda output, target: (output - target).square().mean(1),
    "one in a list": lambda output, target: squared(output, target)[None],
    "whole numbers": lambda output, target: (output > target).sum(),
    "Python's": lambda output, target: 0.1,
    "nothing": lambda output, target: None,
}


@pytest.mark.parametrize("which", LOSSES)
def test_a_loss_that_is_no_scalar_a_run(which, untrained):
    task = dataclasses.replace(regression(), loss=LOSSES[which])
    message = "task.loss must be a floating-point scalar a run, got"
    assert_named(InvalidArgument, message, task=task)


class Noisy(nn.Linear):
    """Has a buffer that each run draws anew."""

    def __init__(self) -> None:
        super().__init__(4, 1)
        self.register_buffer("noise", torch.rand(3))


WITHOUT = "without running statistics, which runs cannot share"


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    model[0].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
            f"model must be {WITHOUT}, got 'BatchNorm1d'",
        ),
        (
            lambda: nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True), nn.Linear(4, 1)),
            f"model must be {WITHOUT}, got 'InstanceNorm1d'",
        ),
        (nn.Identity, "model must be a module with parameters, got 'Identity'"),
        (
            frozen,
            "model must be one whose parameters are all trained, got 'a frozen one'",
        ),
    ],
    ids=["batch norm", "instance norm", "no parameters", "frozen parameters"],
)
def test_models_that_cannot_be_stacked(model, message, untrained):
    assert_named(InvalidArgument, message, task=dataclasses.replace(regression(), model=model))


def test_a_buffer_that_differs_between_runs(untrained):
    with pytest.raises(InvalidArgument, match=r"^model must be one whose buffers are equal in all"):
        call(task=dataclasses.replace(regression(), model=Noisy))


def test_normalisation_without_statistics_is_good():
    def model() -> nn.Module:
        norm = nn.BatchNorm1d(4, track_running_stats=False)
        return nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 1))

    result = call(task=dataclasses.replace(regression(), model=model))
    assert np.isfinite(result.loss).all()


def test_data_and_batches_that_do_not_fit(untrained):
    x, y = regression().data_for(0)

    def task(data: Any, batch_size: Any = 6, **options: Any) -> Task:
        return Task("t", regression().model, squared, data, batch_size, **options)

    for size in (0, -1, 2.0, True):
        with pytest.raises(InvalidArgument, match=r"^batch_size must be an integer >= 1, got"):
            task((x, y), size)
        assert_named(InvalidArgument, "batch_size must be", task=task(lambda seed: (x, y), size))
    with pytest.raises(InvalidArgument, match=r"^batch_size must be between 1 and the 24 rows"):
        task((x, y), 25)
    message = "batch_size must be between 1 and the 24 rows that are trained on, got 25"
    assert_named(InvalidArgument, message, task=task(lambda seed: (x, y), 25))
    with pytest.raises(InvalidArgument, match=r"^data must be tensors with equally many rows"):
        task((x, y[:-1]))
    message = "data must be tensors with equally many rows, got [24, 23]"
    assert_named(InvalidArgument, message, task=task(lambda seed: (x, y[:-1])))
    with pytest.raises(InvalidArgument, match=r"^batch_size must be between 1 and the 4 rows that"):
        task((x, y), held_out=20)
    with pytest.raises(InvalidArgument, match=r"^held_out must be below the data's 24 rows"):
        task((x, y), held_out=24)
    for rows in (-1, 2.0, True):
        with pytest.raises(InvalidArgument, match=r"^held_out must be an integer >= 0, got"):
            task((x, y), held_out=rows)
    for rows in (0, -1, 2.0):
        with pytest.raises(InvalidArgument, match=r"^evaluation must be an integer >= 1, got"):
            task((x, y), evaluation=rows)


def test_few_modules_are_built_before_what_is_wrong_is_found(untrained):
    """However many runs are asked for."""
    built: list[int] = []

    def model() -> nn.Module:
        built.append(1)
        return Point()

    def many(value: Tensor) -> Tensor:
        return value[None]

    task = Task("t", model, many)
    assert_named(InvalidArgument, "task.loss", task=task, runs=10_000)
    assert len(built) == 1
    assert_named(InvalidArgument, "lr must", task=task, runs=10_000, lr=-1.0)
    assert len(built) == 1
