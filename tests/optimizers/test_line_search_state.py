"""A line search that is saved, loaded or copied goes on to the last bit."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ratewise.errors import InvalidState
from ratewise.optimizers.line_search import StochasticLineSearch

STEPS = 8


class Run:
    """A net with dropout and BatchNorm in training."""

    def __init__(self, **settings: Any) -> None:
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 1)
        )
        groups = [{"params": self.net[:3].parameters()}, {"params": self.net[3:].parameters()}]
        self.optimizer = StochasticLineSearch(groups, model=self.net, **settings)

    def step(self, number: int) -> tuple[float, ...]:
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(16, 4, generator=generator)
        y = (10.0 if number % 3 == 2 else 1.0) * x.square().sum(1, keepdim=True)
        torch.manual_seed(number)
        self.optimizer.step(lambda: nn.functional.mse_loss(self.net(x), y))
        return (*self.optimizer.last[:5], self.optimizer.forward_passes)

    def weights(self) -> list[Tensor]:
        return [value.clone() for value in self.net.state_dict().values()]


SETTINGS = [
    {},
    {"reset": "grow", "steps_per_epoch": 2, "c": 0.3},
    {"reset": "max", "condition": "goldstein", "lr": 0.5},
    {"direction": "adam", "reset": "grow", "steps_per_epoch": 2, "c": 0.4},
    {"direction": "adam", "betas": (0.3, 0.9), "condition": "goldstein", "c": 0.4},
]


@pytest.mark.filterwarnings("ignore::ratewise.errors.NoRateWarning")
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_run_goes_on_after_any_step(settings: dict[str, Any]) -> None:
    whole = Run(**settings)
    expected, checkpoints = [], []
    for number in range(STEPS):
        file = io.BytesIO()
        torch.save([whole.net.state_dict(), whole.optimizer.state_dict()], file)
        checkpoints.append(file)
        expected.append(whole.step(number))
    assert len({numbers[2] for numbers in expected}) > 3  # rates
    for begin, file in enumerate(checkpoints):
        file.seek(0)
        net, state = torch.load(file, weights_only=True)
        resumed = Run()  # the settings come from the checkpoint
        resumed.net.load_state_dict(net)
        resumed.optimizer.load_state_dict(state)
        assert [resumed.step(number) for number in range(begin, STEPS)] == expected[begin:]
        both = zip(resumed.weights(), whole.weights(), strict=True)
        assert all(torch.equal(own, other) for own, other in both)


def test_the_rate_that_is_remembered_matters() -> None:
    """The control: without it a resumed run goes another way."""
    whole = Run()
    for number in range(4):
        whole.step(number)
    state = copy.deepcopy(whole.optimizer.state_dict())
    state["state"]["search"]["rate"] = None
    resumed = copy.deepcopy(whole)
    resumed.optimizer.load_state_dict(state)
    assert resumed.step(4) != whole.step(4)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_has_a_model_of_its_own_and_goes_on_alike(how: str) -> None:
    run = Run(direction="adam")
    for number in range(3):
        run.step(number)
    copied = copy.deepcopy(run) if how == "deepcopy" else pickle.loads(pickle.dumps(run))
    assert copied.optimizer._model is copied.net is not run.net
    assert copied.optimizer.last == run.optimizer.last
    before = run.weights()
    ahead = copied.step(3)
    assert all(torch.equal(own, old) for own, old in zip(run.weights(), before, strict=True))
    assert run.step(3) == ahead


def test_a_state_dict_keeps_its_numbers_when_training_goes_on() -> None:
    run = Run()
    run.step(0)
    state = run.optimizer.state_dict()
    before = dict(state["state"]["search"])
    run.step(1)
    assert state["state"]["search"] == before
    assert run.optimizer.state_dict()["state"]["search"] != before


def test_another_optimizers_state_is_refused() -> None:
    run, weight = Run(), nn.Parameter(torch.ones(1))
    run.step(0)
    foreign = torch.optim.SGD([weight], lr=0.1).state_dict()
    with pytest.raises(InvalidState, match=r"must be of a StochasticLineSearch.*own kind"):
        run.optimizer.load_state_dict(foreign)
    for damage in ({"config": {"c": 7.0}}, {"config": {"speed": 1}}, {"config": None}):
        state = copy.deepcopy(run.optimizer.state_dict())
        state["state"]["search"] |= damage
        with pytest.raises(InvalidState, match="damaged"):
            run.optimizer.load_state_dict(state)
    state = copy.deepcopy(run.optimizer.state_dict())
    del state["state"]["search"]["rate"]
    with pytest.raises(InvalidState, match="damaged"):
        run.optimizer.load_state_dict(state)
    assert run.step(1)
