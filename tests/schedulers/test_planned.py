"""PlannedLR: a plan's own rates in the groups, other lengths, and resuming with another plan."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from tests.contracts.rules import follow, make_optimizer

from ratewise import PlannedLR
from ratewise.errors import InvalidArgument, PastHorizonWarning, SettingsDifferWarning, UnknownName
from ratewise.rules.plan import Plan, write

PLAN = Plan(((1, 0.0), (4, 3e-4), (7, 3e-4), (10, 0.0)))


def replayed(scheduler: Any, steps: int) -> list[list[float]]:
    return [scheduler.get_last_lr(), *follow(scheduler, [None] * (steps - 1))]


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("rates", [(1.0,), (0.2, 0.1), (0.1, 0.2)])
def test_the_group_with_the_largest_rate_gets_the_plan_s(rates: tuple[float, ...], tensor: bool):
    optimizer = make_optimizer(*rates, tensor=tensor)
    seen = replayed(PlannedLR(optimizer, PLAN), 10)
    for step, found in enumerate(seen, 1):
        shares = [rate / max(rates) for rate in rates]
        wanted = [PLAN.rate(step) * share for share in shares]
        assert [float(x) for x in found] == pytest.approx(wanted, rel=1e-12)


def test_a_file_is_replayed_and_says_when_it_is_over(tmp_path: Any):
    write(tmp_path / "plan.json", PLAN)
    scheduler = PlannedLR(make_optimizer(1.0), str(tmp_path / "plan.json"))
    replayed(scheduler, 10)
    with pytest.warns(PastHorizonWarning, match="beyond total_steps=10"):
        follow(scheduler, [None] * 2)
    assert scheduler.get_last_lr() == [0.0]


def test_in_a_row_of_schedulers_on_one_optimizer_the_plan_s_rates_stay():
    optimizer = make_optimizer(0.2, 0.1)
    PlannedLR(optimizer, PLAN)
    second = PlannedLR(optimizer, PLAN)
    assert replayed(second, 4)[-1] == pytest.approx([3e-4, 1.5e-4])
    assert copy.deepcopy(second).get_last_lr() == pytest.approx([3e-4, 1.5e-4])


def test_a_group_that_comes_later_is_in_proportion_to_the_others():
    optimizer = make_optimizer(0.2)
    scheduler = PlannedLR(optimizer, PLAN)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.05})
    assert replayed(scheduler, 6)[-1] == pytest.approx([3e-4, 0.75e-4])


def test_groups_that_share_a_rate_tensor_are_scaled_once():
    rate = torch.tensor(0.2)
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [w]} for w in weights], lr=rate)
    optimizer.step()
    assert [float(x) for x in replayed(PlannedLR(optimizer, PLAN), 4)[-1]] == pytest.approx(
        [3e-4, 3e-4]
    )


def test_rates_of_0_alone_are_refused_and_nothing_is_changed():
    optimizer = make_optimizer(0.0)
    with pytest.raises(InvalidArgument, match="lr must be above 0 in one parameter group"):
        PlannedLR(optimizer, PLAN)
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_another_length_is_named_or_done_as_said():
    with pytest.raises(InvalidArgument, match="plan is for 10 steps, the run has 19"):
        PlannedLR(make_optimizer(1.0), PLAN, total_steps=19)
    with pytest.raises(UnknownName, match="did you mean 'stretch'"):
        PlannedLR(make_optimizer(1.0), PLAN, total_steps=19, other_length="strech")
    stretched = PlannedLR(make_optimizer(1.0), PLAN, total_steps=19, other_length="stretch")
    seen = [rates[0] for rates in replayed(stretched, 19)]
    assert seen[::2] == pytest.approx([PLAN.rate(step) for step in range(1, 11)])
    kept = PlannedLR(make_optimizer(1.0), PLAN, total_steps=5, other_length="keep")
    assert replayed(kept, 5)[-1] == pytest.approx([PLAN.rate(5)])


def test_a_trainer_s_length_is_heard():
    scheduler = PlannedLR(make_optimizer(1.0), PLAN)
    with pytest.raises(InvalidArgument, match="the run has 12"):
        scheduler.hear_length(12)
    stretched = PlannedLR(make_optimizer(1.0), PLAN, other_length="stretch")
    stretched.hear_length(19)
    assert replayed(stretched, 19)[6] == pytest.approx([PLAN.rate(4)])
    given = PlannedLR(make_optimizer(1.0), PLAN, total_steps=10)
    given.hear_length(12)
    assert given.horizon == 10


def test_resumed_with_another_plan_that_one_holds_and_a_warning_names_it():
    first = PlannedLR(make_optimizer(1.0), PLAN)
    follow(first, [None] * 5)
    other = Plan(((1, 3e-4), (20, 0.0)))
    second = PlannedLR(make_optimizer(1.0), other)
    with pytest.warns(SettingsDifferWarning, match=f"plan='{other.digest}'"):
        second.load_state_dict(first.state_dict())
    assert second.get_last_lr() == pytest.approx([other.rate(6)])
    assert second.horizon == 20
    same = PlannedLR(make_optimizer(1.0), PLAN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same.load_state_dict(first.state_dict())
    assert same.get_last_lr() == first.get_last_lr()


def test_a_saved_length_and_what_to_do_about_it_are_restored():
    first = PlannedLR(make_optimizer(1.0), PLAN, total_steps=19, other_length="stretch")
    follow(first, [None] * 5)
    second = PlannedLR(make_optimizer(1.0), PLAN)
    second.load_state_dict(first.state_dict())
    assert follow(second, [None] * 13) == follow(first, [None] * 13)
