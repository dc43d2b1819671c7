"""GreedyLR with criterion="significance": what it tells, how a run ends, how it goes on."""

from __future__ import annotations

import io
import math
import random
import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LinearLR, SequentialLR

from ratewise import GreedyConfig, GreedyLR
from ratewise.errors import InvalidArgument, InvalidState, SettingsDifferWarning

torch.set_num_threads(1)

STEPS = 500
RNG = random.Random(0)
#: A loss that falls under noise, and is worse by far from step 300 on.
LOSSES = [
    2 * math.exp(-step / 100) + RNG.gauss(0, 0.3) + (1.5 if step > 300 else 0.0)
    for step in range(STEPS)
]


#: Larger steps, more losses, and a verdict where these show nothing.
EAGER: dict[str, Any] = {
    "factor": 0.8,
    "window": 200,
    "config": GreedyConfig("significance", plateau="bad"),
}


def make(*, tensor: bool = False, **options: Any) -> GreedyLR:
    rate: Any = torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)
    options = {"criterion": "significance", **options}
    return GreedyLR(
        optimizer, **(EAGER if options["criterion"] == "significance" else {}) | options
    )


def follow(scheduler: GreedyLR, losses: list[float], *, tensor: bool = False) -> list[float]:
    rates = []
    for loss in losses:
        scheduler.optimizer.step()
        scheduler.step(torch.tensor(loss, dtype=torch.float64) if tensor else loss)
        rates.append(float(scheduler.get_last_lr()[0]))
    return rates


# -- decisions ------------------------------------------------------------------------------------


def test_on_tensors_it_decides_and_tells_the_same():
    plain, tensors = make(), make(tensor=True)
    assert follow(plain, LOSSES) == follow(tensors, LOSSES, tensor=True)
    assert plain.events == tensors.events
    assert {event.reason for event in plain.events} == {"increase", "decrease"}


def test_a_worsening_brings_the_rate_down_faster_than_a_stall():
    rates = follow(make(), LOSSES)
    worse = next(step for step in range(300, STEPS) if rates[step] < rates[300] / 2)
    stalled = follow(make(), [1.0, 2.0] * 150)
    assert worse < 340
    assert stalled[239] == 0.1 * 0.8


def test_data_that_become_harder_for_good_halve_the_rate_once_or_twice():
    rng = random.Random(2)
    shifted = [rng.gauss(1.0 if step < 100 else 5.0, 0.1) for step in range(200)]
    assert 0.2 < follow(make(), shifted)[-1] / 0.1 < 1.0


def test_of_noise_alone_the_counting_rule_makes_far_more_of():
    rng = random.Random(1)
    noise = [rng.gauss(1.0, 0.1) for _ in range(400)]
    waits, counts = make(), make(criterion="count")
    for scheduler in (waits, counts):
        follow(scheduler, noise)
    assert 2 <= len(waits.events) <= 4  # two stalls
    assert counts.get_last_lr() == [pytest.approx(0.01)]


def test_events_say_what_the_test_found():
    scheduler = make()
    follow(scheduler, LOSSES)
    risen = next(event for event in scheduler.events if event.reason == "increase")
    fallen = next(event for event in scheduler.events if event.reason == "decrease")
    assert risen.errors < -2.5 < 2.5 < fallen.errors
    assert "fell by" in risen.words()
    assert "rose by" in fallen.words()
    assert risen.words().endswith("standard errors")
    assert follow_counting().events[0].errors == 0


def follow_counting() -> GreedyLR:
    scheduler = make(criterion="count")
    follow(scheduler, LOSSES[:50])
    return scheduler


def test_a_stall_and_a_loss_that_is_not_finite_are_told_as_such():
    scheduler = make(window=20)
    follow(scheduler, [1.0, 2.0] * 10 + [math.nan])
    stall, spoilt = scheduler.events
    assert "shows no trend" in stall.words()
    assert spoilt.errors == 0
    assert "nan" in spoilt.words()


# -- the end of the run -------------------------------------------------------------------------


def test_a_run_of_known_length_ends_annealed_and_another_does_not():
    known, unknown = follow(make(total_steps=STEPS), LOSSES), follow(make(), LOSSES)
    held = STEPS * 3 // 10 - 1
    assert known[:held] == unknown[:held]
    assert unknown[-1] > 0
    assert known[-1] == 0
    for step in (STEPS * 9 // 10, STEPS - 2):
        height = (STEPS - 1 - step) / (STEPS * 0.7)
        assert known[step] == pytest.approx(unknown[step] * height)


def test_a_schedule_that_is_named_takes_its_place():
    assert follow(make(total_steps=STEPS, schedule="constant"), LOSSES) == follow(make(), LOSSES)
    assert make(total_steps=STEPS, schedule="cosine").schedule == "cosine"
    assert make(criterion="count", total_steps=STEPS).schedule is None


@pytest.mark.parametrize("options", [{}, {"total_steps": STEPS}, {"criterion": "count"}])
def test_anneal_falls_to_nothing_from_where_the_rate_is(options):
    scheduler, free = make(**options), make(**options)
    follow(scheduler, LOSSES[:100])
    rates = follow(free, LOSSES[:150])
    scheduler.anneal(50)
    assert scheduler.get_last_lr() == [rates[99]]
    falling = follow(scheduler, LOSSES[100:150])
    heights = [rate / other for rate, other in zip(falling, rates[100:], strict=True)]
    assert heights == pytest.approx([(49 - step) / 50 for step in range(50)])


def test_anneal_counts_the_optimizers_steps_and_can_be_begun_again():
    scheduler = make(schedule="cosine", total_steps=40)
    follow(scheduler, LOSSES[:20])
    half = scheduler.get_last_lr()[0]
    scheduler.anneal(20)
    for _ in range(10):
        scheduler.optimizer.step()
    scheduler.step(1.0)  # once in ten steps
    assert scheduler.get_last_lr()[0] == pytest.approx(half / 2)
    scheduler.anneal(100)
    assert scheduler.get_last_lr()[0] == pytest.approx(half / 2)
    assert scheduler.horizon == 130


def test_what_cannot_be_annealed_is_named():
    with pytest.raises(InvalidArgument, match="steps"):
        make().anneal(0)
    with pytest.raises(InvalidArgument, match="schedule"):
        make(schedule=lambda step: 1.0).anneal(10)


def test_a_group_that_comes_while_the_schedule_stands_still_is_scheduled_like_the_others():
    scheduler = make(schedule="step", total_steps=30, window=1000)
    follow(scheduler, [1.0, 2.0] * 7)
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]
    group = {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.1}
    scheduler.optimizer.add_param_group(group)
    follow(scheduler, [1.0, 2.0])
    assert scheduler.get_last_lr() == [pytest.approx(0.01)] * 2


# -- checkpoints ----------------------------------------------------------------------------------


def resumed(scheduler: GreedyLR, **options: Any) -> GreedyLR:
    file = io.BytesIO()
    torch.save([scheduler.optimizer.state_dict(), scheduler.state_dict()], file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    copy = make(**options)
    copy.optimizer.load_state_dict(state[0])
    copy.load_state_dict(state[1])
    return copy


@pytest.mark.parametrize("tensor", [False, True])
def test_stopped_anywhere_it_goes_on_to_the_bit(tensor):
    whole = follow(make(tensor=tensor, total_steps=STEPS), LOSSES, tensor=tensor)
    assert min(b - a for a, b in pairwise(whole[150:])) < 0
    assert max(b - a for a, b in pairwise(whole[150:])) > 0
    for stop in (0, 1, 150, 299, 306, 440):
        scheduler = make(tensor=tensor, total_steps=STEPS)
        follow(scheduler, LOSSES[:stop], tensor=tensor)
        again = resumed(scheduler, tensor=tensor, total_steps=STEPS)
        assert follow(again, LOSSES[stop:], tensor=tensor) == whole[stop:], stop


@pytest.mark.parametrize("again", [True, False])
def test_a_length_that_a_trainer_has_told_is_saved(again):
    whole = make()
    whole.hear_length(STEPS)
    rates = follow(whole, LOSSES)
    assert rates[-1] == 0 < rates[-2]
    stopped = make()
    stopped.hear_length(STEPS)
    follow(stopped, LOSSES[:420])
    longer = resumed(stopped)
    if again:
        longer.hear_length(STEPS)
    assert follow(longer, LOSSES[420:]) == rates[420:]


def in_sequence() -> SequentialLR:
    """Return a ramp of 20 steps before the scheduler, whose run begins with its turn."""
    greedy = make(total_steps=200)
    ramp = LinearLR(greedy.optimizer, 0.1, total_iters=20)
    return SequentialLR(greedy.optimizer, [ramp, greedy], milestones=[20])


def follow_sequence(scheduler: SequentialLR, losses: list[float]) -> list[float]:
    rates = []
    greedy = scheduler._schedulers[1]
    for loss in losses:
        scheduler.optimizer.step()
        greedy.observe(loss)
        scheduler.step()
        rates.append(float(scheduler.optimizer.param_groups[0]["lr"]))
    return rates


def test_in_its_turn_after_a_ramp_it_ends_annealed_and_goes_on_to_the_bit():
    whole = follow_sequence(in_sequence(), LOSSES[:220])
    assert whole[19] == pytest.approx(0.1)
    assert whole[219] == 0 < whole[218] < max(whole)
    for stop in (10, 20, 100, 200):
        first, again = in_sequence(), in_sequence()
        follow_sequence(first, LOSSES[:stop])
        again.optimizer.load_state_dict(first.optimizer.state_dict())
        again.load_state_dict(first.state_dict())
        assert follow_sequence(again, LOSSES[stop:220]) == whole[stop:], stop


@pytest.mark.parametrize(("lost", "stop"), [(["values"], 100), (["values", "best"], 300)])
def test_evidence_that_lost_a_part_would_be_noticed(lost, stop):
    scheduler = make()
    follow(scheduler, LOSSES[:stop])
    state = scheduler.state_dict()
    evidence = state["ratewise"]["rule"]["memory"]["evidence"]
    for field in lost:
        assert evidence[field]
        evidence[field] = []
    copy = make()
    copy.optimizer.load_state_dict(scheduler.optimizer.state_dict())
    copy.load_state_dict(state)
    assert follow(copy, LOSSES[stop:350]) != follow(scheduler, LOSSES[stop:350])


def test_an_annealing_goes_on_whatever_the_script_says_of_the_schedule():
    options = {"schedule": "cosine", "total_steps": STEPS}
    scheduler = make(**options)
    follow(scheduler, LOSSES[:100])
    scheduler.anneal(60)
    follow(scheduler, LOSSES[100:120])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = resumed(scheduler, **options)
    assert follow(again, LOSSES[120:160]) == follow(scheduler, LOSSES[120:160])


def test_a_length_that_is_given_later_ends_the_run_annealed():
    scheduler = make()
    follow(scheduler, LOSSES[:100])
    with pytest.warns(SettingsDifferWarning, match="total_steps=200"):
        longer = resumed(scheduler, total_steps=200)
    assert follow(longer, LOSSES[100:200])[-1] == 0


def test_a_state_of_the_other_criterion_is_refused_if_it_was_asked_for():
    count = make(criterion="count")
    with pytest.raises(InvalidState, match=r"criterion='significance' \(saved: 'count'\)"):
        resumed(count)
    assert (
        resumed(count, criterion=None).state_dict()["ratewise"]["rule"]
        == (count.state_dict()["ratewise"]["rule"])
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("values", [1.0] * 200), ("values", [math.nan]), ("mean", "0"), ("best", None)],
)
def test_evidence_that_is_damaged_is_refused(field, value):
    state = make().state_dict()
    state["ratewise"]["rule"]["memory"]["evidence"][field] = value
    with pytest.raises(InvalidState, match=field):
        make().load_state_dict(state)
    state["ratewise"]["rule"]["memory"]["evidence"] = None
    with pytest.raises(InvalidState, match="evidence"):
        make().load_state_dict(state)
