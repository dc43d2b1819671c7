"""The criterion where none is named: the run's length, and how often losses come, decide."""

from __future__ import annotations

import io
import logging
import math
import random
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, SequentialLR

from ratewise import GreedyConfig, GreedyLR
from ratewise.errors import InvalidArgument, InvalidState, SettingsDifferWarning
from ratewise.rules.criterion import LEAST_METRICS

torch.set_num_threads(1)

STEPS = LEAST_METRICS
RNG = random.Random(0)
#: They fall under noise, and rise in the end.
LOSSES = [
    2 * math.exp(-step / 100) + RNG.gauss(0, 0.2) + (1.5 if step > 240 else 0.0)
    for step in range(STEPS)
]
WAITS: dict[str, Any] = {"criterion": "significance", "total_steps": STEPS}
COUNTS: dict[str, Any] = {"criterion": "count"}


def make(*, tensor: bool = False, **options: Any) -> GreedyLR:
    rate: Any = torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1
    return GreedyLR(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=rate), **options)


def follow(
    scheduler: GreedyLR, losses: list[float], *, tensor: bool = False, every: int = 1
) -> list[float]:
    """Return the rate after each loss, of which one comes in `every` optimizer steps."""
    rates = []
    for weight in scheduler.optimizer.param_groups[0]["params"]:
        weight.grad = torch.zeros(1)
    for loss in losses:
        for _ in range(every):
            scheduler.optimizer.step()
        scheduler.step(torch.tensor(loss, dtype=torch.float64) if tensor else loss)
        rates.append(float(scheduler.get_last_lr()[0]))
    return rates


def alone(losses: list[float], every: int = 1, **options: Any) -> list[float]:
    return follow(make(**options), losses, every=every)


def words(scheduler: GreedyLR) -> str:
    file = io.StringIO()
    scheduler.explain(file=file)
    return file.getvalue().splitlines()[0]


def resumed(scheduler: GreedyLR, **options: Any) -> GreedyLR:
    copy = make(**options)
    copy.optimizer.load_state_dict(scheduler.optimizer.state_dict())
    copy.load_state_dict(scheduler.state_dict())
    return copy


# -- what is decided ------------------------------------------------------------------------------


@pytest.mark.parametrize("tensor", [False, True])
def test_a_run_of_known_length_waits_for_significance_and_ends_annealed(tensor):
    scheduler = make(tensor=tensor, total_steps=STEPS)
    assert scheduler.criterion is None
    rates = follow(scheduler, LOSSES, tensor=tensor)
    assert rates == alone(LOSSES, **WAITS)
    assert rates != alone(LOSSES, **COUNTS)
    assert rates[-1] == 0.0 < max(rates) != rates[0]
    assert scheduler.criterion == "significance"
    assert words(scheduler) == "criterion: significance, as 300 metrics are expected"


@pytest.mark.filterwarnings("ignore:step .* is beyond total_steps")
@pytest.mark.parametrize(
    ("options", "every", "why"),
    [
        ({}, 1, "the run's length is not known"),
        ({"total_steps": STEPS - 1}, 1, "299 metrics are expected, fewer than 300"),
        ({"total_steps": STEPS, "warmup_steps": 10}, 1, "290 metrics are expected, fewer than"),
        ({"total_steps": STEPS, "decide_every": 2}, 1, "150 metrics are expected, fewer than"),
        ({"total_steps": 10 * STEPS}, 100, "30 metrics are expected, fewer than 300"),
        ({"total_steps": STEPS, "schedule": "cosine"}, 1, "a schedule is given"),
    ],
    ids=["unknown", "short", "ramp", "periods", "an epoch", "schedule"],
)
def test_otherwise_it_counts_as_before_to_the_bit(options, every, why):
    scheduler = make(**options)
    rates = follow(scheduler, LOSSES[:50], every=every)
    assert rates == alone(LOSSES[:50], every, **COUNTS, **options)
    assert rates != alone(LOSSES[:50], every, criterion="significance", **options)
    assert words(scheduler).startswith(f"criterion: count, as {why}")


def test_once_an_epoch_is_enough_where_there_are_many_epochs():
    scheduler = make(total_steps=5 * STEPS)
    rates = follow(scheduler, LOSSES, every=5)
    assert rates == alone(LOSSES, 5, criterion="significance", total_steps=5 * STEPS)
    assert rates[-1] == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 10, "window": 50},
        {"window": 100},
        {"config": GreedyConfig(plateau="neutral")},
        {"config": GreedyConfig(reference="previous")},
        {"config": GreedyConfig(first="good")},
    ],
    ids=str,
)
def test_to_name_how_to_count_is_to_count(options):
    scheduler = make(total_steps=STEPS, **options)
    assert follow(scheduler, LOSSES) == alone(LOSSES, **COUNTS, **options)
    assert scheduler.criterion == "count"


@pytest.mark.parametrize(
    "options",
    [{"factor": 0.7}, {"threshold": 0.01}, {"cooldown": 3}, {"config": GreedyConfig(eps=0.1)}],
    ids=str,
)
def test_other_settings_keep_their_value_under_either(options):
    long, endless = follow(make(total_steps=STEPS, **options), LOSSES), alone(LOSSES, **options)
    assert long == alone(LOSSES, **WAITS, **options)
    assert endless == alone(LOSSES, **COUNTS, **options)


def test_significance_that_is_named_takes_every_setting():
    config = GreedyConfig("significance", window=20, patience=1)
    assert config.stated() == {"criterion": "significance", "window": 20, "patience": 1}
    assert (config.factor, config.plateau) == (0.9, "neutral")


def test_logging_says_once_what_was_decided(caplog):
    with caplog.at_level(logging.INFO, "ratewise"):
        follow(make(total_steps=4690), LOSSES[:3])
    assert [r.getMessage() for r in caplog.records] == [
        "criterion: significance, as 4,690 metrics are expected"
    ]


# -- a length that is heard -----------------------------------------------------------------------


def test_a_length_that_is_heard_before_the_first_loss_decides():
    scheduler = make()
    scheduler.hear_length(STEPS)
    assert follow(scheduler, LOSSES) == alone(LOSSES, **WAITS)


def test_one_that_is_heard_later_changes_nothing():
    scheduler = make()
    rates = follow(scheduler, LOSSES[:1])
    scheduler.hear_length(STEPS)
    assert rates + follow(scheduler, LOSSES[1:]) == alone(LOSSES, **COUNTS)


def test_a_length_and_a_schedule_that_were_given_hold():
    for options in ({"schedule": "linear", "total_steps": STEPS}, {"total_steps": 200}):
        scheduler = make(**options)
        scheduler.hear_length(5 * STEPS)
        assert follow(scheduler, LOSSES[:50]) == alone(LOSSES[:50], **COUNTS, **options)


def test_losses_that_are_observed_before_a_step_count_as_that_step_s():
    scheduler = make(total_steps=STEPS)
    weight = scheduler.optimizer.param_groups[0]["params"][0]
    weight.grad = torch.zeros(1)
    rates = []
    for loss in LOSSES:
        scheduler.observe(loss)
        scheduler.optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert rates == alone(LOSSES, **WAITS)


def test_a_metric_that_comes_seldom_is_counted_although_each_step_is_called():
    scheduler = make(total_steps=10 * STEPS, missing="hold")
    follow(scheduler, [])
    for step in range(40):
        scheduler.optimizer.step()
        if step % 20 == 10:
            scheduler.observe(1.0)
        scheduler.step()
    assert words(scheduler) == "criterion: count, as 272 metrics are expected, fewer than 300"


def test_in_its_turn_after_a_ramp_its_own_length_decides():
    def whole(**options: Any) -> tuple[list[float], GreedyLR]:
        greedy = make(total_steps=STEPS, **options)
        ramp = LinearLR(greedy.optimizer, 0.1, total_iters=20)
        both = SequentialLR(greedy.optimizer, [ramp, greedy], milestones=[20])
        rates = []
        for loss in [1.0] * 20 + LOSSES:
            greedy.optimizer.step()
            greedy.observe(loss)
            both.step()
            rates.append(greedy.get_last_lr()[0])
        return rates, greedy

    rates, greedy = whole()
    assert greedy.criterion == "significance"
    assert rates == whole(criterion="significance")[0] != whole(criterion="count")[0]
    assert rates[-1] == 0.0


# -- states ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 60, 250])
@pytest.mark.parametrize("heard", [False, True])
def test_stopped_anywhere_it_goes_on_to_the_bit(stop, heard):
    def begun() -> GreedyLR:
        if not heard:
            return make(total_steps=STEPS)
        scheduler = make()
        scheduler.hear_length(STEPS)
        return scheduler

    whole, first = follow(begun(), LOSSES), begun()
    follow(first, LOSSES[:stop])
    again = make() if heard else make(total_steps=STEPS)
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    again.load_state_dict(first.state_dict())
    if heard:
        again.hear_length(STEPS)
    assert follow(again, LOSSES[stop:]) == whole[stop:]


def test_a_run_goes_on_under_the_criterion_that_it_began_under():
    counting, waiting = make(), make(total_steps=STEPS)
    for scheduler in (counting, waiting):
        follow(scheduler, LOSSES[:100])
    with pytest.warns(SettingsDifferWarning, match="total_steps=300"):
        again = resumed(counting, total_steps=STEPS)
    assert (again.criterion, again.schedule) == ("count", None)
    assert words(again) == "criterion: count, as the state that was loaded has it"
    assert follow(again, LOSSES[100:]) == alone(LOSSES, **COUNTS)[100:]
    with pytest.warns(SettingsDifferWarning, match="total_steps=200"):
        again = resumed(waiting, total_steps=200)
    assert again.criterion == "significance"
    again = resumed(waiting)
    assert follow(again, LOSSES[100:]) == alone(LOSSES, **WAITS)[100:]


def test_a_state_of_a_named_criterion_loads_where_none_is_named():
    for criterion in ("count", "significance"):
        named = make(criterion=criterion)
        follow(named, LOSSES[:60])
        again = resumed(named)
        again.hear_length(10 * STEPS)
        assert again.criterion == criterion
        assert follow(again, LOSSES[60:62]) == follow(named, LOSSES[60:62])


@pytest.mark.parametrize("asked", [COUNTS, {"config": GreedyConfig(criterion="count")}], ids=str)
def test_a_criterion_that_is_named_is_not_given_up_for_a_saved_one(asked):
    waiting = make(total_steps=STEPS)
    follow(waiting, LOSSES[:10])
    with pytest.raises(InvalidState, match=r"criterion='count' \(saved: 'significance'\)"):
        resumed(waiting, **asked)


def test_two_criteria_that_are_named_are_an_error():
    with pytest.raises(InvalidArgument, match="criterion"):
        make(criterion="significance", config=GreedyConfig(criterion="count"))


def test_a_state_from_before_the_first_loss_is_as_open_as_its_scheduler():
    fresh = resumed(make())
    fresh.hear_length(STEPS)
    assert follow(fresh, LOSSES) == alone(LOSSES, **WAITS)
