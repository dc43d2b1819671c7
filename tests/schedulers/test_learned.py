"""LearnedLR: equal to the simulated rule, bounded, deterministic, and plain about what it sees."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from tests.rules.policies import WIDE, random_policy
from tests.schedulers.device_watch import Watch
from torch import nn

import ratewise
from ratewise import LearnedLR, UpdateRatioLR, simulate
from ratewise.errors import (
    InvalidArgument,
    InvalidState,
    MissingLoss,
    OutsideTrainingWarning,
    PastHorizonWarning,
    SettingsDifferWarning,
    UnknownName,
    WrongType,
)
from ratewise.rules.features import FEATURES
from ratewise.rules.fixed import FIXED
from ratewise.rules.learned import Policy
from ratewise.rules.ratio_law import DEFAULT, Outlook, RatioLaw, default_ratio
from ratewise.simulate import Learned, UpdateRatio
from ratewise.simulate.order import DataOrder

pytestmark = pytest.mark.numerics

STEPS = 60
OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
    "adamw": lambda params, lr: torch.optim.AdamW(params, lr=lr),
}
TEACHER = {"data": "teacher", "size": 96, "inputs": 6}


class Run:
    """A small training of a random teacher under a scheduler."""

    def __init__(self, make: Any, *, optimizer: str = "adamw", lr: float = 0.01, seed: int = 5):
        self.task = simulate.family("mlp", **TEACHER)
        torch.manual_seed(seed)
        self.model = self.task.model().double()
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters(), lr)
        self.scheduler = make(self.optimizer)
        inputs, targets = self.task.data_for(seed)
        self.x, self.y = inputs.double(), targets
        self.order = DataOrder([seed], len(inputs), self.task.batch_size)
        self.losses: list[float] = []

    def run(self, steps: int) -> Run:
        for _ in range(steps):
            rows = self.order.next()[0]
            loss = self.task.loss(self.model(self.x[rows]), self.y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step(loss)
            self.losses.append(float(loss.detach()))
        return self


def learned(**settings: Any) -> Any:
    options = {"policy": random_policy(), "total_steps": STEPS, **settings}
    return lambda optimizer: LearnedLR(optimizer, **options)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("lr", [1e-4, 1.0])
@pytest.mark.parametrize(
    "kind", ["learned", "learned, told of the data", "update ratio", "update ratio, one for all"]
)
def test_a_training_is_what_the_simulator_says(optimizer: str, lr: float, kind: str):
    rule, make = {
        "learned": (Learned(random_policy()), learned()),
        "learned, told of the data": (
            Learned(random_policy(), Outlook(None, 3, batch_size=8)),
            learned(steps_per_epoch=3, batch_size=8),
        ),
        "update ratio": (UpdateRatio(), lambda o: UpdateRatioLR(o, total_steps=STEPS)),
        "update ratio, one for all": (
            UpdateRatio(per="model"),
            lambda o: UpdateRatioLR(o, total_steps=STEPS, per="model"),
        ),
    }[kind]
    simulated = simulate.run(
        simulate.family("mlp", **TEACHER),
        optimizer,
        [rule, "cosine"],
        runs=2,
        steps=STEPS,
        lr=lr,
        seed=[5, 5],
        dtype=torch.float64,
    )
    real = Run(make, optimizer=optimizer, lr=lr).run(STEPS)
    np.testing.assert_allclose(real.losses, simulated.loss[0], rtol=1e-5)
    assert np.abs(simulated.loss[1] / simulated.loss[0] - 1).max() > 1e-3  # cosine is another


def test_the_starting_rate_does_not_matter():
    ends = [Run(learned(), lr=lr).run(STEPS).losses[-1] for lr in (1e-6, 1e-2, 1e3)]
    assert max(ends) / min(ends) < 1.001


def test_a_policy_that_says_nothing_is_the_update_ratio_rule():
    silent = Policy.anchor(RatioLaw(), bound=1.5, windows=12, schedule="cosine")
    ours = Run(learned(policy=silent)).run(STEPS)
    rule = Run(lambda o: UpdateRatioLR(o, total_steps=STEPS, schedule="cosine")).run(STEPS)
    assert ours.losses == rule.losses
    assert Run(learned()).run(STEPS).losses != rule.losses


def test_the_same_again():
    assert Run(learned()).run(STEPS).losses == Run(learned()).run(STEPS).losses


def test_what_it_saw_never_is_left_to_the_anchor_and_said_once():
    narrow = random_policy(high=np.zeros(WIDE, np.float32))
    run = Run(learned(policy=narrow))
    with pytest.warns(OutsideTrainingWarning, match="while policy 'random' was trained") as seen:
        run.run(30)
    assert len(seen) == 1
    assert float(run.scheduler.correction()) == 1.0
    out = io.StringIO()
    run.scheduler.explain(file=out)
    assert "6 decisions fell back to the anchor" in out.getvalue()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run(learned()).run(30)


def test_a_length_that_was_not_seen_is_said_at_once_and_in_steps():
    weight = nn.Parameter(torch.ones(2, 2))
    said = (
        "LearnedLR's policy 'default' was learned on 100 to 8,000 steps; at 100,000 the rule "
        "decides alone, as under UpdateRatioLR"
    )
    with pytest.warns(OutsideTrainingWarning, match=said) as seen:
        scheduler = LearnedLR(torch.optim.SGD([weight], lr=0.1), total_steps=100_000)
    assert seen[0].filename == __file__
    assert scheduler.ratio == default_ratio(100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for steps in (95, 300, 8400):
            LearnedLR(torch.optim.SGD([nn.Parameter(torch.ones(2, 2))], lr=0.1), total_steps=steps)


def test_what_is_known_of_the_data_is_seen_kept_and_heard_only_before_the_first_step():
    told, silent = Run(learned(steps_per_epoch=3, batch_size=128)), Run(learned())
    assert told.scheduler.ratio == default_ratio(STEPS, 3)
    assert silent.scheduler.ratio == default_ratio(STEPS)
    seen = told.run(10).scheduler._policy.seen
    at = [FEATURES.index(name) for name in ("passes", "batch")]
    assert seen[at].tolist() == pytest.approx([math.log(20) / 2, math.log(4) / 1.5])
    assert silent.run(10).scheduler._policy.seen[at].tolist() == [-1.0, 0.0]
    again = Run(learned()).scheduler
    again.load_state_dict(told.scheduler.state_dict())
    assert (again.steps_per_epoch, again.batch_size, again.ratio) == (
        3,
        128,
        told.scheduler.ratio,
    )
    heard = Run(learned(batch_size=16))
    heard.scheduler.hear_data(3, 128)
    assert (heard.scheduler.steps_per_epoch, heard.scheduler.batch_size) == (3, 16)
    assert heard.scheduler.ratio == told.scheduler.ratio
    silent.scheduler.hear_data(3, 128)  # too late
    assert (silent.scheduler.steps_per_epoch, silent.scheduler.batch_size) == (None, None)


@pytest.mark.parametrize(
    "wrong",
    [{"steps_per_epoch": 0}, {"batch_size": 0}, {"batch_size": 2.5}, {"pretrained": "yes"}],
    ids=str,
)
def test_what_cannot_be_of_the_data_is_named(wrong: dict[str, Any]):
    (name,) = wrong
    with pytest.raises((InvalidArgument, WrongType), match=name):
        Run(learned(**wrong))


def test_a_ratio_of_one_s_own_is_what_the_policy_corrects():
    usual, twice = Run(learned()), Run(learned(ratio=2 * DEFAULT.ratio(STEPS)))
    assert twice.scheduler.ratio == 2 * usual.scheduler.ratio
    assert usual.run(STEPS).losses != twice.run(STEPS).losses
    again = Run(learned()).scheduler
    again.load_state_dict(twice.scheduler.state_dict())
    assert again.ratio == twice.scheduler.ratio
    with pytest.warns(SettingsDifferWarning, match="ratio=0.01"):
        Run(learned(ratio=0.01)).scheduler.load_state_dict(usual.scheduler.state_dict())


def test_an_end_can_be_put_forward_and_the_correction_stands_from_there():
    run = Run(learned()).run(20)
    rate, correction = run.scheduler.get_last_lr()[0], float(run.scheduler.correction())
    run.scheduler.anneal(10)
    run.run(5)
    assert run.scheduler.get_last_lr()[0] == pytest.approx(
        rate * FIXED[run.scheduler.schedule](0.5)
    )
    run.run(5)
    assert run.scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-12)
    assert float(run.scheduler.correction()) == correction
    control = Run(learned()).run(30)
    assert float(control.scheduler.correction()) != correction


@pytest.mark.parametrize("extra", [math.nan, math.inf, 3.0])
def test_a_loss_that_is_not_finite_is_left_out(extra: float):
    plain, spoilt = Run(learned()).run(13), Run(learned()).run(13)
    spoilt.scheduler.observe(extra)
    same = plain.run(30).losses == spoilt.run(30).losses
    assert same == (not math.isfinite(extra))


def test_nothing_but_losses_that_are_not_finite():
    run = Run(learned())
    for _ in range(20):
        run.optimizer.zero_grad()
        run.model(run.x[:4]).sum().backward()
        run.optimizer.step()
        run.scheduler.step(math.nan)
    assert math.isfinite(float(run.scheduler.correction()))


def test_beyond_the_run_the_final_rate_holds_and_it_says_so_once():
    run = Run(learned(total_steps=20)).run(20)
    with pytest.warns(PastHorizonWarning, match="beyond total_steps=20") as seen:
        run.run(10)
    assert len(seen) == 1
    assert run.scheduler.get_last_lr() == [0.0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"total_steps": 0}, InvalidArgument, "total_steps must be an integer >= 1, got 0"),
        ({"total_steps": -3}, InvalidArgument, "total_steps must be"),
        ({"total_steps": 2.5}, InvalidArgument, "total_steps must be"),
        ({"policy": "nothing"}, UnknownName, "unknown policy 'nothing': .*default"),
        ({"missing": "ignore"}, UnknownName, "missing"),
        ({"sync": "max"}, UnknownName, "sync"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], error: type[Exception], message: str):
    weight = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(error, match=message):
        learned(**options)(torch.optim.SGD([weight], lr=0.1))


def test_total_steps_has_to_be_said():
    with pytest.raises(TypeError, match="total_steps"):
        LearnedLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))  # type: ignore[call-arg]


def test_a_bare_step_says_what_to_pass():
    run = Run(learned())
    run.optimizer.step()
    with pytest.raises(MissingLoss, match="call step\\(loss\\)"):
        run.scheduler.step()
    with pytest.raises(WrongType):
        run.scheduler.step("0.5")


def test_a_state_of_another_policy_is_refused_and_changes_nothing():
    saved = Run(learned(policy=random_policy(1))).run(10).scheduler.state_dict()
    run = Run(learned()).run(10)
    before = run.scheduler.state_dict()
    with pytest.raises(InvalidState, match="another policy"):
        run.scheduler.load_state_dict(saved)
    assert run.scheduler.state_dict() == before
    with pytest.raises(InvalidState):
        run.scheduler.load_state_dict(
            Run(lambda o: UpdateRatioLR(o, total_steps=STEPS)).run(3).scheduler.state_dict()
        )


def test_explain_says_what_it_sees():
    run = Run(learned()).run(20)
    out = io.StringIO()
    run.scheduler.explain(file=out)
    words = out.getvalue()
    assert "policy random: the wanted ratio is multiplied by" in words
    assert all(name in words for name in ("progress", "alignment", "promise"))
    assert max(map(len, words.splitlines())) <= 100


def test_with_a_tensor_rate_nothing_is_read():
    """But for what tells of features out of range, on the CPU alone."""
    rate = torch.tensor(0.01)
    weights = [nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))]
    optimizer = torch.optim.AdamW(weights, lr=rate, fused=True)
    scheduler = LearnedLR(optimizer, policy=random_policy(), total_steps=60)
    scheduler._told = True
    for step in range(30):
        loss = sum((p**2).sum() for p in weights)
        optimizer.zero_grad()
        loss.backward()
        with Watch() as watch:
            optimizer.step()
            scheduler.step(loss.detach())
        assert step == 0 or watch.seen == []
    assert float(scheduler.correction()) != 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tensor", [False, True])
def test_on_a_device_nothing_waits(tensor: bool):
    weights = [nn.Parameter(torch.randn(64, 64, device="cuda")) for _ in range(4)]
    rate = torch.tensor(0.01, device="cuda") if tensor else 0.01
    optimizer = torch.optim.AdamW(weights, lr=rate, fused=True)
    scheduler = LearnedLR(optimizer, policy=random_policy(), total_steps=100)
    for step in range(90):
        loss = sum((p**2).sum() for p in weights)
        optimizer.zero_grad()
        loss.backward()
        torch.cuda.set_sync_debug_mode("error" if step > 2 else "default")
        try:
            optimizer.step()
            scheduler.step(loss.detach())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert float(scheduler.correction()) != 1.0


def test_it_is_public():
    assert ratewise.LearnedLR is LearnedLR
