"""A loop that sets the rate itself, as many public training scripts do, is told; others are not."""

from __future__ import annotations

import gc
import math
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.rules.policies import random_policy
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    SequentialLR,
)

from ratewise import GreedyLR, LearnedLR, SpikeGuard, UpdateRatioLR
from ratewise.errors import OverwrittenRateWarning
from ratewise.optimizers import HypergradientSGD
from ratewise.schedulers.rate_watch import RateWatch

STEPS, BASE = 60, 0.1
SCHEDULERS: dict[str, Callable[..., Any]] = {
    "greedy": lambda optimizer: GreedyLR(optimizer, patience=2, window=3),
    "eager": lambda optimizer: GreedyLR(optimizer, patience=0, window=1),
    "on a schedule": lambda optimizer: GreedyLR(optimizer, schedule="cosine", total_steps=STEPS),
    "update ratio": lambda optimizer: UpdateRatioLR(optimizer, total_steps=STEPS),
    "learned": lambda optimizer: LearnedLR(
        optimizer, policy=random_policy(schedule="cosine"), total_steps=STEPS
    ),
}
every_scheduler = pytest.mark.parametrize("name", SCHEDULERS)


def warmup_and_cosine(step: int) -> float:
    """A schedule as training scripts write it: a linear ramp, a cosine, a floor."""
    warmup, last = 8, 50
    if step < warmup:
        return BASE * (step + 1) / (warmup + 1)
    if step > last:
        return 0.1 * BASE
    share = (step - warmup) / (last - warmup)
    return BASE * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


class Loop:
    """A small regression whose loss wanders, and what is done to the rates in it."""

    def __init__(self, name: str, *, tensor: bool = False, kind: Any = torch.optim.SGD) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(4, 1)
        rate = torch.tensor(BASE, dtype=torch.float64) if tensor else BASE
        self.optimizer = kind(self.model.parameters(), lr=rate)
        self.scheduler = SCHEDULERS[name](self.optimizer)
        self.data = torch.randn(16, 4)
        self.losses = random.Random(1)

    def loss(self, step: int) -> float:
        return 2 + math.cos(step / 6) + self.losses.gauss(0, 0.05)

    def run(
        self,
        before: Callable[[int], None] = lambda step: None,
        after: Callable[[int], None] = lambda step: None,
        own: Callable[[float], None] | None = None,
    ) -> list[str]:
        """Train; return what was warned of."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for step in range(STEPS):
                before(step)
                self.optimizer.zero_grad()
                self.model(self.data).square().mean().backward()
                self.optimizer.step()
                (own or self.scheduler.step)(self.loss(step))
                after(step)
        kinds = [w for w in caught if issubclass(w.category, OverwrittenRateWarning)]
        return [str(warning.message) for warning in kinds]

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate


@every_scheduler
def test_a_loop_with_a_schedule_of_its_own_is_told_once(name: str):
    loop = Loop(name)
    (words,) = loop.run(before=lambda step: loop.set_rate(warmup_and_cosine(step)))
    assert "param_group['lr'] = lr" in words
    assert "3 times running" in words
    assert type(loop.scheduler).__name__ in words


@every_scheduler
def test_a_constant_that_is_set_at_each_step_is_told(name: str):
    loop = Loop(name)
    assert len(loop.run(before=lambda step: loop.set_rate(0.03))) == 1


@every_scheduler
def test_left_alone_it_says_nothing(name: str):
    loop = Loop(name)
    assert loop.run() == []
    assert len({float(rate) for rate in [BASE, *loop.scheduler.get_last_lr()]}) == 2, "it acted"


@every_scheduler
@pytest.mark.parametrize(
    "other",
    [
        lambda optimizer: ExponentialLR(optimizer, 0.9),
        lambda optimizer: ExponentialLR(optimizer, 0.99),
        lambda optimizer: CosineAnnealingLR(optimizer, STEPS),
        lambda optimizer: LinearLR(optimizer, 0.1, total_iters=20),
    ],
    ids=["exponential, as greedy's factor", "exponential", "cosine", "warmup"],
)
def test_another_scheduler_that_multiplies_is_respected(name: str, other: Any):
    loop = Loop(name)
    theirs = other(loop.optimizer)
    assert loop.run(after=lambda step: theirs.step()) == []


@every_scheduler
def test_a_hand_that_multiplies_is_respected(name: str):
    loop = Loop(name)

    def now_and_then(step: int) -> None:
        if step in (7, 8, 20, 41):
            loop.set_rate(loop.optimizer.param_groups[0]["lr"] * 0.7)

    assert loop.run(before=now_and_then) == []


@every_scheduler
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_a_sequence_is_respected(name: str, first: bool):
    loop = Loop(name)
    theirs = LinearLR(loop.optimizer, 0.1, total_iters=20)
    order = [loop.scheduler, theirs] if first else [theirs, loop.scheduler]
    sequence = SequentialLR(loop.optimizer, order, milestones=[20])

    def own(loss: float) -> None:
        loop.scheduler.observe(loss)
        sequence.step()

    assert loop.run(own=own) == []


def test_a_guard_is_respected():
    loop = Loop("greedy")
    guard = SpikeGuard(loop.model, loop.optimizer, loop.scheduler, tolerate=0, max_rollbacks=50)

    def before(step: int) -> None:
        guard.spiked(math.nan if step % 5 == 4 else 1.0)

    assert loop.run(before=before) == []
    assert guard.rollbacks > 3


@pytest.mark.parametrize("form", ["additive", "multiplicative"])
@every_scheduler
def test_an_optimizer_that_moves_its_own_rate_is_respected(name: str, form: str):
    def kind(params: Any, lr: float) -> Any:
        return HypergradientSGD(params, lr, form=form, hyper_lr=0.05, per="group")

    loop = Loop(name, kind=kind)
    assert loop.run() == []


def test_a_scheduler_that_sets_rates_is_named():
    loop = Loop("greedy")
    theirs = LambdaLR(loop.optimizer, lambda step: 0.99**step)
    (words,) = loop.run(after=lambda step: theirs.step())
    assert "(LambdaLR)" in words


def test_a_scheduler_that_is_gone_multiplies_nothing():
    loop = Loop("update ratio")
    theirs = CosineAnnealingLR(loop.optimizer, STEPS)
    del theirs
    gc.collect()
    assert len(loop.run(before=lambda step: loop.set_rate(warmup_and_cosine(step)))) == 1


@pytest.mark.parametrize("ask", ["explain", "state_dict", "flush"])
def test_rates_that_are_tensors_are_looked_at_when_somebody_asks(ask: str, capsys: Any):
    """Nothing is read before: on a device that would make the host wait."""
    loop = Loop("eager", tensor=True)
    rate = loop.optimizer.param_groups[0]["lr"]

    def own(loss: float) -> None:
        loop.scheduler.step(torch.tensor(loss, dtype=torch.float64))

    assert loop.run(before=lambda step: rate.fill_(0.03), own=own) == []
    with pytest.warns(OverwrittenRateWarning, match="3 times running"):
        getattr(loop.scheduler, ask)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(loop.scheduler, ask)()


def test_tensor_rates_that_others_multiply_say_nothing():
    loop = Loop("greedy", tensor=True)
    theirs = ExponentialLR(loop.optimizer, 0.9)

    def own(loss: float) -> None:
        loop.scheduler.step(torch.tensor(loss, dtype=torch.float64))

    assert loop.run(after=lambda step: theirs.step(), own=own) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.scheduler.flush()


def test_a_scheduler_that_multiplied_and_is_gone_by_now_was_respected():
    """Steps on a device are looked at late: nobody knows who was there."""
    loop = Loop("eager", tensor=True)
    factors = [0.9, 1.25, 0.8, 0.97, 1.1]
    others = [MultiplicativeLR(loop.optimizer, lambda step: factors[step % 5])]

    def own(loss: float) -> None:
        loop.scheduler.step(torch.tensor(loss, dtype=torch.float64))

    assert loop.run(after=lambda step: others[0].step(), own=own) == []
    others.clear()
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.scheduler.flush()


def test_two_changes_that_are_missing_are_not_yet_three():
    watch = RateWatch(1.0)
    for times in (1, 2, 3):
        watch.note(1.0, 0.5)
        watch.look(1.0)
        assert watch.lost == times
    watch.note(1.0, 0.5)
    watch.look(0.5)
    assert watch.lost == 0


@pytest.mark.parametrize("rate", [0.0, math.nan, math.inf])
def test_what_has_no_logarithm_is_passed_over(rate: float):
    watch = RateWatch(rate)
    for _ in range(5):
        watch.note(rate, 0.5)
        watch.look(rate)
        watch.note(0.5, rate)
        watch.look(0.4)
    assert watch.lost == watch.strange == 0
