"""What the groups' rates say: their proportion is kept, their size is no matter, 0 is refused."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.rules.policies import random_policy
from tests.schedulers.update_ratio_twin import BASE, Task, adamw, length, sgd
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ratewise import LearnedLR, UpdateRatioLR
from ratewise.errors import InvalidArgument, WrongType

STEPS = 60
both_optimizers = pytest.mark.parametrize("make", [sgd, adamw], ids=["sgd", "adamw"])


def task_at(*rates: float, make: Any = sgd, dtype: torch.dtype = torch.float32) -> Task:
    """Return the task with these rates of its two groups."""

    def build(groups: Any) -> torch.optim.Optimizer:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        return make(groups)

    return Task(build, dtype=dtype)


def update_ratio(optimizer: Any, **settings: Any) -> UpdateRatioLR:
    quick = {"ratio": 0.02, "start": 1.0, "gain": 1.0, "rise": 9.0, "measure_every": 1}
    return UpdateRatioLR(optimizer, **{**quick, **settings})


def learned(optimizer: Any, **settings: Any) -> LearnedLR:
    return LearnedLR(optimizer, policy=random_policy(), total_steps=STEPS, **settings)


def group_ratios(task: Task, scheduler: Any, steps: int = 30) -> list[float]:
    """Return how far each group's two matrices went in a step, relative to their size."""
    task.run(scheduler, steps)
    weights = [task.model[0].weight, task.model[2].weight]
    before = [weight.detach().clone() for weight in weights]
    task.run(scheduler, 1)
    return [length(w - old) / length(old) for w, old in zip(weights, before, strict=True)]


# -- proportions ----------------------------------------------------------------------------------


@both_optimizers
@pytest.mark.parametrize("per", ["tensor", "group"])
@pytest.mark.parametrize("rates", [(1e-4, 1e-2), (1e-2, 1e-3)])
def test_groups_move_in_proportion_to_their_rates(make: Any, per: str, rates: tuple[float, float]):
    task = task_at(*rates, make=make)
    ratios = group_ratios(task, update_ratio(task.optimizer, per=per))
    if per == "tensor":
        assert ratios == pytest.approx([0.02 * rate / 1e-2 for rate in rates], rel=0.1)
    assert ratios[0] / ratios[1] == pytest.approx(rates[0] / rates[1], rel=0.6)


@pytest.mark.parametrize("per", ["tensor", "group"])
def test_an_argument_turns_it_off(per: str):
    task = task_at(1e-4, 1e-2)
    scheduler = update_ratio(task.optimizer, per=per, keep_proportions=False)
    ratios = group_ratios(task, scheduler)
    assert ratios[0] / ratios[1] == pytest.approx(1.0, rel=0.6)
    if per == "tensor":
        assert ratios == pytest.approx([0.02, 0.02], rel=0.01)


def test_with_one_factor_for_the_model_displacements_have_the_proportion_already():
    ends = []
    for keep in (True, False):
        task = task_at(1e-3, 1e-2)
        task.run(update_ratio(task.optimizer, per="model", keep_proportions=keep), 20)
        ends.append(task.weights().tolist())
    assert ends[0] == ends[1]


@pytest.mark.parametrize("make", [update_ratio, learned], ids=["update ratio", "learned"])
def test_at_equal_rates_nothing_is_changed_to_the_bit(make: Callable[..., Any]):
    ends = []
    for keep in (True, False):
        task = task_at(BASE, BASE)
        scheduler = make(task.optimizer, keep_proportions=keep)
        for _ in range(30):
            loss = task.backward()
            task.optimizer.step()
            scheduler.step(loss)
        ends.append(task.weights().tolist())
    assert ends[0] == ends[1]


def test_a_learned_schedule_keeps_them_too():
    distances = []
    for keep in (True, False):
        task = task_at(1e-4, 1e-2)
        begin = task.model[0].weight.detach().clone()
        scheduler = learned(task.optimizer, keep_proportions=keep)
        for _ in range(30):
            loss = task.backward()
            task.optimizer.step()
            scheduler.step(loss)
        distances.append(length(task.model[0].weight - begin))
    assert distances[0] < 0.03 * distances[1]


def test_a_later_group_relates_to_the_rate_at_construction_and_gets_at_most_the_ratio():
    task = task_at(0.1, 0.1)
    scheduler = update_ratio(task.optimizer)
    task.run(scheduler, 3)
    task.optimizer.param_groups[0]["lr"] = 50.0  # of no matter: it is fixed
    for rate in (0.01, 100.0):
        late = nn.Parameter(torch.ones(3, 3))
        task.optimizer.add_param_group({"params": [late], "lr": rate})
        task.backward()
        late.grad = torch.ones(3, 3)
        task.optimizer.step()
        scheduler.step()
        wanted = 0.02 * min(1.0, rate / 0.1)
        assert float(scheduler.ratios()[-1]) == pytest.approx(wanted, rel=1e-3)


def test_proportions_are_those_of_the_base_rates_and_not_of_what_is_left_of_them():
    task = task_at(0.1, 0.1)
    LambdaLR(task.optimizer, [lambda step: 1.0, lambda step: 0.1])
    ratios = group_ratios(task, update_ratio(task.optimizer))
    assert ratios == pytest.approx([0.02, 0.002], rel=0.1), "the other scheduler's 0.1, once"


def test_they_are_kept_on_resume_whatever_the_rates_are_then():
    first = task_at(1e-3, 1e-2)
    scheduler = update_ratio(first.optimizer)
    first.run(scheduler, 10)
    second = task_at(0.3, 0.2)
    again = update_ratio(second.optimizer)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    again.load_state_dict(scheduler.state_dict())
    second.sampler.set_state(first.sampler.get_state())
    first.run(scheduler, 10)
    second.run(again, 10)
    assert second.weights().tolist() == first.weights().tolist()


def test_it_explains_them():
    def words(**settings: Any) -> str:
        task, out = task_at(1e-3, 1e-2), io.StringIO()
        scheduler = update_ratio(task.optimizer, **settings)
        task.run(scheduler, 2)
        scheduler.explain(file=out)
        return out.getvalue()

    assert "  group 0: 0.1 of it, as its rate is of the largest (keep_proportions)\n" in words()
    assert "group 1:" not in words()
    assert "of the largest" not in words(keep_proportions=False)
    assert "of the largest" not in words(per="model")


def test_it_is_on_or_off():
    with pytest.raises(WrongType, match="keep_proportions must be True or False, got str"):
        update_ratio(task_at(0.1, 0.1).optimizer, keep_proportions="yes")


# -- sizes ----------------------------------------------------------------------------------------

RATES = [1e-30, 1e-24, 1e-18, 1e-12, 1e-9, 1e-7, 1e-3, 1e3, 1e6]


class Still:
    """Trains nothing: the control."""

    def __init__(self, optimizer: Any) -> None:
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.0

    def step(self, loss: Any) -> None:
        """Do nothing."""


def trained(rate: Any, make: Any, build: Any, *, second: float = 1.0) -> float:
    """Return the loss on all data after a training from this rate."""
    task = task_at(rate, rate * second, make=make)
    scheduler = build(task.optimizer)
    for _ in range(STEPS):
        loss = task.backward()
        task.optimizer.step()
        scheduler.step(loss)
    with torch.no_grad():
        return float(nn.functional.mse_loss(task.model(task.x), task.y))


@both_optimizers
@pytest.mark.parametrize("per", ["tensor", "group", "model", "learned"])
def test_from_any_rate_it_trains_about_as_well(make: Any, per: str):
    def build(optimizer: Any) -> Any:
        if per == "learned":
            return learned(optimizer)
        return UpdateRatioLR(optimizer, per=per, total_steps=STEPS)

    losses = [trained(rate, make, build) for rate in RATES]
    start = trained(1e-3, make, Still)
    assert max(losses) < 0.5 * start
    assert max(losses) / min(losses) < 1.05, losses


def test_two_groups_far_apart_and_far_from_usual_rates():
    """The proportion holds from there, too."""
    for rates in ((1e-28, 1e-27), (1e5, 1e6), (1e-8, 1e-7)):
        task = task_at(*rates)
        assert group_ratios(task, update_ratio(task.optimizer)) == pytest.approx(
            [0.002, 0.02], rel=0.01
        )


@pytest.mark.parametrize("rate", [1e-20, 1e5])
def test_what_lies_far_off_is_resumed_to_the_bit_and_taken_to_another_rate(rate: float):
    def run(steps: int, state: Any = None, lr: Any = None) -> tuple[Task, Any]:
        task = task_at(rate, rate)
        scheduler = UpdateRatioLR(task.optimizer, total_steps=STEPS)
        if state is not None:
            task.model.load_state_dict(state[0])
            task.optimizer.load_state_dict(copy.deepcopy(state[1]))
            scheduler.load_state_dict(state[2], lr=lr)
            task.sampler.set_state(state[3])
        return task.run(scheduler, steps) and task, scheduler

    whole, _ = run(20)
    task, scheduler = run(11)
    states = [part.state_dict() for part in (task.model, task.optimizer, scheduler)]
    state = [*states, task.sampler.get_state()]
    assert run(9, state)[0].weights().tolist() == whole.weights().tolist()
    other = run(9, state, lr=0.01)[0]
    torch.testing.assert_close(other.weights(), whole.weights(), rtol=1e-3, atol=1e-4)


def test_where_no_value_can_be_read_a_tiny_rate_is_raised_by_a_number():
    """A Python rate, weights on a device: 1e-12 would not have moved them in a step."""
    with torch.device("meta"):
        model = nn.Linear(3, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-12, foreach=False)
    scheduler = UpdateRatioLR(optimizer)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["lr"]))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx([1e-6] * 3)
    assert scheduler.get_last_lr() == [1e-12]


@pytest.mark.parametrize("make", [update_ratio, learned], ids=["update ratio", "learned"])
@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_a_rate_of_0_is_refused_with_the_fix(make: Callable[..., Any], tensor: bool):
    task = task_at(0.1, 0.0)
    if tensor:
        task.optimizer.param_groups[1]["lr"] = torch.tensor(0.0)
    with pytest.raises(
        InvalidArgument, match=r"lr must be above 0 .* got 0.0: group 1 would never"
    ):
        make(task.optimizer)
    for p in task.optimizer.param_groups[1]["params"]:
        assert p.requires_grad
    make(task.optimizer, groups=[0])


def test_a_rate_that_came_down_to_0_is_refused_with_the_fix():
    task = task_at(0.1, 0.1)
    scheduler = UpdateRatioLR(task.optimizer, total_steps=5)
    task.run(scheduler, 5)
    del scheduler
    with pytest.raises(InvalidArgument, match=r"group 0, whose initial_lr is 0.1, would not move"):
        UpdateRatioLR(task.optimizer)
    for group in task.optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    assert UpdateRatioLR(task.optimizer).get_last_lr() == [0.1, 0.1]


def test_another_scheduler_s_0_is_its_own():
    task = task_at(0.1, 0.1)
    scheduler = update_ratio(task.optimizer)
    other = LambdaLR(task.optimizer, lambda step: min(1.0, step / 5))
    begin = task.weights()
    task.run(scheduler, 1)
    assert torch.equal(task.weights(), begin)
    for _ in range(5):
        other.step()
        task.run(scheduler, 1)
    assert not torch.equal(task.weights(), begin)


def test_a_later_group_s_0_is_refused_and_nothing_is_changed():
    task, alone = task_at(0.1, 0.1), task_at(0.1, 0.1)
    scheduler = update_ratio(task.optimizer)
    task.run(scheduler, 2)
    late = {"params": [nn.Parameter(torch.ones(2))], "lr": 0.0}
    task.optimizer.add_param_group(late)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="lr must be above 0"):
            scheduler.step()
    with pytest.raises(InvalidArgument, match="lr must be above 0"):
        task.optimizer.step()
    task.optimizer.param_groups[2]["lr"] = 0.1
    task.run(scheduler, 2)
    assert len(scheduler.base_lrs) == 3
    alone.run(update_ratio(alone.optimizer), 4)
    assert task.weights().tolist() == alone.weights().tolist()


@pytest.mark.parametrize("rate", [1e-31, 1e31])
def test_beyond_what_can_be_scaled_it_is_refused(rate: float):
    with pytest.raises(InvalidArgument, match=r"lr must be a number in \[1e-30, 1e\+30\]"):
        update_ratio(task_at(rate, rate).optimizer)
    task = task_at(0.1, 0.1)
    scheduler = update_ratio(task.optimizer)
    state, before = scheduler.state_dict(), scheduler.state_dict()
    with pytest.raises(InvalidArgument, match="lr must be a number in"):
        scheduler.load_state_dict(state, lr=rate)
    assert scheduler.state_dict() == before


def test_where_a_step_is_no_multiple_of_the_rate_a_tiny_one_is_refused():
    weight = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(
        InvalidArgument, match="lr must be at least 1e-06 with Adafactor, got 1e-07"
    ):
        UpdateRatioLR(torch.optim.Adafactor([weight], lr=1e-7))
    UpdateRatioLR(torch.optim.Adafactor([weight], lr=1e-6))


def test_a_factor_that_leaves_no_rate_to_steer_from_is_refused_and_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    scheduler = UpdateRatioLR(torch.optim.SGD([weight], lr=0.1))
    before = repr(scheduler.state_dict())
    for factor in (1e-300, 1e-30, 1e32):
        with pytest.raises(InvalidArgument, match="factor must be"):
            scheduler.rescale(factor)
    assert repr(scheduler.state_dict()) == before
    scheduler.rescale(1e-28)
