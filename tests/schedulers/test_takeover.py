"""Nothing is steered twice: a new scheduler takes over from an older one, by name."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.rules.policies import random_policy
from tests.schedulers.update_ratio_twin import BASE, Task, length, sgd
from torch.optim.lr_scheduler import SequentialLR

from ratewise import GreedyLR, LearnedLR, UpdateRatioLR
from ratewise.errors import InvalidArgument, SchedulerReplaced, SchedulerReplacedWarning

STEPS = 20
RATES = [BASE, BASE / 2]


def update_ratio(optimizer: Any, **more: Any) -> UpdateRatioLR:
    return UpdateRatioLR(optimizer, **{"total_steps": 100, "schedule": "linear", **more})


def learned(optimizer: Any, **more: Any) -> LearnedLR:
    return LearnedLR(optimizer, **{"policy": random_policy(), "total_steps": 100, **more})


KINDS: dict[str, Callable[..., Any]] = {"UpdateRatioLR": update_ratio, "LearnedLR": learned}
every_kind = pytest.mark.parametrize("kind", KINDS)


def train(task: Task, scheduler: Any, steps: int = STEPS) -> list[float]:
    for _ in range(steps):
        loss = task.backward()
        task.optimizer.step()
        scheduler.step(loss)
    return task.weights().tolist()


def rates(task: Task) -> list[float]:
    return [float(group["lr"]) for group in task.optimizer.param_groups]


def hooks(task: Task) -> list[int]:
    names = ("step_pre", "step_post", "state_dict_pre", "load_state_dict_pre")
    return [len(getattr(task.optimizer, f"_optimizer_{name}_hooks")) for name in names]


@every_kind
@pytest.mark.parametrize("older", KINDS)
def test_the_new_one_steers_as_if_it_were_alone(kind: str, older: str):
    task, alone = Task(sgd), Task(sgd)
    first = KINDS[older](task.optimizer)
    with pytest.warns(SchedulerReplacedWarning) as caught:
        second = KINDS[kind](task.optimizer)
    assert [warning.filename for warning in caught] == [__file__]
    words = str(caught[0].message)
    assert f"a new {kind} of all groups takes over from {older} of all groups" in words
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(task, second) == train(alone, KINDS[kind](alone.optimizer))
    with pytest.raises(SchedulerReplaced, match=f"{older} of all groups was replaced by a {kind}"):
        first.step(1.0)


def test_the_hooks_go_at_once():
    task = Task(sgd)
    one = update_ratio(task.optimizer)
    before = hooks(task)
    with pytest.warns(SchedulerReplacedWarning):
        two = update_ratio(task.optimizer)
    assert hooks(task) == [before[0], before[1] + 1, before[2], before[3]], (
        "its clock's goes with it"
    )
    del one
    gc.collect()
    assert hooks(task) == before
    del two
    gc.collect()
    assert hooks(task) == [0, 0, 0, 0]


@pytest.mark.parametrize("steps", [STEPS, 100], ids=["in mid-run", "at its end"])
def test_a_name_bound_again_begins_at_the_full_rate(steps: int):
    """Also where the older one's schedule has come down to 0."""
    task = Task(sgd)
    scheduler: Any = update_ratio(task.optimizer)
    train(task, scheduler, steps)
    assert rates(task) != RATES
    with pytest.warns(SchedulerReplacedWarning):
        scheduler = learned(task.optimizer)
    assert rates(task) == RATES
    before = task.weights()
    train(task, scheduler, 5)
    assert length(task.weights() - before) > 0.01


def test_what_others_made_of_the_rate_stays():
    task = Task(sgd)
    older = update_ratio(task.optimizer)
    train(task, older)
    for group in task.optimizer.param_groups:
        group["lr"] *= 0.5
    with pytest.warns(SchedulerReplacedWarning):
        newer = update_ratio(task.optimizer, schedule="constant")
    assert rates(task) == pytest.approx([BASE / 2, BASE / 4])
    train(task, newer, 3)
    assert rates(task) == pytest.approx([BASE / 2, BASE / 4])


def test_a_reset_and_a_resume_go_on_to_the_bit():
    whole, task = Task(sgd), Task(sgd)
    expected = train(whole, update_ratio(whole.optimizer), 2 * STEPS)
    scheduler = update_ratio(task.optimizer)
    train(task, scheduler)
    states = copy.deepcopy((task.optimizer.state_dict(), scheduler.state_dict()))
    with pytest.warns(SchedulerReplacedWarning):
        again = update_ratio(task.optimizer)
    task.optimizer.load_state_dict(states[0])
    again.load_state_dict(states[1])
    assert train(task, again) == expected


def test_a_step_that_was_interrupted_before_leaves_nothing():
    task = Task(sgd)
    older = update_ratio(task.optimizer, schedule="constant")
    train(task, older, 5)

    def spoilt() -> None:
        raise ZeroDivisionError

    hook = task.optimizer.register_step_pre_hook(lambda *_: spoilt())
    with pytest.raises(ZeroDivisionError):
        task.optimizer.step()
    hook.remove()
    with pytest.warns(SchedulerReplacedWarning):
        newer = update_ratio(task.optimizer)
    assert rates(task) == newer.get_last_lr() == RATES


@pytest.mark.parametrize(
    ("one", "two", "overlap"),
    [
        (None, None, True),
        (None, [1], True),
        ([0], None, True),
        ([0, 1], [1], True),
        ([0], [1], False),
    ],
)
def test_what_overlaps_is_taken_over_and_what_does_not_goes_on_side_by_side(
    one: Any, two: Any, overlap: bool
):
    task = Task(sgd)
    first = update_ratio(task.optimizer, groups=one)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        second = update_ratio(task.optimizer, groups=two)
    assert [w.category for w in caught] == ([SchedulerReplacedWarning] if overlap else [])
    task.backward()
    task.optimizer.step()
    second.step()
    if overlap:
        with pytest.raises(SchedulerReplaced):
            first.step()
    else:
        first.step()
        assert first.ratios().shape == second.ratios().shape == (2,)


def test_side_by_side_each_group_is_steered_once():
    task, alone = Task(sgd), Task(sgd)
    parts = [update_ratio(task.optimizer, groups=[index], start=1.0) for index in (0, 1)]
    both = update_ratio(alone.optimizer, start=1.0, floor=1e-9, keep_proportions=False)
    for part in parts:
        part._control.displacement.config = both._control.displacement.config
    for _ in range(5):
        for one in (task, alone):
            one.backward()
            one.optimizer.step()
        for scheduler in (*parts, both):
            scheduler.step()
    assert task.weights().tolist() == pytest.approx(alone.weights().tolist(), rel=1e-9)


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.step(1.0),
        lambda s: s.load_state_dict(s.state_dict()),
        lambda s: s.rescale(0.5),
        lambda s: s.anneal(10),
        lambda s: SequentialLR(s.optimizer, [s, GreedyLR(s.optimizer)], [5]),
        lambda s: s._update_lr(0),
    ],
    ids=["step", "load", "rescale", "anneal", "in a sequence", "handed over to"],
)
def test_a_replaced_scheduler_says_so_and_changes_nothing(use: Callable[..., Any]):
    task = Task(sgd)
    older = update_ratio(task.optimizer)
    with pytest.warns(SchedulerReplacedWarning):
        newer = update_ratio(task.optimizer)
    train(task, newer, 3)
    before = rates(task), newer.state_dict()
    with pytest.raises(SchedulerReplaced, match="was replaced by a UpdateRatioLR of all groups"):
        use(older)
    if rates(task) != before[0]:  # torch's SequentialLR resets the rates itself
        task.optimizer.load_state_dict(task.optimizer.state_dict())
    else:
        assert newer.state_dict() == before[1]
    assert older.get_last_lr() == newer.get_last_lr(), "reading is no harm"


@pytest.mark.parametrize("options", [{"groups": [7]}, {"ratio": 3.0}, {"warmup_steps": 100}])
def test_one_that_is_refused_takes_over_nothing(options: dict[str, Any]):
    task, alone = Task(sgd), Task(sgd)
    scheduler, other = update_ratio(task.optimizer), update_ratio(alone.optimizer)
    train(task, scheduler, 5)
    with pytest.raises(InvalidArgument):
        update_ratio(task.optimizer, **options)
    train(alone, other, 5)
    assert train(task, scheduler) == train(alone, other)


def test_parameters_that_are_refused_take_over_nothing():
    task, alone = Task(sgd), Task(sgd)
    scheduler = update_ratio(task.optimizer, groups=[0, 1])
    task.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.eye(2).to_sparse())]})
    with pytest.raises(InvalidArgument, match="make it dense"):
        update_ratio(task.optimizer)
    assert train(task, scheduler, 5) == train(alone, update_ratio(alone.optimizer), 5)


def test_where_the_older_one_is_gone_nothing_is_said():
    task = Task(sgd)
    for _ in range(3):
        scheduler = update_ratio(task.optimizer)
        train(task, scheduler, 2)
        del scheduler
        gc.collect()


def test_copies_steer_what_is_theirs():
    task = Task(sgd)
    older = update_ratio(task.optimizer, groups=[0])
    newer = learned(task.optimizer, groups=[1])
    twin, first, second = copy.deepcopy((task, older, newer))
    for one, schedulers in ((task, (older, newer)), (twin, (first, second))):
        for _ in range(STEPS):
            loss = one.backward()
            one.optimizer.step()
            for scheduler in schedulers:
                scheduler.step(loss)
    assert twin.weights().tolist() == task.weights().tolist()


def test_a_shallow_copy_takes_over():
    """It has the same optimizer: a step would have been scaled twice."""
    task, alone = Task(sgd), Task(sgd)
    scheduler, other = update_ratio(task.optimizer), update_ratio(alone.optimizer)
    train(task, scheduler, 5)
    train(alone, other, 5)
    with pytest.warns(SchedulerReplacedWarning):
        twin = copy.copy(scheduler)
    assert train(task, twin) == train(alone, other)
    with pytest.raises(SchedulerReplaced):
        scheduler.step()


def test_a_replaced_scheduler_s_copy_is_replaced_too():
    task = Task(sgd)
    older = update_ratio(task.optimizer)
    with pytest.warns(SchedulerReplacedWarning):
        newer = update_ratio(task.optimizer)
    twin = copy.deepcopy(older)
    with pytest.raises(SchedulerReplaced):
        twin.step()
    assert train(task, newer, 1)
