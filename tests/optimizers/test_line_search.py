"""StochasticLineSearch's steps: the condition, directions, functional losses, hostile input."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ratewise.errors import InvalidArgument, NoRateWarning, UnknownName, WrongType
from ratewise.optimizers.line_search import StochasticLineSearch


class Task:
    """A small net in float64, and batches of a regression that it does not fit exactly."""

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(5, 16, 4, generator=generator, dtype=torch.float64)
        self.y = self.x.square().sum(-1, keepdim=True)
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        self.calls = 0

    def loss(self, batch: int) -> Tensor:
        self.calls += 1
        return (self.net(self.x[batch]) - self.y[batch]).square().mean()

    def weights(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.net.parameters()).detach().clone()

    def loss_at(self, weights: Tensor, batch: int) -> float:
        """The loss elsewhere, without a trace."""
        now = self.weights()
        with torch.no_grad():
            nn.utils.vector_to_parameters(weights, self.net.parameters())
            loss = (self.net(self.x[batch]) - self.y[batch]).square().mean().item()
            nn.utils.vector_to_parameters(now, self.net.parameters())
        return loss


class AdamTwin:
    """Adam's direction, literally, on one long vector."""

    def __init__(self, betas: tuple[float, float]) -> None:
        self.betas, self.m, self.v, self.t = betas, 0.0, 0.0, 0

    def direction(self, g: Tensor) -> Tensor:
        self.t += 1
        one, two = self.betas
        self.m = one * self.m + (1 - one) * g
        self.v = two * self.v + (1 - two) * g * g
        return (self.m / (1 - one**self.t)) / ((self.v / (1 - two**self.t)).sqrt() + 1e-8)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"c": 0.5, "reset": "max"},
        {"reset": "grow", "steps_per_epoch": 5},
        {"condition": "goldstein", "c": 0.3},
        {"direction": "adam"},
        {"direction": "adam", "reset": "grow", "steps_per_epoch": 5, "c": 0.4},
        {"direction": "adam", "betas": (0.5, 0.9), "condition": "goldstein", "reset": "max"},
    ],
    ids=str,
)
def test_the_condition_holds_at_every_accepted_step_and_not_before(settings: dict[str, Any]):
    """Recomputed from scratch: the loss, the gradient, the direction and the rate before."""
    task = Task()
    optimizer = StochasticLineSearch(task.net.parameters(), **settings)
    twin = AdamTwin(settings.get("betas", (0.0, 0.999)))
    c, total, backed_off = settings.get("c", 0.1), 0, 0
    for step in range(20):
        batch, before = step % 5, task.weights()
        loss = (task.net(task.x[batch]) - task.y[batch]).square().mean()
        parts = torch.autograd.grad(loss, list(task.net.parameters()))
        gradient = nn.utils.parameters_to_vector(parts)
        direction = twin.direction(gradient) if "direction" in settings else gradient
        slope = torch.dot(gradient, direction).item()

        returned = optimizer.step(lambda batch=batch: task.loss(batch))
        last, after = optimizer.last, task.weights()
        assert returned.item() == last.loss == loss.item()
        assert not returned.requires_grad
        assert last.slope == pytest.approx(slope, rel=1e-9)
        assert last.accepted
        torch.testing.assert_close(after, before - last.rate * direction, rtol=1e-9, atol=1e-12)
        assert last.new_loss == task.loss_at(after, batch)
        assert last.new_loss <= last.loss - c * last.rate * slope * (1 - 1e-9)
        if last.reason == "goldstein":
            assert last.new_loss >= last.loss - (1 - c) * last.rate * slope * (1 + 1e-9)
        elif last.forward_passes > 2 + (step == 0):
            backed_off += 1
            tried = task.loss_at(before - last.rate / 0.9 * direction, batch)
            assert tried > last.loss - c * last.rate / 0.9 * slope
        # The gradient is left where other optimizers leave it.
        grads = [parameter.grad for parameter in task.net.parameters()]
        torch.testing.assert_close(nn.utils.parameters_to_vector(grads), gradient)
        total += last.forward_passes
        assert task.calls == optimizer.forward_passes == total
        assert last.forward_passes <= 52
        assert [group["lr"] for group in optimizer.param_groups] == [last.rate]
        assert type(optimizer.param_groups[0]["lr"]) is float
    assert backed_off or settings.get("condition") == "goldstein"


@pytest.mark.parametrize("direction", ["sgd", "adam"])
def test_functional_and_closure_give_the_same_bits(direction: str) -> None:
    one, other = Task(), Task()
    names = [name for name, _ in other.net.named_parameters()]
    optimizers = [
        StochasticLineSearch(task.net.parameters(), direction=direction, reset="max")
        for task in (one, other)
    ]
    seen = []

    def loss_at(values: tuple[Tensor, ...], batch: int) -> Tensor:
        seen.append(torch.equal(other.weights(), begin))
        named = dict(zip(names, values, strict=True))
        output = torch.func.functional_call(other.net, named, other.x[batch])
        return (output - other.y[batch]).square().mean()

    for batch in range(5):
        begin = other.weights()
        optimizers[0].step(lambda batch=batch: one.loss(batch))
        optimizers[1].step(functional=lambda values, batch=batch: loss_at(values, batch))
        assert torch.equal(one.weights(), other.weights())
        assert not torch.equal(begin, other.weights())
        assert optimizers[0].last == optimizers[1].last
    assert all(seen)  # no trial was written into the module
    assert len(seen) == optimizers[1].forward_passes > 20


def test_a_closure_sees_the_trials_in_the_module() -> None:
    task, seen = Task(), []
    optimizer = StochasticLineSearch(task.net.parameters())
    begin = task.weights()

    def closure() -> Tensor:
        seen.append(torch.equal(task.weights(), begin))
        return task.loss(0)

    optimizer.step(closure)
    assert seen[:2] == [True, True]
    assert not any(seen[2:])


@pytest.mark.parametrize("direction", ["sgd", "adam"])
def test_groups_have_one_rate_and_make_the_step_of_one_group(direction: str) -> None:
    one, other = Task(), Task()
    whole = StochasticLineSearch(one.net.parameters(), direction=direction)
    parts = StochasticLineSearch(
        [{"params": list(other.net[0].parameters())}, {"params": list(other.net[2].parameters())}],
        direction=direction,
    )
    for step in range(6):
        whole.step(lambda step=step: one.loss(step % 5))
        parts.step(lambda step=step: other.loss(step % 5))
        assert torch.equal(one.weights(), other.weights())
        assert [group["lr"] for group in parts.param_groups] == [whole.last.rate] * 2


def test_a_group_that_is_added_moves_with_the_rest() -> None:
    task = Task()
    optimizer = StochasticLineSearch(task.net[2].parameters(), lr=0.5, direction="adam")
    first = task.net[0].weight.detach().clone()
    optimizer.step(lambda: task.loss(0))
    assert torch.equal(task.net[0].weight, first)
    optimizer.add_param_group({"params": task.net[0].parameters(), "betas": (0.0, 0.9)})
    assert optimizer.param_groups[1]["lr"] == optimizer.last.rate
    optimizer.step(lambda: task.loss(1))
    assert optimizer.last.accepted
    assert not torch.equal(task.net[0].weight, first)
    with pytest.raises(InvalidArgument, match=r"lr must be 0\.5 in every group, got 3\.0: leave"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "lr": 3.0})
    assert len(optimizer.param_groups) == 2


def test_what_has_no_gradient_stays() -> None:
    task = Task()
    unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    frozen = nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=False)
    parameters = [unused, *task.net.parameters(), frozen]
    for form in ({}, {"direction": "adam"}):
        optimizer = StochasticLineSearch(parameters, **form)
        optimizer.step(lambda: task.loss(0))
        assert optimizer.last.accepted
        assert unused.tolist() == frozen.tolist() == [1.0] * 3
        assert unused.grad is None


@pytest.mark.parametrize(
    ("reset", "factor"), [("previous", 1.0), ("max", None), ("grow", 4.0**0.25)]
)
def test_a_step_begins_where_reset_says(reset: str, factor: float | None) -> None:
    """On 10 w^2 a trial's place tells its rate: w (1 - 20 rate)."""
    weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = StochasticLineSearch(
        [weight], lr=0.5, reset=reset, growth=4.0, steps_per_epoch=4, backtrack=0.7
    )
    rates: list[float] = []

    def closure() -> Tensor:
        rates.append((1.0 - weight.item() / begin) / 20.0)
        return 10.0 * weight.square()

    begin = weight.item()
    optimizer.step(closure)
    assert rates[2] == pytest.approx(0.5)
    for _ in range(4):
        accepted = optimizer.last.rate
        assert accepted < 0.1
        rates.clear()
        begin = weight.item()
        optimizer.step(closure)
        assert rates[0] == 0.0
        assert rates[1] == pytest.approx(0.5 if factor is None else factor * accepted)


# -- hostile input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["closure", "functional"])
def test_trials_that_are_not_finite_are_backed_off_from(form: str) -> None:
    """-log(w) - log(1 - w) is NaN outside (0, 1), to which a step of rate 1 leads."""
    weight = nn.Parameter(torch.tensor(0.02, dtype=torch.float64))
    optimizer = StochasticLineSearch([weight])
    losses: list[float] = []

    def loss_at(values: tuple[Tensor, ...]) -> Tensor:
        loss = -values[0].log() - (1 - values[0]).log()
        losses.append(loss.item())
        return loss

    if form == "closure":
        optimizer.step(lambda: loss_at((weight,)))
    else:
        optimizer.step(functional=loss_at)
    assert any(math.isnan(loss) for loss in losses)
    assert optimizer.last.accepted
    assert 0.02 < weight.item() < 1.0


def kink(weight: Tensor, beyond: float) -> Tensor:
    """w^2 at 1, and elsewhere another number: along its gradient nothing can be accepted."""
    return torch.where(weight == 1.0, weight.square(), beyond)


@pytest.mark.parametrize(
    ("beyond", "rate"), [(5.0, 1e-3), (math.nan, 0.0)], ids=["finite", "not-finite"]
)
@pytest.mark.parametrize("reset", ["previous", "grow"])
def test_the_floor_is_said_and_the_next_search_comes_back(beyond: float, rate: float, reset: str):
    weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = StochasticLineSearch([weight], min_lr=1e-3, reset=reset, steps_per_epoch=3)
    optimizer.step(lambda: 20.0 * weight.square())
    assert optimizer.last.rate < 0.1
    weight.data.fill_(1.0)
    earlier = optimizer.forward_passes
    with pytest.warns(NoRateWarning, match="no trial of the line search met its condition") as said:
        optimizer.step(lambda: kink(weight, beyond))
    assert said[0].filename == __file__
    last = optimizer.last
    assert (last.rate, last.reason, last.accepted) == (rate, "floor", False)
    assert weight.item() == pytest.approx(1.0 - 2.0 * rate, rel=1e-15)
    assert optimizer.param_groups[0]["lr"] == rate
    assert last.forward_passes == optimizer.forward_passes - earlier <= 52
    assert last.new_loss == (1.0 if math.isnan(beyond) else beyond)
    places: list[float] = []

    def parabola() -> Tensor:
        places.append(weight.item())
        return weight.square()

    begin = weight.item()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once a run
        optimizer.step(parabola)
        assert optimizer.last.accepted
        assert places[1] == pytest.approx(begin - 2.0 * begin)  # lr, not the last accepted rate
        weight.data.fill_(1.0)
        optimizer.step(lambda: kink(weight, beyond))
    assert optimizer.last.reason == "floor"


def test_a_direction_of_no_descent_goes_to_the_floor_and_keeps_the_rate() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = StochasticLineSearch([weight], direction="adam", betas=(0.9, 0.99), min_lr=1e-6)
    for _ in range(3):
        optimizer.step(lambda: weight.sum())
    rate, before = optimizer.last.rate, weight.detach().clone()
    with pytest.warns(NoRateWarning, match=r"slope -.*betas=\(0\.0, 0\.999\) always descends"):
        optimizer.step(lambda: -weight.sum())
    last = optimizer.last
    assert (last.rate, last.reason, last.accepted) == (1e-6, "not a descent direction", False)
    assert last.slope < 0
    assert last.forward_passes == 2
    torch.testing.assert_close(weight, before - 1e-6, rtol=0, atol=3e-6)
    assert optimizer.state_dict()["state"]["search"]["rate"] == rate


def test_without_the_mean_of_gradients_the_same_direction_descends() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = StochasticLineSearch([weight], direction="adam")
    for _ in range(3):
        optimizer.step(lambda: weight.sum())
    optimizer.step(lambda: -weight.sum())
    assert optimizer.last.accepted


@pytest.mark.parametrize(
    "loss",
    [
        lambda weight: weight.sum() * math.nan,
        lambda weight: weight.sum() / 0.0,
        lambda weight: (weight - weight.detach()).sqrt().sum(),  # 0, with an infinite gradient
        lambda weight: (weight * 1e200).sum(),  # finite, but its square is not
    ],
    ids=["nan", "inf", "gradient", "overflow"],
)
def test_a_batch_that_is_not_finite_changes_nothing(loss: Any) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = StochasticLineSearch([weight], direction="adam")
    optimizer.step(lambda: weight.square().sum())
    before, squares = weight.detach().clone(), optimizer.state[weight]["exp_avg_sq"].clone()
    with pytest.warns(NoRateWarning, match="not finite: the step was left out"):
        optimizer.step(lambda: loss(weight))
    assert (optimizer.last.reason, optimizer.last.rate) == ("non-finite", 0.0)
    assert optimizer.last.forward_passes == 1
    assert torch.equal(weight, before)
    assert torch.equal(optimizer.state[weight]["exp_avg_sq"], squares)
    optimizer.step(lambda: weight.square().sum())
    assert optimizer.last.accepted


@pytest.mark.parametrize("direction", ["sgd", "adam"])
def test_a_batch_without_gradient_is_left_without_a_trial(direction: str) -> None:
    weight = nn.Parameter(torch.tensor(1.0))
    optimizer = StochasticLineSearch([weight], direction=direction)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(lambda: (weight - 2.0).relu())
    assert optimizer.last.reason == "stationary"
    assert (weight.item(), optimizer.forward_passes) == (1.0, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("direction", ["sgd", "adam"])
def test_low_precision_and_a_loss_of_one_element(dtype: torch.dtype, direction: str) -> None:
    weight = nn.Parameter(torch.tensor([3.0, -1.0], dtype=dtype))
    optimizer = StochasticLineSearch([weight], direction=direction, eps=1e-4)
    for _ in range(8):
        optimizer.step(lambda: weight.square().sum().reshape(1))
    assert optimizer.last.loss < 1.0
    assert weight.dtype == dtype


def test_half_gradients_are_squared_in_float32() -> None:
    weight = nn.Parameter(torch.full((2,), 200.0, dtype=torch.float16))
    optimizer = StochasticLineSearch([weight])
    optimizer.step(lambda: weight.float().square().sum())
    assert optimizer.last.slope == 2 * 400.0**2
    assert optimizer.last.accepted


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lr": -1.0}, InvalidArgument, "lr must be a finite number > 0, got -1.0"),
        ({"c": 2.0}, InvalidArgument, "c must be"),
        ({"direction": "newton"}, UnknownName, "unknown direction 'newton'"),
        ({"reset": "grow"}, InvalidArgument, "steps_per_epoch must be"),
        ({"betas": (0.9, 1.0)}, InvalidArgument, r"betas must be two numbers in \[0, 1\)"),
        ({"betas": 0.9}, InvalidArgument, "betas must be"),
        ({"eps": 0.0}, InvalidArgument, r"eps must be a number in \(0, 1\), got 0\.0"),
        ({"model": "net"}, WrongType, r"model must be a torch\.nn\.Module or None, got str"),
        ({"params": [{"params": [], "lr": 3.0}]}, InvalidArgument, "lr must be 1 in every group"),
        (
            {"params": [torch.zeros(1, dtype=torch.complex64)]},
            InvalidArgument,
            r"params must be of a real dtype, got torch\.complex64",
        ),
    ],
)
def test_a_bad_argument_is_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        StochasticLineSearch(**{"params": [nn.Parameter(torch.ones(1))], **arguments})
