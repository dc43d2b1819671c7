"""UpdateRatioLR's state: resumed anywhere to the bit, of these tensors and no others."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from tests.schedulers.device_watch import through_a_file
from tests.schedulers.update_ratio_twin import BASE, Task, adamw, sgd
from torch import nn

from ratewise import GreedyLR, UpdateRatioLR
from ratewise.errors import InvalidState
from ratewise.rules import update_ratio as rule

STEPS = 24
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {"total_steps": STEPS},
    "every third": {"measure_every": 3},
    "every fourth, per group": {"measure_every": 4, "per": "group", "total_steps": STEPS},
    "every fourth, per model": {"measure_every": 4, "per": "model"},
    "ramp": {"warmup_steps": 5, "schedule": "linear", "total_steps": 40},
}
every_setting = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


@pytest.fixture(autouse=True)
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps that are not measured begin soon."""
    monkeypatch.setattr(rule, "EARLY", 4)


class Run:
    """A task in float32 under the scheduler, that can be stopped at any step."""

    def __init__(self, settings: dict[str, Any], make: Any = sgd, lr: Any = BASE) -> None:
        self.task = Task(lambda groups: make(groups, lr=copy.copy(lr)), dtype=torch.float32)
        if isinstance(lr, torch.Tensor):
            self.task.optimizer.param_groups[1]["lr"] = lr / 2
        self.scheduler = UpdateRatioLR(self.task.optimizer, **settings)

    def go(self, steps: int, anneal: int | None = None) -> Run:
        for _ in range(steps):
            if self.scheduler.last_epoch == anneal:
                self.scheduler.anneal(9)
            self.task.run(self.scheduler, 1)
        return self

    def parts(self) -> dict[str, Any]:
        task = self.task
        return {"model": task.model, "optimizer": task.optimizer, "scheduler": self.scheduler}

    def save(self) -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in self.parts().items()}
        return through_a_file(states | {"sampler": self.task.sampler.get_state()})

    def load(self, state: dict[str, Any], order: Any = None) -> Run:
        for name in order or self.parts():
            self.parts()[name].load_state_dict(state[name])
        self.task.sampler.set_state(state["sampler"])
        return self

    def result(self) -> tuple[list[float], list[float]]:
        return self.task.weights().tolist(), self.scheduler.factors().tolist()


@every_setting
@pytest.mark.parametrize("order", [("model", "optimizer", "scheduler"), ("scheduler", "optimizer")])
@pytest.mark.parametrize("make", [sgd, adamw], ids=["sgd", "adamw"])
def test_stopped_at_every_step_it_goes_on_to_the_bit(settings: Any, order: Any, make: Any):
    whole = Run(settings, make).go(STEPS).result()
    for stop in range(STEPS):
        state = Run(settings, make).go(stop).save()
        again = Run(settings, make, lr=0.7).load(state, {"model": 0} | dict.fromkeys(order))
        assert again.go(STEPS - stop).result() == whole, stop


@pytest.mark.filterwarnings("ignore::ratewise.errors.PastHorizonWarning")
def test_an_annealed_run_goes_on_to_the_bit():
    settings = {"schedule": "linear"}
    whole = Run(settings).go(STEPS, anneal=8).result()
    for stop in range(1, STEPS):
        state = Run(settings).go(stop, anneal=8).save()
        assert Run(settings).load(state).go(STEPS - stop, anneal=8).result() == whole, stop


def test_a_tensor_rate_goes_on_to_the_bit():
    rate = torch.tensor(BASE, dtype=torch.float64)
    whole = Run(SETTINGS["every third"], lr=rate).go(STEPS).result()
    for stop in range(0, STEPS, 5):
        state = Run(SETTINGS["every third"], lr=rate).go(stop).save()
        again = Run(SETTINGS["every third"], lr=rate * 9).load(state)
        assert again.go(STEPS - stop).result() == whole, stop


@pytest.mark.parametrize("part", ["factor", "settled", "typical", "steps", "decided"])
def test_a_state_that_lacks_something_is_noticed(part: str):
    """The test can fail: with one part of the state put back, runs differ."""
    settings = {"measure_every": 3, "rise": 1.05, "reach": 1.2}
    whole = Run(settings).go(STEPS).result()
    differs = False
    for stop in range(5, STEPS, 2):
        state = Run(settings).go(stop).save()
        fresh = Run(settings).save()["scheduler"]["ratewise"]["rule"]["displacement"][part]
        state["scheduler"]["ratewise"]["rule"]["displacement"][part] = fresh
        differs = differs or Run(settings).load(state).go(STEPS - stop).result() != whole
    assert differs


def test_a_state_is_plain_data_with_a_format():
    state = Run({}).go(5).scheduler.state_dict()
    assert type(state["ratewise"]["format"]) is int

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(x) for key, x in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in (int, float, bool, str)

    assert plain(state)


def others(kind: str) -> UpdateRatioLR:
    """Return a scheduler of other tensors than `Run`'s."""
    shapes = {
        "another shape": [[(7, 5), (7,)], [(2, 7), (3,)]],
        "another order": [[(7,), (7, 5)], [(2, 7), (2,)]],
        "one more": [[(7, 5), (7,)], [(2, 7), (2,), (1,)]],
        "one less": [[(7, 5), (7,)], [(2, 7)]],
    }[kind]
    groups = [{"params": [nn.Parameter(torch.ones(s)) for s in group]} for group in shapes]
    return UpdateRatioLR(torch.optim.SGD(groups, lr=0.1))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("another shape", r"parameter 3 was of shape \[2\] .* is of \[3\] now"),
        ("another order", r"parameter 0 was of shape \[7, 5\]"),
        ("one more", "is of 4 parameters, the optimizer has 5"),
        ("one less", "is of 4 parameters, the optimizer has 3"),
    ],
)
def test_other_tensors_are_named_and_nothing_is_changed(kind: str, words: str):
    state, other = Run({}).go(9).scheduler.state_dict(), others(kind)
    before = other.state_dict()
    with pytest.raises(InvalidState, match=words):
        other.load_state_dict(state)
    assert other.state_dict() == before


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("factor", [1.0]),
        ("factor", "x"),
        ("ratios", []),
        ("probe", [1.0]),
        ("typical", None),
        ("steps", "x"),
        ("shapes", 3),
    ],
)
def test_a_damaged_part_is_refused_whole(part: str, value: Any):
    state, run = Run({}).go(9).scheduler.state_dict(), Run({}).go(3)
    state["ratewise"]["rule"]["displacement"][part] = value
    before = run.scheduler.state_dict()
    with pytest.raises(InvalidState):
        run.scheduler.load_state_dict(state)
    assert run.scheduler.state_dict() == before


def test_another_kind_is_named():
    state = Run({}).go(9).scheduler.state_dict()
    with pytest.raises(InvalidState, match="of per='tensor', this scheduler of per='group'"):
        Run({"per": "group"}).scheduler.load_state_dict(state)
    with pytest.raises(InvalidState, match="is of a UpdateRatioLR, this is a GreedyLR"):
        GreedyLR(Run({}).task.optimizer).load_state_dict(state)


def test_settings_come_from_the_state():
    run = Run({"ratio": 0.03, "measure_every": 7, "gain": 0.3}).go(9)
    other = Run({}).load(run.save())
    assert (other.scheduler.ratio, other.scheduler.measure_every) == (0.03, 7)
    assert run.go(9).result() == other.go(9).result()


@pytest.mark.parametrize("per", ["tensor", "group", "model"])
def test_another_rate_on_resume_changes_the_rate_and_not_the_weights(per: str):
    run = Run({"total_steps": STEPS, "per": per}).go(9)
    state = run.save()
    other = Run({"total_steps": STEPS, "per": per}).load(state)
    other.scheduler.load_state_dict(state["scheduler"], lr=[BASE * 4, BASE * 2])
    assert other.scheduler.base_lrs == [BASE * 4, BASE * 2]
    for _ in range(9):
        rates = [run.go(1).scheduler.get_last_lr(), other.go(1).scheduler.get_last_lr()]
        assert rates[1] == pytest.approx([4 * rate for rate in rates[0]])
        torch.testing.assert_close(run.task.weights(), other.task.weights(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_steers_its_own_tensors_and_nobody_else_s(how: str):
    run = Run({"measure_every": 3}).go(7)
    copied = copy.deepcopy(run) if how == "deepcopy" else None
    if how == "pickle":
        model, scheduler = pickle.loads(pickle.dumps((run.task.model, run.scheduler)))
        copied = Run({"measure_every": 3})
        copied.task.model, copied.task.optimizer = model, scheduler.optimizer
        copied.task.sampler.set_state(run.task.sampler.get_state())
        copied.scheduler = scheduler
    before = run.result()
    after = copied.go(9).result()
    assert run.result() == before != after
    assert run.go(9).result() == after


def test_groups_added_between_saving_and_loading_keep_everybody_s_factor():
    def grown() -> Run:
        run = Run({"measure_every": 1}).go(7)
        late = nn.Linear(2, 2, bias=False)
        run.task.optimizer.add_param_group({"params": late.parameters(), "lr": 3.0})
        run.task.model.append(late)
        return run

    first = grown().go(3)
    second = grown().load(first.save())
    assert second.scheduler.factors().tolist() == first.scheduler.factors().tolist()
    assert first.go(5).result() == second.go(5).result()
