"""Arguments of a constructor and a saved state's: which holds when a run goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from tests.greedy_options import arguments
from tests.rules.policies import random_policy
from tests.schedulers.update_ratio_twin import BASE, Task, sgd

from ratewise import GreedyConfig, GreedyLR, LearnedLR, UpdateRatioLR
from ratewise.errors import InvalidArgument, InvalidState, SettingsDifferWarning
from ratewise.rules.ratio_law import Outlook, default_ratio

LINEAR = {"schedule": "linear"}


def update_ratio(**options: Any) -> Callable[..., Any]:
    return lambda optimizer: UpdateRatioLR(optimizer, **options)


def greedy(**options: Any) -> Callable[..., Any]:
    return lambda optimizer: GreedyLR(optimizer, **arguments(**options))


def learned(**options: Any) -> Callable[..., Any]:
    return lambda optimizer: LearnedLR(optimizer, policy=random_policy(), **options)


def trained(make: Callable[..., Any], steps: int) -> tuple[Task, Any]:
    task = Task(sgd)
    scheduler = make(task.optimizer)
    return task, go_on(task, scheduler, steps)


def go_on(task: Task, scheduler: Any, steps: int) -> Any:
    for _ in range(steps):
        loss = task.backward()
        task.optimizer.step()
        scheduler.step(float(loss))
    return scheduler


def loaded(make: Callable[..., Any], state: dict[str, Any], warns: bool = True) -> Any:
    """Return a new scheduler with the state, and check whether it warned."""
    scheduler = make(Task(sgd).optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler.load_state_dict(state)
    kinds = [warning.category for warning in caught]
    assert kinds == ([SettingsDifferWarning] if warns else []), caught
    scheduler.words = str(caught[0].message) if warns else ""
    if warns:
        assert caught[0].filename == __file__
    return scheduler


# -- the length of a run --------------------------------------------------------------------------


def test_a_longer_run_goes_on_at_its_own_height_and_ratio():
    _, first = trained(update_ratio(total_steps=100, **LINEAR), 60)
    longer = loaded(update_ratio(total_steps=500, **LINEAR), first.state_dict())
    assert longer.horizon == 500
    assert longer.ratio == default_ratio(500)
    assert longer.get_last_lr()[0] == pytest.approx(BASE * (1 - 60 / 500))
    assert "total_steps=500 (saved: 100)" in longer.words
    assert "at step 60 the schedule's height is 0.88 instead of 0.4" in longer.words
    assert f"the ratio {default_ratio(500):.4g} instead of {default_ratio(100):.4g}" in longer.words


@pytest.mark.filterwarnings("ignore::ratewise.errors.PastHorizonWarning")
def test_a_run_that_had_come_to_its_end_comes_to_life_again():
    _, first = trained(update_ratio(total_steps=20, **LINEAR), 20)
    assert first.get_last_lr() == [0.0, 0.0]
    longer = loaded(update_ratio(total_steps=40, **LINEAR), first.state_dict())
    assert longer.get_last_lr() == pytest.approx([BASE / 2, BASE / 4])


@pytest.mark.parametrize("options", [{}, {"total_steps": 100}, {"total_steps": None}])
def test_without_a_difference_it_goes_on_to_the_bit_in_silence(options: dict[str, Any]):
    _, first = trained(update_ratio(total_steps=100, schedule="cosine"), 30)
    scheduler = loaded(update_ratio(**options), first.state_dict(), warns=False)
    assert scheduler.horizon == 100
    assert scheduler.state_dict() == first.state_dict()


def test_a_length_holds_where_there_was_none_and_is_kept_where_none_is_given():
    _, first = trained(update_ratio(**LINEAR), 10)
    scheduler = loaded(update_ratio(total_steps=40, **LINEAR), first.state_dict())
    assert scheduler.get_last_lr()[0] == pytest.approx(BASE * 0.75)
    assert scheduler.ratio == default_ratio(40)
    again = loaded(update_ratio(**LINEAR), scheduler.state_dict(), warns=False)
    assert (again.horizon, again.ratio) == (40, default_ratio(40))


def test_what_was_loaded_against_a_state_is_what_is_saved_next():
    _, first = trained(update_ratio(total_steps=100, **LINEAR), 60)
    longer = loaded(update_ratio(total_steps=500, **LINEAR), first.state_dict())
    loaded(update_ratio(total_steps=500, **LINEAR), longer.state_dict(), warns=False)
    back = loaded(update_ratio(total_steps=100, **LINEAR), longer.state_dict())
    assert back.get_last_lr() == pytest.approx(first.get_last_lr())


@pytest.mark.parametrize("saved", [None, 0.03], ids=["default ratio", "own ratio"])
@pytest.mark.parametrize("given", [None, 0.04])
def test_the_ratio_follows_the_length_unless_somebody_chose_it(saved: Any, given: Any):
    _, first = trained(update_ratio(total_steps=100, ratio=saved), 10)
    scheduler = loaded(update_ratio(total_steps=400, ratio=given), first.state_dict())
    assert scheduler.ratio == (given or saved or default_ratio(400))
    assert ("ratio=0.04" in scheduler.words) == (given is not None)


def test_an_annealing_that_was_begun_stands():
    task, first = trained(update_ratio(total_steps=100, **LINEAR), 20)
    first.anneal(30)
    go_on(task, first, 10)
    for options in ({"total_steps": 100}, {}):
        scheduler = loaded(update_ratio(**options, **LINEAR), first.state_dict(), warns=False)
        assert scheduler.horizon == 50
    scheduler = loaded(update_ratio(total_steps=400, **LINEAR), first.state_dict())
    assert scheduler.horizon == 50
    assert scheduler.ratio == default_ratio(100)
    assert scheduler.get_last_lr() == first.get_last_lr()
    assert "total_steps=400 (saved: 100)" in scheduler.words
    assert "what was annealed ends at step 50 as before" in scheduler.words


def test_a_learned_schedule_s_windows_and_ratio_are_the_new_length_s():
    _, first = trained(learned(total_steps=100), 30)
    policy = random_policy()
    scheduler = loaded(learned(total_steps=400), first.state_dict())
    assert (scheduler.horizon, scheduler.decide_every) == (400, policy.interval(400))
    assert scheduler.ratio == policy.law.ratio(Outlook(400))
    same = loaded(learned(total_steps=100), first.state_dict(), warns=False)
    assert same.state_dict() == first.state_dict()


def test_a_named_schedule_s_length():
    _, first = trained(greedy(schedule="linear", total_steps=40, patience=1000), 20)
    state = first.state_dict()
    longer = loaded(greedy(schedule="linear", total_steps=80, patience=1000), state)
    assert longer.get_last_lr() == pytest.approx([BASE * 0.75, BASE * 0.375])
    assert "height is 0.75 instead of 0.5" in longer.words


# -- every other argument -------------------------------------------------------------------------

UPDATE_RATIO: dict[str, tuple[Any, Any]] = {
    "ratio": (0.02, 0.03),
    "schedule": ("linear", "cosine"),
    "measure_every": (3, 4),
    "warmup_steps": (5, 9),
    "start": (0.1, 0.2),
    "gain": (0.3, 0.4),
    "rise": (1.2, 1.4),
    "fall": (2.5, 3.0),
    "cap": (3.0, 4.0),
    "floor": (0.5, 2.0),
    "reach": (2.0, 4.0),
    "bounds": ((1e-6, 1e6), (1e-6, 1e5)),
    "keep_proportions": (True, False),
    "total_steps": (60, 90),
    "steps_per_epoch": (10, 20),
    "pretrained": (True, False),
}
GREEDY: dict[str, tuple[Any, Any]] = {
    "factor": (0.9, 0.8),
    "patience": (3, 4),
    "threshold": (1e-3, 1e-2),
    "threshold_mode": ("rel", "abs"),
    "reference": ("best", "previous"),
    "plateau": ("bad", "neutral"),
    "warmup": (1, 2),
    "cooldown": (1, 2),
    "stage": ("extend", "hold"),
    "min_lr": (1e-4, [1e-3, 2e-3]),
    "max_lr": (1.0, 2.0),
    "reset_after": (3, 4),
    "eps": (1e-8, 1e-6),
    "eps_mode": ("rel", "abs"),
    "first": ("none", "good"),
    "on_nonfinite": ("bad", "skip"),
    "missing": ("raise", "hold"),
    "decide_every": (1, 2),
    "warmup_steps": (3, 5),
}
ARGUMENTS = [(update_ratio, name, *values) for name, values in UPDATE_RATIO.items()]
ARGUMENTS += [(greedy, name, *values) for name, values in GREEDY.items()]
ARGUMENTS += [(learned, "keep_proportions", True, False), (learned, "missing", "raise", "hold")]
every_argument = pytest.mark.parametrize(("kind", "name", "one", "two"), ARGUMENTS)


def settings(scheduler: Any, name: str) -> Any:
    """Return an argument's value as the scheduler would save it."""
    state, paths = scheduler.state_dict()["ratewise"], scheduler._places[name].paths
    found = []
    for path in paths:
        value = state
        for key in path:
            value = value[key]
        found.append(value)
    return found


@every_argument
def test_given_and_different_holds_with_a_warning_that_names_both(
    kind: Any, name: str, one: Any, two: Any
):
    more = {"total_steps": 60} if kind is learned else {}
    _, first = trained(kind(**{name: one}, **more), 12)
    state = first.state_dict()
    scheduler = loaded(kind(**{name: two}, **more), state)
    assert f"{name}={list(two) if isinstance(two, tuple) else two!r} (saved: " in scheduler.words
    assert settings(scheduler, name) == settings(
        kind(**{name: two}, **more)(Task(sgd).optimizer), name
    )
    for same in ({name: one}, {}):
        again = loaded(kind(**same, **more), state, warns=False)
        assert again.state_dict() == state


def test_every_argument_that_a_state_has_is_among_these():
    # "online" needs an optimizer of its own: test_update_ratio_online.py
    assert UPDATE_RATIO.keys() | {"schedule", "online"} == UpdateRatioLR._places.keys()
    refused = {"criterion", "window", "mode"}
    assert GREEDY.keys() | refused | {"schedule", "total_steps"} == GreedyLR._places.keys()


def test_a_default_in_a_config_is_not_a_setting_that_was_given():
    _, first = trained(greedy(config=GreedyConfig(reference="previous")), 3)
    state = first.state_dict()
    scheduler = loaded(greedy(config=GreedyConfig(reference="best")), state, warns=False)
    assert settings(scheduler, "reference") == ["previous"]
    scheduler = loaded(greedy(config=GreedyConfig(plateau="neutral")), state)
    assert settings(scheduler, "reference") + settings(scheduler, "plateau") == [
        "previous",
        "neutral",
    ]


@pytest.mark.parametrize(("name", "one", "two"), [("window", 3, 5), ("mode", "min", "max")])
def test_where_memory_would_not_fit_it_is_refused_by_name(name: str, one: Any, two: Any):
    _, first = trained(greedy(**{name: one}), 12)
    scheduler = greedy(**{name: two})(Task(sgd).optimizer)
    before = scheduler.state_dict()
    words = f"{name}={two!r} .saved: {one!r}.: .* construct the scheduler with {name}={one!r}"
    with pytest.raises(InvalidState, match=words):
        scheduler.load_state_dict(first.state_dict())
    assert scheduler.state_dict() == before
    loaded(greedy(), first.state_dict(), warns=False)


def test_an_argument_that_does_not_fit_the_saved_length_is_named_and_nothing_is_changed():
    _, first = trained(update_ratio(total_steps=20), 5)
    scheduler = update_ratio(warmup_steps=30)(Task(sgd).optimizer)
    before = scheduler.state_dict()
    with pytest.raises(InvalidArgument, match="warmup_steps must be below total_steps=20"):
        scheduler.load_state_dict(first.state_dict())
    assert scheduler.state_dict() == before


def test_bounds_that_were_saved_are_those_of_later_changes_too():
    _, first = trained(greedy(min_lr=1e-3, max_lr=1.0), 5)
    scheduler = loaded(greedy(), first.state_dict(), warns=False)
    scheduler.rescale(0.5)
    first.rescale(0.5)
    rule = [one.state_dict()["ratewise"]["rule"] for one in (scheduler, first)]
    assert rule[0] == rule[1]


def test_bounds_that_are_given_hold_the_rate():
    _, first = trained(greedy(), 3)
    first.rescale(0.5)
    assert first.get_last_lr() == pytest.approx([0.025, 0.0125])
    scheduler = loaded(greedy(min_lr=0.02, max_lr=1.0), first.state_dict())
    assert scheduler.get_last_lr() == pytest.approx([0.025, 0.02])


def test_what_was_set_after_construction_is_no_argument():
    """Lightning's `configure` and Trainer's callback set `missing` so, before a state is loaded."""
    _, first = trained(greedy(missing="raise"), 3)
    first.missing = "hold"
    scheduler = greedy(missing="raise")(Task(sgd).optimizer)
    scheduler.missing = "hold"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.load_state_dict(first.state_dict())


def test_another_scheduler_s_arguments_are_not_a_copy_s():
    import copy
    import pickle

    scheduler = update_ratio(total_steps=500)(Task(sgd).optimizer)
    for twin in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert twin._given == scheduler._given == {"total_steps"}
