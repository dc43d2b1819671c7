"""The online correction: what its definition says, resumed to the bit, off where it misleads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.schedulers.device_watch import through_a_file
from tests.schedulers.update_ratio_twin import Task, Twin, adamw, length, sgd

from ratewise import UpdateRatioLR, simulate
from ratewise.errors import InvalidArgument, InvalidState, SettingsDifferWarning, WrongType
from ratewise.rules import online as rule
from ratewise.rules import update_ratio
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import UpdateRatio

pytestmark = pytest.mark.numerics

STEPS = 50


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_ratio, "EARLY", 6)
    monkeypatch.setattr(rule, "FIRST", 8)
    monkeypatch.setattr(rule, "EVERY", 1)


def plain_adamw(groups: Any, lr: float = 0.05, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0, **more)


class OnlineTwin(Twin):
    """Keeps the whole last displacement, and corrects by one cosine over all tensors."""

    def __init__(self, *args: Any, gain: float = 0.1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.c, self.gain = 0.0, gain
        self.last: list[torch.Tensor] = []

    def step(self) -> None:
        if self.last and self.count >= 8:
            gradients = [p.grad.clone() for p in self.params]
            inner = -sum(float((g * d).sum()) for g, d in zip(gradients, self.last, strict=True))
            one, other = (math.hypot(*map(length, x)) for x in (gradients, self.last))
            self.c = max(-math.log(8), min(math.log(8), self.c + self.gain * inner / one / other))
        old = [p.detach().clone() for p in self.params]
        super().step()
        self.last = [p.detach() - o for p, o in zip(self.params, old, strict=True)]

    def applied(self, factors: list[float]) -> list[float]:
        return [f * math.exp(self.c) for f in factors]


def follow(make: Any, gain: float = 0.1, **options: Any) -> tuple[Any, OnlineTwin, float]:
    """Step both, and return them with the largest difference of the weights."""
    task, other = Task(make), Task(make)
    scheduler = UpdateRatioLR(
        task.optimizer, ratio=0.02, online=True, measure_every=3, schedule="constant", **options
    )
    twin = OnlineTwin(
        other.optimizer, UpdateRatioConfig(ratio=0.02), measure_every=3, early=6, gain=gain
    )
    apart = 0.0
    for _ in range(STEPS):
        task.run(scheduler, 1)
        other.backward()
        twin.step()
        apart = max(apart, float((task.weights() - other.weights()).abs().max()))
    return scheduler, twin, apart


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "amsgrad": {"amsgrad": True},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_the_literal_twin_s_which_keeps_the_displacement(options: dict[str, Any]):
    scheduler, twin, apart = follow(lambda groups: plain_adamw(groups, **options))
    assert apart < 1e-5
    assert float(scheduler.correction().log()) == pytest.approx(twin.c, abs=1e-5)
    assert abs(twin.c) > 0.02  # something was corrected


def test_the_twin_notices_another_gain():
    _, _, apart = follow(plain_adamw, gain=0.09)
    assert apart > 1e-4


def test_weight_decay_in_the_displacement_makes_next_to_no_difference():
    scheduler, twin, _ = follow(adamw)
    assert float(scheduler.correction().log()) == pytest.approx(twin.c, abs=0.02)


def test_a_closure_s_gradients_judge_as_others_do():
    ends = []
    for closed in (False, True):
        task = Task(plain_adamw)
        scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, online=True)
        for _ in range(STEPS):
            if closed:
                task.optimizer.step(task.backward)
            else:
                task.backward()
                task.optimizer.step()
            scheduler.step()
        ends.append((task.weights().tolist(), float(scheduler.correction())))
    assert ends[0] == ends[1]
    assert ends[0][1] != 1.0


def test_a_step_that_failed_has_judged_nothing():
    task = Task(plain_adamw)
    scheduler = task.run(UpdateRatioLR(task.optimizer, ratio=0.02, online=True), STEPS)
    before = float(scheduler.correction())
    task.backward()
    control = scheduler._control
    control.before_step(closure=False)
    assert float(scheduler.correction()) != before
    scheduler.get_last_lr()  # the step never ends
    assert float(scheduler.correction()) == before


def test_gradients_that_are_not_finite_change_nothing():
    task = Task(plain_adamw)
    scheduler = task.run(UpdateRatioLR(task.optimizer, ratio=0.02, online=True), STEPS)
    before = float(scheduler.correction())
    task.backward()
    next(task.model.parameters()).grad.fill_(math.inf)
    task.optimizer.step()
    assert float(scheduler.correction()) == before


def run(settings: dict[str, Any], make: Any = adamw) -> tuple[Task, UpdateRatioLR]:
    task = Task(make, dtype=torch.float32)
    return task, UpdateRatioLR(task.optimizer, ratio=0.02, **settings)


SETTINGS: dict[str, dict[str, Any]] = {
    "per tensor": {"measure_every": 3, "total_steps": STEPS},
    "per group": {"measure_every": 4, "per": "group"},
    "per model": {"measure_every": 4, "per": "model"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_stopped_anywhere_it_goes_on_to_the_bit(settings: dict[str, Any]):
    task, scheduler = run(settings | {"online": True})
    task.run(scheduler, 30)
    whole = task.weights().tolist(), float(scheduler.correction())
    assert whole[1] != 1.0
    for stop in range(0, 30, 3):
        task, scheduler = run(settings | {"online": True})
        task.run(scheduler, stop)
        parts = task.model, task.optimizer, scheduler
        states = through_a_file({str(k): part.state_dict() for k, part in enumerate(parts)})
        again, other = run(settings)
        again.sampler.set_state(task.sampler.get_state())
        for k, part in enumerate((again.model, again.optimizer, other)):
            part.load_state_dict(states[str(k)])
        again.run(other, 30 - stop)
        assert (again.weights().tolist(), float(other.correction())) == whole, stop


@pytest.mark.parametrize("part", ["value", "last"])
def test_a_state_that_lacks_something_is_noticed(part: str):
    task, scheduler = run({"online": True})
    task.run(scheduler, 20)
    state = scheduler.state_dict()
    sampler, weights = task.sampler.get_state(), [m.state_dict() for m in (task.model,)]
    optimizer = through_a_file({"it": task.optimizer.state_dict()})["it"]
    model = through_a_file({"it": weights[0]})["it"]
    whole = task.run(scheduler, 10) and task.weights().tolist()
    ends = []
    for spoilt in (False, True):
        again, other = run({"online": True})
        again.model.load_state_dict(model)
        again.optimizer.load_state_dict(optimizer)
        again.sampler.set_state(sampler)
        if spoilt:
            fresh = other.state_dict()["ratewise"]["rule"]["displacement"]["online"][part]
            state["ratewise"]["rule"]["displacement"]["online"][part] = fresh
        other.load_state_dict(state)
        again.run(other, 10)
        ends.append(again.weights().tolist())
    assert ends[0] == whole
    assert ends[1] != whole


def test_it_is_off_unless_it_is_asked_for():
    for settings in ({}, {"total_steps": 300, "steps_per_epoch": 300}):
        assert not UpdateRatioLR(Task(adamw).optimizer, **settings).online
        assert UpdateRatioLR(Task(adamw).optimizer, online=True, **settings).online


def test_it_is_refused_where_it_is_not_for():
    with pytest.raises(InvalidArgument, match="online must be False with another optimizer than"):
        UpdateRatioLR(Task(sgd).optimizer, online=True)
    with pytest.raises(WrongType, match="online must be True or False"):
        UpdateRatioLR(Task(adamw).optimizer, online="yes")
    state = UpdateRatioLR(Task(adamw).optimizer, online=True).state_dict()
    with pytest.raises(InvalidState, match="construct this one with online=False"):
        UpdateRatioLR(Task(sgd).optimizer).load_state_dict(state)
    with pytest.warns(SettingsDifferWarning, match="online=False"):
        UpdateRatioLR(Task(sgd).optimizer, online=False).load_state_dict(state)


def test_explain_says_what_it_multiplies_by(capsys: pytest.CaptureFixture[str]):
    task, scheduler = run({"online": True})
    task.run(scheduler, 20).explain()
    times = float(scheduler.correction())
    assert f"online: every ratio is multiplied by {times:.3g}" in capsys.readouterr().out


def stacked(steps: int = 300, **options: Any) -> np.ndarray:
    """Return the losses on rows held out of four runs whose ratio is far too small."""
    task = simulate.family("mlp", data="teacher", size=4096, batch_size=8)
    rule = UpdateRatio(UpdateRatioConfig(ratio=0.002), **options)
    task = simulate.Task(task.name, task.model, task.loss, task.data, task.batch_size, held_out=512)
    return simulate.run(task, "adamw", rule, runs=4, steps=steps, lr=0.01, seed=3).held_out


def test_it_mends_a_ratio_that_is_too_small_and_a_random_sign_does_not():
    alone, online = stacked(), stacked(online=True)
    random, seldom = stacked(online="random"), stacked(online=True, judge_every=5)
    assert online.mean() < 0.9 * alone.mean()
    assert seldom.mean() < 0.9 * alone.mean()
    assert random.mean() > 0.95 * alone.mean()


def test_the_simulator_s_is_the_scheduler_s():
    def task() -> simulate.Task:
        return simulate.family("mlp", data="teacher", size=512, batch_size=8)

    steps, made = 40, task()
    rule_of = UpdateRatio(UpdateRatioConfig(ratio=0.01), online=True, schedule="linear")
    no_decay = lambda params, lr=1.0: plain_adamw(params, lr)  # noqa: E731
    found = simulate.run(
        made, no_decay, rule_of, runs=1, steps=steps, lr=0.01, seed=[5], dtype=torch.float64
    )
    torch.manual_seed(5)
    model = made.model().double()
    optimizer = plain_adamw(model.parameters(), 0.01)
    scheduler = UpdateRatioLR(optimizer, ratio=0.01, online=True, total_steps=steps)
    (x, y), order = made.data_for(5), simulate.order.DataOrder([5], 512, 8)
    for _ in range(steps):
        rows = order.next()[0]
        optimizer.zero_grad()
        made.loss(model(x.double()[rows]), y[rows]).backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        end = float(made.loss(model(x.double()[:256]), y[:256]))
    assert end == pytest.approx(found.final[0], rel=1e-5)
