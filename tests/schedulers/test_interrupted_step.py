"""A step that raised an error leaves nothing behind: no reader sees a rate that was lent to it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.rules.policies import random_policy
from tests.schedulers.device_watch import through_a_file
from tests.schedulers.update_ratio_twin import BASE, Task, adamw, sgd

from ratewise import GreedyLR, LearnedLR, SpikeGuard, UpdateRatioLR

STEPS = 12
RATES = [BASE, BASE / 2]


def update_ratio(per: str) -> Callable[..., Any]:
    return lambda optimizer: UpdateRatioLR(optimizer, per=per, schedule="constant", measure_every=3)


KINDS: dict[str, Callable[..., Any]] = {
    "per tensor": update_ratio("tensor"),
    "per group": update_ratio("group"),
    "per model": update_ratio("model"),
    "learned": lambda optimizer: LearnedLR(
        optimizer, policy=random_policy(schedule="constant"), total_steps=STEPS
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
both_rates = pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
#: Where the error comes from: of a closure, before or after there are gradients; of the step.
WHERE = ("before gradients", "after gradients", "in the step")
everywhere = pytest.mark.parametrize("where", WHERE)


class Run:
    """A training by closures, whose step can be interrupted and then made again."""

    def __init__(self, kind: str, *, tensor: bool = False, make: Any = adamw) -> None:
        def build(groups: Any) -> torch.optim.Optimizer:
            for group, rate in zip(groups, RATES, strict=True):
                group["lr"] = torch.tensor(rate, dtype=torch.float64) if tensor else rate
            return make(groups)

        self.task = Task(build)
        self.optimizer = self.task.optimizer
        self.scheduler = KINDS[kind](self.optimizer)

    def step(self) -> None:
        self.scheduler.step(self.optimizer.step(self.task.backward))

    def go(self, steps: int) -> Run:
        for _ in range(steps):
            self.step()
        return self

    def interrupt(self, where: str) -> Run:
        """Begin a step that raises an error; the batch is drawn again afterwards."""
        sampler = self.task.sampler.get_state()

        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            if where == "before gradients":
                raise ZeroDivisionError
            loss = self.task.backward()
            if where == "after gradients":
                raise ZeroDivisionError
            return loss

        def spoil(*_: Any) -> None:
            raise ZeroDivisionError

        hook = self.optimizer.register_step_pre_hook(spoil) if where == "in the step" else None
        with pytest.raises(ZeroDivisionError):
            self.optimizer.step(closure)
        if hook is not None:
            hook.remove()
        self.task.sampler.set_state(sampler)
        return self

    def save(self) -> dict[str, Any]:
        parts = {"model": self.task.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        states = {name: part.state_dict() for name, part in parts.items()}
        return through_a_file(states | {"sampler": self.task.sampler.get_state()})

    def load(self, state: dict[str, Any]) -> Run:
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.task.sampler.set_state(state["sampler"])
        return self

    def result(self) -> tuple[list[float], list[float]]:
        return self.task.weights().tolist(), self.scheduler.factors().tolist()


def rates(groups: Any) -> list[float]:
    return [float(group["lr"]) for group in groups]


@every_kind
@everywhere
@both_rates
def test_saved_after_it_and_resumed_the_run_is_the_one_without_it(
    kind: str, where: str, tensor: bool
):
    whole = Run(kind, tensor=tensor).go(STEPS).result()
    for stop in (1, 6):
        run = Run(kind, tensor=tensor).go(stop).interrupt(where)
        state = run.save()
        assert rates(state["optimizer"]["param_groups"]) == RATES
        assert state["scheduler"]["_last_lr"] == state["scheduler"]["ratewise"]["rates"] == RATES
        assert Run(kind, tensor=tensor).load(state).go(STEPS - stop).result() == whole
        assert run.go(STEPS - stop).result() == whole, "the interrupted run goes on as well"


@every_kind
@everywhere
@pytest.mark.parametrize("first", ["optimizer", "scheduler"])
def test_a_state_loaded_after_it_holds(kind: str, where: str, first: str):
    """Also into the scheduler alone, or into the optimizer: nothing lent comes back later."""
    run = Run(kind).go(5)
    state = run.save()
    whole = run.go(6).result()
    run.interrupt(where)
    for name in (first, *({"optimizer", "scheduler"} - {first})):
        getattr(run, name).load_state_dict(state[name])
    run.task.model.load_state_dict(state["model"])
    run.task.sampler.set_state(state["sampler"])
    assert rates(run.optimizer.param_groups) == RATES
    assert run.go(6).result() == whole


@every_kind
@everywhere
@both_rates
def test_whoever_reads_a_rate_after_it_reads_the_group_s_own(kind: str, where: str, tensor: bool):
    def read(how: str) -> Any:
        run = Run(kind, tensor=tensor).go(4)
        beside = GreedyLR(run.optimizer, missing="hold")
        guard = SpikeGuard(run.task.model, run.optimizer, tolerate=0)
        assert not guard.spiked(1.0)
        if how == "guard":  # the snapshot's rates are above those at the spike
            for group in run.optimizer.param_groups:
                group["lr"] = group["lr"] * 0.25
        run.interrupt(where)
        out = io.StringIO()
        if how == "guard":
            assert guard.spiked(1e9)
            return rates(run.optimizer.param_groups)
        if how == "explain":
            run.scheduler.explain(file=out)
            return "lr 0.05, 0.025:" in out.getvalue()
        if how == "explain, beside":
            beside.explain(file=out)
            return "lr 0.05, 0.025" in out.getvalue()
        if how == "rescale":
            run.scheduler.rescale(0.5)
        elif how == "rescale, beside":
            beside.rescale(0.5)
        elif how == "another scheduler":
            return GreedyLR(run.optimizer).get_last_lr()
        elif how == "beside":
            return [float(rate) for rate in beside.state_dict()["_last_lr"]]
        return [float(rate) for rate in beside.get_last_lr()]

    for how in ("get_last_lr", "another scheduler", "beside"):
        assert read(how) == RATES, how
    for how in ("rescale", "rescale, beside"):
        assert read(how) == pytest.approx([BASE / 2, BASE / 4]), how
    for how in ("explain", "explain, beside"):
        assert read(how) is True, how
    assert read("guard") == pytest.approx([BASE / 8, BASE / 16])


@every_kind
def test_a_closure_reads_the_group_s_own_rates_and_the_step_is_steered_nevertheless(kind: str):
    run, plain = Run(kind), Run(kind)
    seen = []

    def closure() -> torch.Tensor:
        seen.append(rates(run.optimizer.param_groups))
        seen.append(run.scheduler.get_last_lr())
        run.optimizer.state_dict()
        return run.task.backward()

    for _ in range(STEPS):
        run.scheduler.step(run.optimizer.step(closure=closure))
    assert seen == [RATES] * (2 * STEPS)
    assert run.result() == plain.go(STEPS).result()


def test_these_runs_are_lent_rates():
    """The control: in a step without a closure a rate is another."""
    run, seen = Run("per tensor", make=sgd).go(3), []
    run.optimizer.register_step_pre_hook(lambda *_: seen.append(rates(run.optimizer.param_groups)))
    run.task.backward()
    run.optimizer.step()
    assert all(a != pytest.approx(b, rel=0.1) for a, b in zip(seen[0], RATES, strict=True))
