"""States, groups and missing gradients of the hypergradient optimizers."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ratewise.errors import InvalidArgument, InvalidState
from ratewise.optimizers.hypergradient import HypergradientAdam, HypergradientSGD
from ratewise.optimizers.hypergradient_base import Hypergradient
from ratewise.optimizers.hypergradient_rate import PER

KINDS: dict[str, Any] = {
    "SGD": lambda params, **rest: HypergradientSGD(
        params, **{"lr": 0.013, "hyper_lr": 1e-3, "momentum": 0.9, "nesterov": True, **rest}
    ),
    "Adam": lambda params, **rest: HypergradientAdam(
        params, **{"lr": 0.013, "hyper_lr": 1e-4, **rest}
    ),
}
both_kinds = pytest.mark.parametrize("kind", KINDS)
every_per = pytest.mark.parametrize("per", PER)


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype)


def groups_of(net: nn.Sequential) -> list[dict[str, Any]]:
    return [{"params": net[0].parameters()}, {"params": net[2].parameters(), "weight_decay": 0.1}]


def advance(net: nn.Module, optimizer: Hypergradient, begin: int, end: int) -> None:
    """Take steps, each with a batch of its own number."""
    for step in range(begin, end):
        generator = torch.Generator().manual_seed(step)
        dtype = next(net.parameters()).dtype
        x, y = (torch.randn(16, n, generator=generator).to(dtype) for n in (4, 2))
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()


def everything(net: nn.Module, optimizer: Hypergradient) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()] + optimizer.rates()


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    both = list(zip(left, right, strict=True))
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in both)


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# -- resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])
@every_per
@both_kinds
def test_a_resumed_run_is_bit_equal(kind: str, per: str, foreach: bool, dtype: torch.dtype) -> None:
    net = network(dtype)
    optimizer = KINDS[kind](groups_of(net), per=per, foreach=foreach)
    advance(net, optimizer, 0, 5)
    saved = through_a_file({"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    middle = optimizer.rates()
    advance(net, optimizer, 5, 10)

    other = network(dtype)
    resumed = KINDS[kind](groups_of(other), per=per, foreach=foreach, lr=0.5)
    other.load_state_dict(saved["net"])
    resumed.load_state_dict(saved["optimizer"])
    assert same(resumed.rates(), middle)
    advance(other, resumed, 5, 10)
    assert same(everything(other, resumed), everything(net, optimizer))
    assert not any(torch.equal(a, b) for a, b in zip(middle, resumed.rates(), strict=True))


@every_per
@both_kinds
def test_a_loaded_state_is_not_shared(kind: str, per: str) -> None:
    net, other = network(), network()
    optimizer, second = (KINDS[kind](groups_of(n), per=per) for n in (net, other))
    advance(net, optimizer, 0, 3)
    second.load_state_dict(optimizer.state_dict())  # in memory, without a file between
    before = copy.deepcopy(optimizer.state_dict())
    advance(other, second, 3, 6)
    for now, then in zip(
        optimizer.state_dict()["state"].values(), before["state"].values(), strict=True
    ):
        for name, value in then.items():
            assert torch.equal(now[name], value) if isinstance(value, Tensor) else True
    for now, then in zip(optimizer.param_groups, before["param_groups"], strict=True):
        assert now["lr"] == then["lr"]


@every_per
@both_kinds
def test_copies_and_pickles_go_on_alike(kind: str, per: str) -> None:
    net = network()
    optimizer = KINDS[kind](groups_of(net), per=per)
    advance(net, optimizer, 0, 3)
    pairs = [copy.deepcopy((net, optimizer)), pickle.loads(pickle.dumps((net, optimizer)))]
    advance(net, optimizer, 3, 5)
    for other, copied in pairs:
        advance(other, copied, 3, 5)
        assert same(everything(other, copied), everything(net, optimizer))


def test_a_state_of_another_kind_is_refused_before_it_changes_anything() -> None:
    net = network()
    optimizer = HypergradientSGD(net.parameters(), per="tensor")
    advance(net, optimizer, 0, 2)
    before = copy.deepcopy(optimizer.state_dict())
    for other in (HypergradientSGD(net.parameters()), torch.optim.SGD(net.parameters())):
        with pytest.raises(InvalidState, match=r"per='tensor': construct it with the same"):
            optimizer.load_state_dict(other.state_dict())
    assert str(optimizer.state_dict()) == str(before)


# -- groups ---------------------------------------------------------------------------------------


@both_kinds
@every_per
def test_a_group_can_be_added_later(kind: str, per: str) -> None:
    net = network()
    given = {"params": list(net[2].parameters()), "weight_decay": 0.2}
    optimizer = KINDS[kind](net[0].parameters(), per=per)
    advance(net, optimizer, 0, 3)
    [moved, *_] = optimizer.rates()
    optimizer.add_param_group(given)
    assert set(given) == {"params", "weight_decay"}, "the caller's dict is the caller's"
    late = optimizer.rates()[-1]
    start = moved if per == "model" else torch.full_like(late, 0.013)
    assert torch.equal(late, start)
    advance(net, optimizer, 3, 6)
    assert len(optimizer.rates()) == {"model": 1, "group": 2}.get(per, 4)
    assert not torch.equal(optimizer.rates()[-1], late)
    first, second = (group["lr"] for group in optimizer.param_groups)
    assert first is not second or not isinstance(first, Tensor)
    assert (first == second) == (per in ("model", "tensor", "element"))


def test_a_later_group_of_the_model_has_the_models_rate() -> None:
    net = network()
    optimizer = HypergradientSGD(net[0].parameters(), per="model")
    with pytest.raises(InvalidArgument, match="leave lr out"):
        optimizer.add_param_group({"params": net[2].parameters(), "lr": 1e-3})
    with pytest.raises(InvalidArgument, match=r"hyper_lr .* use per='group'"):
        optimizer.add_param_group({"params": net[2].parameters(), "hyper_lr": 0.5})
    assert len(optimizer.param_groups) == 1


def test_groups_move_by_settings_of_their_own() -> None:
    net = network()
    first, second = groups_of(net)
    rows = [{**first, "hyper_lr": 0.0}, {**second, "form": "multiplicative", "min_lr": 0.009}]
    optimizer = HypergradientSGD(rows, lr=0.01, hyper_lr=0.9)
    scripted(optimizer, net[2].bias, [1.0, -1.0])
    kept, bound = optimizer.rates()
    assert (kept.item(), bound.item()) == (0.01, 0.009)


@pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])
def test_momentum_keeps_no_second_copy_and_may_be_changed(foreach: bool) -> None:
    """The buffer is the last direction, also where the next step has no momentum any more."""
    p = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = HypergradientSGD([p], lr=1.0, hyper_lr=0.1, momentum=0.5, foreach=foreach)
    rates = scripted(optimizer, p, [2.0, 3.0])
    state = optimizer.state[p]
    assert state["direction"] is state["momentum_buffer"]
    optimizer.param_groups[0]["momentum"] = 0.0
    rates += scripted(optimizer, p, [5.0, 7.0])
    moves = [0, 2 * 3, 5 * (3 + 0.5 * 2), 7 * 5]
    assert rates == pytest.approx([1 + 0.1 * sum(moves[: k + 1]) for k in range(4)])


def test_rates_are_copies_and_the_groups_tensor_stays_the_same_object() -> None:
    net = network()
    optimizer = HypergradientSGD(net.parameters(), lr=0.1, hyper_lr=0.01)
    held = optimizer.param_groups[0]["lr"]
    assert (held.dtype, held.dim()) == (torch.float64, 0)
    optimizer.rates()[0].zero_()
    advance(net, optimizer, 0, 3)
    assert optimizer.param_groups[0]["lr"] is held
    assert held.item() == optimizer.rates()[0].item() != 0.1


def test_what_is_written_into_a_group_is_where_the_rate_goes_on_from() -> None:
    net = network()
    optimizer = HypergradientSGD(net.parameters(), lr=0.1, hyper_lr=1e-4)
    advance(net, optimizer, 0, 2)
    for written in (0.03, torch.tensor([0.03], dtype=torch.float32)):
        optimizer.param_groups[0]["lr"] = written
        advance(net, optimizer, 2, 3)
        [rate] = optimizer.rates()
        assert rate.item() == pytest.approx(0.03, rel=1e-2)
        assert rate.item() != pytest.approx(0.03, rel=1e-7)


# -- gradients that are missing, borrowed, scaled or not finite -----------------------------------


def scripted(optimizer: Any, p: nn.Parameter, gradients: list[float | None]) -> list[float]:
    """Return the first rate after each of these steps of one weight."""
    found = []
    for gradient in gradients:
        p.grad = None if gradient is None else torch.full_like(p, gradient)
        optimizer.step()
        found.append(optimizer.rates()[0].item())
    return found


@every_per
def test_a_direction_before_a_step_without_gradient_is_forgotten(per: str) -> None:
    p = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = HypergradientSGD([p], lr=1.0, hyper_lr=0.1, per=per)
    rates = scripted(optimizer, p, [2.0, 3.0, None, 5.0, 7.0])
    # 2 x 3 and 5 x 7 count; 3 x 5 are not consecutive.
    assert rates == pytest.approx([1.0, 1.6, 1.6, 1.6, 5.1])


def test_others_count_where_one_is_missing() -> None:
    p, q = (nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2))
    optimizer = HypergradientSGD([p, q], lr=1.0, hyper_lr=0.1)
    for mine, others in [(2.0, 1.0), (3.0, None), (1.0, 4.0)]:
        p.grad = torch.full_like(p, mine)
        q.grad = None if others is None else torch.full_like(q, others)
        optimizer.step()
    assert optimizer.rates()[0].item() == pytest.approx(1.0 + 0.1 * (2 * 3 + 3 * 1))


@every_per
@both_kinds
def test_frozen_parameters_stay_and_leave_no_state(kind: str, per: str) -> None:
    net = network()
    net[0].requires_grad_(False)
    frozen = [p.detach().clone() for p in net[0].parameters()]
    optimizer = KINDS[kind](net.parameters(), per=per)
    advance(net, optimizer, 0, 3)
    assert same(frozen, [p.detach() for p in net[0].parameters()])
    assert set(optimizer.state) == set(net[2].parameters())
    assert len(optimizer.rates()) == {"model": 1, "group": 1}.get(per, 4)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])
def test_gradients_that_are_zeroed_in_place_are_not_the_kept_direction(
    foreach: bool, settings: dict[str, Any]
) -> None:
    ends = []
    for to_none in (True, False):
        net = network()
        optimizer = HypergradientSGD(
            net.parameters(), lr=0.01, hyper_lr=0.01, foreach=foreach, **settings
        )
        for step in range(4):
            optimizer.zero_grad(set_to_none=to_none)
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            net(x).square().mean().backward()
            optimizer.step()
        ends.append(everything(net, optimizer))
    assert same(*ends)
    assert ends[0][-1].item() != 0.01


@pytest.mark.parametrize("normalize", [None, True])
@pytest.mark.parametrize("form", ["additive", "multiplicative"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@every_per
def test_a_hypergradient_that_is_not_finite_leaves_the_rate(
    per: str, bad: float, form: str, normalize: bool | None
) -> None:
    p, q = (nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2))
    settings: Any = {"per": per, "form": form, "normalize": normalize}
    optimizer = HypergradientSGD([p, q], lr=0.1, hyper_lr=0.01, **settings)
    found = []
    for mine in (1.0, bad, 1.0, 1.0, 1.0):
        p.grad, q.grad = torch.tensor([mine, 1.0]).double(), torch.ones(2).double()
        optimizer.step()
        found.append(torch.cat([rate.reshape(-1) for rate in optimizer.rates()]).tolist())
    firsts, lasts = [row[0] for row in found], [row[-1] for row in found]
    assert firsts[2] == firsts[1] == firsts[0] == 0.1
    assert all(math.isfinite(rate) for row in found for rate in row)
    assert firsts[4] > firsts[3]  # and it goes on
    if per in ("tensor", "element"):
        assert 0.1 == lasts[0] < lasts[1] < lasts[2]  # the others' rates are their own


def test_scaled_gradients_are_unscaled_before_they_count() -> None:
    def run(scale: float | None, unscale: bool = True) -> list[Tensor]:
        net = network()
        optimizer = HypergradientSGD(net.parameters(), lr=0.05, hyper_lr=0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
        for step in range(4):
            optimizer.zero_grad()
            x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
            loss = net(x).square().mean()
            if unscale:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
            else:
                (loss * (scale or 1.0)).backward()
                optimizer.step()
        return everything(net, optimizer)

    assert same(run(1024.0), run(None))
    assert not same(run(2.0, unscale=False), run(None))


def test_a_closure_is_called_once_with_gradients_on() -> None:
    x = nn.Parameter(torch.tensor(1.0))
    optimizer = HypergradientSGD([x], lr=0.1)
    calls = []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = x.square()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert calls == [True]
    assert x.item() == pytest.approx(0.8)


# -- 16 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", [False, True], ids=["loop", "foreach"])
@every_per
@both_kinds
def test_16_bit_weights_have_rates_of_full_digits(kind: str, per: str, foreach: bool) -> None:
    net = network(torch.bfloat16)
    optimizer = KINDS[kind](net.parameters(), per=per, foreach=foreach)
    advance(net, optimizer, 0, 6)
    width = torch.float32 if per == "element" else torch.float64
    for rate in optimizer.rates():
        assert rate.dtype == width
        assert torch.isfinite(rate).all()
        assert not torch.equal(rate, rate.bfloat16().to(width))  # more digits than a bfloat16


def test_a_16_bit_step_is_rounded_once() -> None:
    """0.3 is no bfloat16: a rate that was rounded to one would give other weights."""
    start, gradient = torch.linspace(-1, 1, 4096).bfloat16(), torch.linspace(3, -2, 4096).bfloat16()
    exact = (start.double() - 0.3 * gradient.double()).float().bfloat16()
    rounded = (start.double() - torch.tensor(0.3).bfloat16() * gradient.double()).float().bfloat16()
    assert (rounded != exact).float().mean() > 0.05
    for foreach in (False, True):
        p = nn.Parameter(start.clone())
        p.grad = gradient.clone()
        HypergradientSGD([p], lr=0.3, foreach=foreach).step()
        assert (p.detach() != exact).float().mean() < 0.005  # ties, in float32 sums


def test_moves_too_small_for_a_float32_rate_add_up() -> None:
    p = nn.Parameter(torch.zeros(1))
    optimizer = HypergradientSGD([p], lr=1e-3, hyper_lr=1e-11)
    rates = scripted(optimizer, p, [1.0] * 101)
    assert rates[-1] == pytest.approx(1e-3 + 100e-11, rel=1e-12)
    assert torch.tensor(1e-3) + 1e-11 == torch.tensor(1e-3)
