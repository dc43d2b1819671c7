"""A schedule's length is in optimizer steps, whatever calls `step` and how often."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.rules.policies import random_policy
from tests.schedulers.device_watch import through_a_file
from tests.schedulers.update_ratio_twin import BASE, Task, sgd
from torch.optim.lr_scheduler import ConstantLR, LinearLR, SequentialLR

from ratewise import GreedyLR, LearnedLR, UpdateRatioLR
from ratewise.errors import PastHorizonWarning
from ratewise.rules import update_ratio as rule

EPOCH, STEPS = 5, 20  #: optimizer steps of an epoch, and of the run

SETTINGS: dict[str, dict[str, Any]] = {
    "linear": {"schedule": "linear", "total_steps": STEPS},
    "ramp": {"schedule": "cosine", "total_steps": STEPS, "warmup_steps": 7},
    "ramp alone": {"warmup_steps": 7},
    "per model": {"schedule": "cosine", "total_steps": STEPS, "per": "model"},
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
both_rates = pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps that are not measured begin soon."""
    monkeypatch.setattr(rule, "EARLY", 4)


class Run:
    """A training whose scheduler is called after each of so many steps; 0 is never."""

    def __init__(self, make: Callable[..., Any], each: int = EPOCH, *, tensor: bool = False):
        def build(groups: Any) -> torch.optim.Optimizer:
            for group, rate in zip(groups, (BASE, BASE / 2), strict=True):
                group["lr"] = torch.tensor(rate, dtype=torch.float64) if tensor else rate
            return sgd(groups)

        self.task = Task(build, dtype=torch.float32)
        self.optimizer, self.each = self.task.optimizer, each
        self.scheduler = make(self.optimizer)
        self.outer = self.scheduler  # what is called
        self.made = 0
        self.rates: list[float] = []  #: of the steps that were made
        self.losses: list[float] = []

    def go(self, steps: int) -> Run:
        for _ in range(steps):
            loss = self.task.backward()
            self.optimizer.step()
            self.made += 1
            self.rates.append(float(self.optimizer.param_groups[0]["lr"]))
            self.losses.append(float(loss))
            if self.each and self.made % self.each == 0:
                takes_loss = isinstance(self.outer, GreedyLR | LearnedLR)
                mean = sum(self.losses[-self.each :]) / self.each
                self.outer.step(mean) if takes_loss else self.outer.step()
        return self

    def save(self) -> dict[str, Any]:
        parts = {"model": self.task.model, "optimizer": self.optimizer, "outer": self.outer}
        states = {name: part.state_dict() for name, part in parts.items()}
        mine = {"made": self.made, "losses": self.losses}  # of the epoch that is under way
        return through_a_file(states | mine | {"sampler": self.task.sampler.get_state()})

    def load(self, state: dict[str, Any]) -> Run:
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.outer.load_state_dict(state["outer"])
        self.task.sampler.set_state(state["sampler"])
        self.made, self.losses = state["made"], list(state["losses"])
        return self


def update_ratio(**settings: Any) -> Callable[..., Any]:
    return lambda optimizer: UpdateRatioLR(optimizer, **{"measure_every": 3, **settings})


# -- schedulers that steer ------------------------------------------------------------------------


@every_setting
@both_rates
@pytest.mark.parametrize("each", [EPOCH, 3, 0], ids=["once an epoch", "each third", "never"])
def test_weights_are_those_of_a_call_after_each_step(
    settings: dict[str, Any], tensor: bool, each: int
):
    often = Run(update_ratio(**settings), 1, tensor=tensor).go(STEPS)
    seldom = Run(update_ratio(**settings), each, tensor=tensor).go(STEPS)
    assert seldom.rates == often.rates
    assert seldom.task.weights().tolist() == often.task.weights().tolist()
    assert seldom.scheduler.last_epoch == (STEPS if each == EPOCH else STEPS - 1)
    assert len(set(often.rates)) > 5, "the rate moves"


@both_rates
def test_an_irregular_call_catches_up(tensor: bool):
    """Where a call is late the rate waits; then it is where the optimizer is."""
    run = Run(update_ratio(schedule="linear", total_steps=100), 1, tensor=tensor).go(4)
    run.each = 0
    run.go(6)
    assert run.rates[4:] == pytest.approx([BASE * 0.96] * 6), "as if handed over"
    run.scheduler.step()
    assert run.scheduler.last_epoch == 10
    assert float(run.scheduler.get_last_lr()[0]) == pytest.approx(BASE * 0.9)
    run.go(5)
    assert run.rates[10:] == pytest.approx([BASE * (1 - step / 100) for step in range(10, 15)])


def test_between_a_step_and_its_call_the_rate_is_that_step_s():
    run = Run(update_ratio(schedule="linear", total_steps=100), 0).go(1)
    assert run.scheduler.get_last_lr()[0] == BASE
    assert run.scheduler.last_epoch == 0
    run.scheduler.step()
    assert run.scheduler.get_last_lr()[0] == pytest.approx(BASE * 0.99)
    assert run.scheduler.last_epoch == 1
    run.scheduler.step()
    assert run.scheduler.last_epoch == 1, "no step in between"


@every_setting
def test_stopped_in_mid_epoch_it_goes_on_to_the_bit(settings: dict[str, Any]):
    whole = Run(update_ratio(**settings)).go(STEPS)
    for stop in range(STEPS):
        first = Run(update_ratio(**settings)).go(stop)
        again = Run(update_ratio(**settings)).load(first.save()).go(STEPS - stop)
        assert first.rates + again.rates == whole.rates, stop
        assert again.task.weights().tolist() == whole.task.weights().tolist(), stop
        assert again.scheduler.last_epoch == whole.scheduler.last_epoch


def test_a_saved_run_goes_on_as_if_it_had_not_been_saved():
    plain = Run(update_ratio(**SETTINGS["ramp"])).go(STEPS)
    saved = Run(update_ratio(**SETTINGS["ramp"]))
    for _ in range(STEPS):
        saved.go(1).save()
    assert saved.rates == plain.rates


def test_a_copy_in_mid_epoch_goes_on():
    run = Run(update_ratio(**SETTINGS["linear"])).go(8)
    twin = copy.deepcopy(run)
    assert twin.go(12).rates == run.go(12).rates
    assert twin.scheduler.last_epoch == run.scheduler.last_epoch == STEPS


def test_the_run_s_end_is_told_where_step_is_never_called():
    with pytest.warns(PastHorizonWarning, match="step 21 is beyond total_steps=20") as caught:
        Run(update_ratio(**SETTINGS["linear"]), 0).go(STEPS + 5)
    assert len(caught) == 1


def test_a_step_that_a_grad_scaler_skips_is_none():
    run = Run(update_ratio(schedule="linear", total_steps=100))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for spoilt in (False, True, True, False, False, True, False):
        run.optimizer.zero_grad()
        loss = run.task.model(run.task.x[:4]).sum()
        scaler.scale(loss * (math.inf if spoilt else 1.0)).backward()
        scaler.step(run.optimizer)
        scaler.update()
    run.scheduler.step()
    assert run.scheduler.last_epoch == 4


def test_a_group_that_is_added_in_mid_epoch_is_scheduled():
    run = Run(update_ratio(schedule="linear", total_steps=100)).go(7)
    late = torch.nn.Parameter(torch.ones(3, 3))
    run.optimizer.add_param_group({"params": [late], "lr": 0.5})
    late.grad = torch.ones(3, 3)
    run.go(4)
    assert run.scheduler.get_last_lr()[2] == pytest.approx(0.5 * 0.9)
    assert run.scheduler.factors().shape == (5,)


# -- in a sequence --------------------------------------------------------------------------------


def sequence(run: Run, others: list[Any], milestone: int) -> Run:
    run.outer = SequentialLR(run.optimizer, others, [milestone])
    return run


@pytest.mark.parametrize("each", [1, EPOCH], ids=["each step", "once an epoch"])
def test_one_that_waits_does_not_count_and_the_hand_off_starts_it(each: int):
    run = Run(update_ratio(schedule="linear", total_steps=100), each)
    ramp = LinearLR(run.optimizer, 0.2, 1.0, total_iters=10 // each)
    sequence(run, [ramp, run.scheduler], 10 // each).go(10)
    assert run.scheduler.last_epoch == 0
    run.go(10)
    assert run.scheduler.last_epoch == 10
    assert run.rates[10:] == pytest.approx([BASE * (1 - step / 100) for step in range(10)])
    assert run.rates[:10] == pytest.approx(
        [BASE * (0.2 + 0.8 * (step // each) * each / 10) for step in range(10)]
    ), "the ramp is the other's"


@pytest.mark.parametrize("each", [1, EPOCH], ids=["each step", "once an epoch"])
def test_one_that_has_handed_over_writes_no_more(each: int):
    run = Run(update_ratio(schedule="linear", total_steps=100), each)
    other = ConstantLR(run.optimizer, 0.5, total_iters=100)
    sequence(run, [run.scheduler, other], 10 // each).go(30)
    assert run.rates[:10] == pytest.approx([BASE * (1 - step / 100) for step in range(10)])
    assert len(set(run.rates[10:])) == 1, "constant"


def test_a_sequence_stopped_in_mid_epoch_goes_on():
    def build() -> Run:
        run = Run(update_ratio(schedule="linear", total_steps=100))
        return sequence(run, [LinearLR(run.optimizer, 0.2, 1.0, 2), run.scheduler], 2)

    whole = build().go(STEPS)
    for stop in range(1, STEPS, 3):
        first = build().go(stop)
        assert first.rates + build().load(first.save()).go(STEPS - stop).rates == whole.rates, stop


# -- a learned schedule ---------------------------------------------------------------------------


def learned(optimizer: Any) -> LearnedLR:
    return LearnedLR(optimizer, policy=random_policy(windows=4), total_steps=40)  # every 10 steps


@pytest.mark.parametrize(
    ("each", "decided"), [(1, [10, 20, 30]), (5, [10, 20, 30]), (8, [16, 24, 32]), (20, [20])]
)
def test_a_policy_decides_at_the_first_call_in_each_of_its_windows(
    each: int, decided: list[int], monkeypatch: pytest.MonkeyPatch
):
    run, seen = Run(learned, each), []
    act = run.scheduler._decide
    monkeypatch.setattr(
        run.scheduler, "_decide", lambda loss: (seen.append(run.scheduler.last_epoch), act(loss))
    )
    run.go(39)
    assert seen == decided
    assert run.rates == Run(learned, 1).go(39).rates


def test_a_policy_called_once_an_epoch_resumes_in_mid_epoch_to_the_bit():
    whole = Run(learned).go(STEPS)
    for stop in range(0, STEPS, 3):
        first = Run(learned).go(stop)
        again = Run(learned).load(first.save()).go(STEPS - stop)
        assert again.task.weights().tolist() == whole.task.weights().tolist(), stop


# -- one that reacts ------------------------------------------------------------------------------


def greedy(**settings: Any) -> Callable[..., Any]:
    # It never decides here: what is looked at is what it rides on.
    options = {"schedule": "linear", "total_steps": STEPS, "patience": 1000}
    return lambda optimizer: GreedyLR(optimizer, **{**options, **settings})


def test_a_named_schedule_ends_after_so_many_optimizer_steps():
    run = Run(greedy()).go(STEPS)
    assert run.scheduler.last_epoch == STEPS // EPOCH, "it counts its calls, as every scheduler"
    assert run.rates == pytest.approx([BASE * (1 - step // 5 * 5 / 20) for step in range(STEPS)])
    assert run.scheduler.get_last_lr() == [0.0, 0.0]


def test_a_ramp_in_calls_is_followed_by_the_schedule_in_steps():
    run = Run(greedy(warmup_steps=2)).go(STEPS)
    begins = [BASE / 3, BASE * 2 / 3, BASE, BASE / 2]
    assert run.rates[::EPOCH] == pytest.approx(begins)


def test_a_length_in_epochs_is_told():
    """What a step was before: a call. The schedule ends in the first epoch, and it says so."""
    with pytest.warns(PastHorizonWarning, match="pass the run's whole length in optimizer steps"):
        Run(greedy(total_steps=STEPS // EPOCH)).go(EPOCH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run(greedy()).go(STEPS)
        Run(greedy(total_steps=STEPS), 1).go(STEPS)
        Run(greedy(schedule=None, total_steps=None)).go(STEPS)


def test_a_schedule_stopped_in_mid_epoch_goes_on():
    for settings in ({}, {"warmup_steps": 2}):
        whole = Run(greedy(**settings)).go(STEPS)
        for stop in range(STEPS):
            first = Run(greedy(**settings)).go(stop)
            again = Run(greedy(**settings)).load(first.save()).go(STEPS - stop)
            assert first.rates + again.rates == whole.rates, stop


def test_a_function_as_schedule_sees_the_calls():
    seen: list[int] = []
    Run(greedy(schedule=lambda step: seen.append(step) or 1.0, total_steps=None)).go(STEPS)
    assert sorted(set(seen)) == [0, 1, 2, 3, 4]
