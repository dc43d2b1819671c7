"""Tensor rates and losses: nothing is read, nothing compiles twice, and rates are the floats'."""

from __future__ import annotations

import copy
import io
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.greedy_options import arguments
from tests.schedulers.device_watch import (
    QUICK,
    STAGES,
    Watch,
    every_setting,
    optimizer_of,
    rates,
    scheduler_of,
    through_a_file,
    waves,
)
from torch import Tensor
from torch.optim.lr_scheduler import MultiplicativeLR
from torch.utils._pytree import tree_leaves

from ratewise import GreedyLR
from ratewise.errors import InvalidArgument
from ratewise.rules.greedy import REASONS

# -- nothing is read ------------------------------------------------------------------------


@every_setting
@pytest.mark.parametrize("observed", [False, True], ids=["step(loss)", "observe, step"])
def test_a_step_reads_nothing_and_moves_nothing(settings: dict[str, Any], observed: bool):
    scheduler = scheduler_of(**settings)
    losses = waves(45)
    scheduler.step(losses[0])  # on a GPU the rates' device is known before; here the loss tells
    before = rates(scheduler)
    with Watch() as watch:
        for loss in losses[1:]:
            if observed:
                scheduler.observe(loss)
            scheduler.step(None if observed else loss)
    assert watch.seen == []
    assert rates(scheduler) != before
    assert len({event.reason for event in scheduler.events}) > 1


def test_what_waits_is_seen():
    loss = waves()[0]
    for waiting, name in (
        (lambda: float(loss), "aten._local_scalar_dense.default"),
        (lambda: bool(loss > 1), "aten._local_scalar_dense.default"),
        (lambda: torch.tensor([1.0]), "aten.lift_fresh.default"),
        (lambda: loss.to("meta"), "aten._to_copy.default between devices"),
        (lambda: torch.nonzero(loss), "aten.nonzero.default"),
        (lambda: scheduler_of(tensor=False).step(loss), "aten._local_scalar_dense.default"),
    ):
        with Watch() as watch:
            waiting()
        assert watch.seen == [name]


def test_transformers_reads_the_loss():
    optimization = pytest.importorskip("transformers.optimization")
    theirs = optimization.GreedyLR(optimizer_of(0.1), min_lr=0.01, max_lr=1.0)
    with Watch() as watch:
        theirs.step(waves()[0])
    assert "aten._local_scalar_dense.default" in watch.seen


@pytest.mark.parametrize(
    ("asking", "reads"),
    [
        (lambda s: s.get_last_lr(), False),
        (lambda s: s.last_reason, True),
        (lambda s: s.events, True),
        (lambda s: s.trace, True),
        (lambda s: s.explain(file=io.StringIO()), True),
        (lambda s: s.flush(), True),
        (lambda s: s.state_dict(), True),
        (lambda s: s.check_agreement(), True),
        (lambda s: s.rescale(0.5), True),
        (lambda s: s.load_state_dict(copy.deepcopy(STATE)), True),
        (lambda s: (add_group(s), s.step(waves()[0])), True),
    ],
    ids=lambda value: "" if callable(value) else "reads" if value else "keeps",
)
def test_what_is_documented_as_waiting_waits(asking: Callable[[GreedyLR], Any], reads: bool):
    scheduler = scheduler_of(**QUICK)
    for loss in waves(20):
        scheduler.step(loss)
    with Watch() as watch:
        asking(scheduler)
    assert bool(watch.seen) == reads


def add_group(scheduler: GreedyLR) -> None:
    rate = torch.tensor(0.5, dtype=torch.float64)
    scheduler.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate})


STATE = scheduler_of(**QUICK).state_dict()


@pytest.mark.parametrize(
    ("raising", "listening", "reads"), [(False, False, 0), (True, False, 2), (False, True, 2)]
)
def test_raising_and_listeners_read_once_in_100_steps(raising: bool, listening: bool, reads: int):
    scheduler = scheduler_of(**QUICK, on_nonfinite="raise" if raising else "bad")
    heard: list[Any] = []
    if listening:
        scheduler.add_listener(heard.append)
    scheduler.step(waves()[0])
    reading_steps = 0
    for loss in waves(210):
        with Watch() as watch:
            scheduler.step(loss)
        reading_steps += bool(watch.seen)
    assert reading_steps == reads
    assert bool(heard) == listening


# -- where there is no memory to read -------------------------------------------------------


def onto_meta(value: Any) -> Any:
    """Return `value` with every tensor in it on the meta device; our objects change in place."""
    if isinstance(value, Tensor):
        return value.to("meta")
    if isinstance(value, torch.device):
        return torch.device("meta")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(onto_meta, value))
    if isinstance(value, list | tuple):
        return type(value)(map(onto_meta, value))
    if type(value).__module__.startswith("ratewise.") and hasattr(value, "__dict__"):
        for name, held in vars(value).items():
            moved = held if name == "optimizer" else onto_meta(held)
            if moved is not held:
                setattr(value, name, moved)
    return value


@every_setting
def test_a_step_runs_on_a_device_without_memory(settings: dict[str, Any]):
    scheduler = scheduler_of(**settings)
    first, *losses = waves(12)
    scheduler.step(first)
    onto_meta(scheduler)
    losses = onto_meta(losses)
    for group in scheduler.optimizer.param_groups:
        group["lr"] = group["lr"].to("meta")
    for name in (
        "_ticks",
        "_rates.own",
        "_rates.wrote",
        "_greedy.rule.scale",
        "_greedy.rule.reason",
    ):
        held: Any = scheduler
        for part in name.split("."):
            held = getattr(held, part)
        assert all(tensor.is_meta for tensor in tree_leaves(held)), name
    with Watch() as watch:
        for loss in losses:
            scheduler.observe(loss)
            scheduler.step(loss)
    assert watch.seen == []
    assert all(rate.is_meta for rate in scheduler.get_last_lr())
    with pytest.raises(RuntimeError, match="meta"):
        scheduler.state_dict()


def test_a_loss_on_another_device_than_the_rates_is_named():
    scheduler = scheduler_of(**QUICK)
    scheduler.step(waves()[0])
    before = scheduler.state_dict()
    with pytest.raises(InvalidArgument, match=r"rates' device, cpu.*a tensor on meta"):
        scheduler.step(waves()[1].to("meta"))
    assert scheduler.state_dict() == before


# -- the same as on Python floats -----------------------------------------------------------


def random_settings(rng: random.Random) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "factor": rng.choice([0.5, 0.9]),
        "patience": rng.choice([0, 1, 3]),
        "window": rng.choice([1, 2, 5]),
        "reference": rng.choice(["best", "previous"]),
        "warmup": rng.choice([0, 2]),
        "cooldown": rng.choice([0, 2]),
        "stage": rng.choice(["extend", "ignore", "hold"]),
        "reset_after": rng.choice([None, 1, 3]),
        "decide_every": rng.choice([1, 1, 3]),
        "warmup_steps": rng.choice([0, 0, 4]),
        "on_nonfinite": rng.choice(["bad", "skip"]),
    }
    if rng.random() < 0.4:
        settings |= {"schedule": "cosine", "total_steps": 100}
    return arguments(**settings)


def random_loss(rng: random.Random, step: int) -> float:
    if rng.random() < 0.1:
        return rng.choice([math.nan, math.inf, -math.inf, 1e308, 0.0])
    return math.exp(rng.gauss(-min(step, 40 - step / 2) / 20, 0.1))


def both(rng: random.Random, steps: int = 70, chained: bool = False) -> tuple[GreedyLR, GreedyLR]:
    """Follow one random run on floats and on tensors; rates are equal after every step."""
    settings = random_settings(rng)
    floats, tensors = scheduler_of(tensor=False, **settings), scheduler_of(**settings)
    others = []
    for scheduler in (floats, tensors):
        scheduler.optimizer.step()
        if chained:
            others.append(MultiplicativeLR(scheduler.optimizer, lambda t: 0.9 if t % 7 else 1.25))
    for step in range(steps):
        loss = random_loss(rng, step)
        for other in others:
            other.step()
        floats.step(loss)
        tensors.step(torch.tensor(loss, dtype=torch.float64))
        assert rates(floats) == rates(tensors), (settings, step)
        assert floats.last_reason == tensors.last_reason
    return floats, tensors


def test_tensors_give_the_floats_rates_events_trace_and_state():
    rng = random.Random(0)
    reasons = set()
    for _ in range(16):
        floats, tensors = both(rng)
        # NaN is not equal to itself, but it is written the same.
        assert repr(floats.state_dict()) == repr(tensors.state_dict())
        assert repr(floats.events) == repr(tensors.events)
        assert repr(floats.trace) == repr(tensors.trace)
        reasons |= {event.reason for event in floats.events}
    assert reasons == set(REASONS) - {"none", "clamped", "nonfinite"}


def test_tensors_give_the_floats_rates_in_a_chain():
    rng = random.Random(1)
    for _ in range(10):
        floats, tensors = both(rng, chained=True)
        assert repr(floats.state_dict()) == repr(tensors.state_dict())
        assert any(floats.state_dict()["ratewise"]["outside"])


def test_a_run_goes_from_tensors_to_floats_and_back_through_a_file():
    for stop in range(0, 40, 5):
        whole, first = scheduler_of(**STAGES), scheduler_of(**STAGES)
        losses = waves(60)
        for loss in losses:
            whole.step(loss)
        for loss in losses[:stop]:
            first.step(loss)
        middle = scheduler_of(tensor=False, **STAGES)
        middle.load_state_dict(through_a_file(first.state_dict()))
        for loss in losses[stop : stop + 10]:
            middle.step(float(loss))
        last = scheduler_of(**STAGES)
        last.load_state_dict(through_a_file(middle.state_dict()))
        for loss in losses[stop + 10 :]:
            last.step(loss)
        assert repr(last.state_dict()) == repr(whole.state_dict())


# -- groups ---------------------------------------------------------------------------------


def shared_rate(**settings: Any) -> GreedyLR:
    """Return a scheduler of two groups with one rate, as torch makes them of ``lr=tensor``."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    return GreedyLR(torch.optim.SGD(groups, lr=torch.tensor(0.1, dtype=torch.float64)), **settings)


def test_groups_that_share_one_tensor_get_the_rate_once():
    scheduler, twin = shared_rate(**QUICK), scheduler_of(tensor=False, **QUICK)
    for loss in waves(30):
        scheduler.step(float(loss))
        twin.step(float(loss))
        assert rates(scheduler) == [rates(twin)[0]] * 2


def test_a_group_that_is_not_scheduled_keeps_a_rate_that_was_shared():
    scheduler = shared_rate(**QUICK, groups=[0])
    for loss in waves(30):
        scheduler.step(loss)
    assert rates(scheduler)[1] == 0.1


@pytest.mark.parametrize(
    "rate", [0.5, torch.tensor(0.5, dtype=torch.float64)], ids=["0.5", "tensor"]
)
def test_the_step_that_takes_in_a_group_leaves_no_tensor_among_the_floats(rate: float | Tensor):
    scheduler = scheduler_of(**QUICK)
    for loss in waves(20):
        scheduler.step(loss)
    parameter = torch.nn.Parameter(torch.ones(1))
    scheduler.optimizer.add_param_group({"params": [parameter], "lr": rate})
    scheduler.step(waves(1)[0])
    assert not any(isinstance(leaf, Tensor) for leaf in tree_leaves(scheduler.state_dict()))


# -- compiled and reloaded optimizers -------------------------------------------------------


def compilations(rate: float | Tensor, steps: int) -> tuple[int, int]:
    """Return how often a step is compiled while the rate changes, and how many rates it had."""
    import torch._dynamo
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=rate)
    scheduler = GreedyLR(optimizer, factor=0.9, patience=1, window=2)
    counter = CompileCounter()
    step = torch.compile(optimizer.step, backend=counter)
    seen = set()
    try:
        for index in range(steps):
            weight.grad = torch.ones(3)
            step()
            loss = 1 + math.sin(index / 9) / 2
            scheduler.step(torch.tensor(loss) if isinstance(rate, Tensor) else loss)
            seen.add(rates(scheduler)[0])
    finally:
        torch._dynamo.reset()
    assert scheduler.last_epoch == steps
    return counter.frame_count, len(seen)


def test_a_compiled_step_is_compiled_once_in_1000_steps():
    times, different = compilations(torch.tensor(0.1), steps=1000)
    assert times == 1
    assert different > 20


def test_a_float_rate_is_compiled_again():
    times, different = compilations(0.1, steps=100)
    assert times > 1
    assert different > 20


@pytest.mark.parametrize("part", [1.0, 0.5], ids=["the same rate", "half of it"])
def test_rates_that_a_checkpoint_made_numbers_become_tensors_again(part: float):
    scheduler, twin = scheduler_of(**QUICK), scheduler_of(**QUICK)
    losses = waves(60)
    for loss in losses[:25]:
        scheduler.step(loss)
        twin.step(loss)
    saved = copy.deepcopy(scheduler.optimizer.state_dict())
    for group, rate in zip(saved["param_groups"], rates(scheduler), strict=True):
        group["lr"] = part * rate
    scheduler.optimizer.load_state_dict(saved)
    assert all(isinstance(group["lr"], float) for group in scheduler.optimizer.param_groups)
    for loss in losses[25:]:
        scheduler.step(loss)
        twin.step(loss)
        assert all(
            isinstance(rate, Tensor) and rate.dtype == torch.float64
            for rate in scheduler.get_last_lr()
        )
        # What else changes a rate is kept as a factor, as in a chain.
        assert rates(scheduler) == [part * rate for rate in rates(twin)]
    assert len(set(scheduler.events)) > 3


@pytest.mark.parametrize(("fused", "steps"), [(True, 3), (False, 2)])
def test_a_step_that_a_fused_kernel_skips_is_counted(fused: bool, steps: int):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=torch.tensor(0.1), fused=fused)
    scheduler = GreedyLR(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    moved = []
    for size in (1.0, math.inf, 1.0):
        before = weight.detach().clone()
        weight.grad = None
        scaler.scale(size * weight.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step(torch.tensor(1.0))
        moved.append(not torch.equal(before, weight))
    assert moved == [True, False, True]
    assert scheduler.last_epoch == steps
