"""Every trial sees the same batch, dropout and buffers; and closures that make it impossible."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ratewise.errors import InvalidArgument, NoRateWarning, WrongType
from ratewise.optimizers import line_search_trials
from ratewise.optimizers.line_search import StochasticLineSearch


class Running(nn.Module):
    """Puts a new tensor in a buffer's place with every pass, and one where there was none."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("latest", None)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.latest = x.detach().clone()
        return x


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), Running(), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 1)
    )


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(32, 4, generator=generator)
    return x, x.square().sum(1, keepdim=True)


def loss_of(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(data[0]), data[1])


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@pytest.mark.parametrize("form", ["closure", "functional"])
def test_after_a_step_all_is_as_one_training_pass_leaves_it(form: str) -> None:
    model, twin = net(), net()
    optimizer = StochasticLineSearch(model.parameters(), model=model, reset="max")
    names = [name for name, _ in model.named_parameters()]
    trials = 0
    for step in range(4):
        data = batch(step)
        twin.load_state_dict({**model.state_dict(), **buffers(twin)}, strict=False)
        begin, generator = copy.deepcopy(model), torch.get_rng_state()
        loss_of(twin, data).backward()
        after = torch.get_rng_state()

        torch.set_rng_state(generator)
        if form == "closure":
            optimizer.step(lambda data=data: loss_of(model, data))
        else:
            optimizer.step(
                functional=lambda values, data=data: nn.functional.mse_loss(
                    torch.func.functional_call(
                        model, dict(zip(names, values, strict=True)), data[0]
                    ),
                    data[1],
                )
            )
        assert torch.equal(torch.get_rng_state(), after)
        assert not torch.equal(generator, after)
        for (name, own), expected in zip(
            buffers(model).items(), buffers(twin).values(), strict=True
        ):
            assert torch.equal(own, expected), name
        assert model[1].num_batches_tracked.item() == step + 1

        # The accepted loss is that of the new weights under the dropout of the old ones' loss.
        assert optimizer.last.accepted
        begin.load_state_dict({**begin.state_dict(), **dict(model.named_parameters())})
        torch.set_rng_state(generator)
        with torch.no_grad():
            assert loss_of(begin, data).item() == optimizer.last.new_loss
            assert loss_of(begin, data).item() != optimizer.last.new_loss  # by another dropout
        torch.set_rng_state(after)
        trials += optimizer.last.forward_passes
    assert trials > 12


def test_without_the_model_every_trial_moves_its_running_statistics() -> None:
    model = net()
    optimizer = StochasticLineSearch(model.parameters())
    data = batch(0)
    optimizer.step(lambda: loss_of(model, data))
    assert model[1].num_batches_tracked.item() == optimizer.forward_passes > 3


def test_without_the_guard_of_generators_dropout_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    model, data = net(), batch(0)
    optimizer = StochasticLineSearch(model.parameters(), model=model)
    with pytest.raises(InvalidArgument, match="the same loss at the same parameters"):
        optimizer.step(lambda: loss_of(model, data))


# -- closures that draw batches --------------------------------------------------------------------


@pytest.mark.parametrize("form", ["closure", "functional"])
def test_a_closure_that_draws_a_new_batch_is_named_on_the_first_step(form: str) -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    optimizer = StochasticLineSearch(model.parameters(), model=model)
    seeds = itertools.count()
    message = rf"{form} must return the same loss .* got .*: draw the batch outside of it"
    function = {form: lambda *values: loss_of(model, batch(next(seeds)))}
    with pytest.raises(InvalidArgument, match=message):
        optimizer.step(**function)
    assert next(seeds) == 2
    assert optimizer.forward_passes == 0
    for name, value in model.state_dict().items():
        if name != "2.latest":
            assert torch.equal(value, before[name]), name
    assert model[2].latest is None
    assert torch.equal(torch.get_rng_state(), generator)


def test_later_it_is_named_where_a_search_finds_no_rate() -> None:
    weight = nn.Parameter(torch.tensor(1.0))
    optimizer = StochasticLineSearch([weight])
    optimizer.step(lambda: weight.square())
    number = itertools.count()
    before = weight.item()
    with pytest.raises(InvalidArgument, match="draw the batch outside"):
        optimizer.step(lambda: 10.0 ** next(number) * (weight + 5.0).square())
    assert weight.item() == before
    assert 10 < next(number) <= 1 + 50 + 1


def test_a_batch_from_torchs_own_generator_is_the_same_in_every_trial() -> None:
    weight = nn.Parameter(torch.tensor(0.0))
    optimizer = StochasticLineSearch([weight])
    torch.manual_seed(0)
    seen: list[float] = []

    def closure() -> Tensor:
        drawn = torch.randn(8)
        seen.append(drawn[0].item())
        return (weight - drawn).square().mean()

    for _ in range(3):
        optimizer.step(closure)
    assert len(set(seen)) == 3 < len(seen)


def test_the_check_allows_for_kernels_that_round_differently(monkeypatch: pytest.MonkeyPatch):
    wobble = itertools.cycle([1.0, 1.0 + 1e-5])

    def step() -> None:
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        StochasticLineSearch([weight]).step(lambda: next(wobble) * weight.square().sum())

    step()
    monkeypatch.setattr(line_search_trials, "TOLERANCE", 1e-7)
    with pytest.raises(InvalidArgument, match="the same loss"):
        step()


# -- other closures --------------------------------------------------------------------------------


def backward(weight: Tensor) -> Tensor:
    loss = weight.square().sum()
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("closure", "error", "message"),
    [
        (None, WrongType, r"closure must be a function that returns the loss, got NoneType: pass"),
        (3.0, WrongType, "closure must be a function that returns the loss, got float"),
        (backward, InvalidArgument, r"closure must leave .*: remove loss\.backward\(\) from it"),
        (lambda w: w.square().sum().item(), WrongType, "result must be a scalar tensor, got float"),
        (lambda w: None, WrongType, "must be a scalar tensor, got NoneType"),
        (lambda w: w.square(), WrongType, r"got torch\.float32 of shape \(2,\): reduce it"),
        (lambda w: (w * 1j).sum(), WrongType, r"got torch\.complex64"),
        (lambda w: w.detach().sum(), InvalidArgument, "a loss with a graph, got one without"),
        (
            lambda w: torch.ones(1, requires_grad=True).sum(),
            InvalidArgument,
            "depends on none of the optimizer's parameters",
        ),
    ],
    ids=["none", "number", "backward", "item", "nothing", "vector", "complex", "detached", "other"],
)
def test_a_closure_that_will_not_do_is_named(
    closure: Any, error: type[Exception], message: str
) -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = StochasticLineSearch([weight])
    wrapped = (lambda: closure(weight)) if callable(closure) else closure
    with pytest.raises(error, match=message):
        optimizer.step(wrapped)
    assert weight.tolist() == [1.0, 2.0]


def test_two_functions_are_one_too_many() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    with pytest.raises(WrongType, match="closure must be"):
        StochasticLineSearch([weight]).step(
            lambda: weight.sum(), functional=lambda values: values[0].sum()
        )


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(5, 2, sparse=True)
    before = table.weight.detach().clone()
    optimizer = StochasticLineSearch(table.parameters())
    with pytest.raises(InvalidArgument, match=r"gradients must be dense.*with sparse=False"):
        optimizer.step(lambda: table(torch.tensor([1, 2])).square().sum())
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("call", [1, 2, 4])
def test_an_error_of_the_closures_own_leaves_everything_as_it_was(call: int) -> None:
    model, data = net(), batch(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = StochasticLineSearch(model.parameters(), model=model)
    calls = itertools.count(1)

    def closure() -> Tensor:
        loss = loss_of(model, data)
        if next(calls) == call:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert next(calls) == call + 1
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name
    assert optimizer.last is None
    optimizer.step(lambda: loss_of(model, data))
    assert optimizer.last.accepted


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_closure_may_zero_gradients(set_to_none: bool) -> None:
    def steps(zero: Callable[[StochasticLineSearch], None]) -> Tensor:
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = StochasticLineSearch([weight])

        def closure() -> Tensor:
            zero(optimizer)
            return (weight * torch.tensor([1.0, 5.0])).square().sum()

        for _ in range(3):
            optimizer.step(closure)
        return weight.detach()

    expected = steps(lambda optimizer: None)
    assert torch.equal(steps(lambda o: o.zero_grad(set_to_none=set_to_none)), expected)


def autocast_step() -> Any:
    model, data = nn.Linear(4, 1), batch(0)
    optimizer = StochasticLineSearch(model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimizer.step(lambda: nn.functional.mse_loss(model(data[0]), data[1]))
    return optimizer.last


def test_a_step_inside_autocast_sees_new_weights_in_every_trial() -> None:
    last = autocast_step()
    assert last.accepted
    assert last.new_loss < last.loss


def test_with_autocasts_cache_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: None)
    with pytest.warns(NoRateWarning):
        assert autocast_step().reason == "floor"


def test_a_step_under_no_grad_finds_its_gradients() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = StochasticLineSearch([weight])
    with torch.no_grad():
        optimizer.step(lambda: weight.square().sum())
    assert optimizer.last.accepted
