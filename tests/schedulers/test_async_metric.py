"""Python rates with losses on a device: one period late, and nothing else is different."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from tests.schedulers.device_watch import (
    QUICK,
    SETTINGS,
    rates,
    scheduler_of,
    through_a_file,
    waves,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import ratewise.schedulers.metric_lr as metric_lr
from ratewise import GreedyLR

# -- Python rates with losses on a device ---------------------------------------------------


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every tensor count as one on a device: what is sent arrives a period later."""
    monkeypatch.setattr(metric_lr, "is_far", lambda loss: isinstance(loss, Tensor))


every_late = pytest.mark.parametrize(
    "name", ["quick", "ramp", "schedule", "stages and resets", "nonfinite skipped"]
)
every_period = pytest.mark.parametrize("every", [1, 3])


def late_scheduler(name: str, every: int) -> GreedyLR:
    return scheduler_of(tensor=False, **{**SETTINGS[name], "decide_every": every})


def late_losses() -> list[Tensor]:
    losses = waves(45)
    losses[20] = losses[31] = torch.tensor(math.nan, dtype=torch.float64)
    return losses


def memory(scheduler: GreedyLR) -> str:
    return repr(scheduler.state_dict()["ratewise"]["rule"])


@every_late
@every_period
def test_decisions_are_exactly_one_period_late(far: None, name: str, every: int):
    late, prompt = late_scheduler(name, every), late_scheduler(name, every)
    then, now = [], []
    for loss in late_losses():
        then.append((memory(prompt), rates(prompt)))
        prompt.step(float(loss))
        late.step(loss)
        now.append((memory(late), rates(late)))
    # before the step that is `every - 1` back, that is after the one that is `every` back
    shifted = then[: len(then) - every + 1]
    assert [state for state, _ in now[every - 1 :]] == [state for state, _ in shifted]
    if name not in ("schedule", "ramp"):  # these two go on with the step, not with the decisions
        assert [rate for _, rate in now[every - 1 :]] == [rate for _, rate in shifted]
    assert len({state for state, _ in now}) > 8
    assert len({event.reason for event in late.events}) > 1


@every_late
@every_period
def test_a_late_run_resumes_to_the_bit_at_every_step(far: None, name: str, every: int):
    losses = late_losses()
    scheduler = late_scheduler(name, every)
    states, seen = [scheduler.state_dict()], []
    for loss in losses:
        scheduler.step(loss)
        states.append(scheduler.state_dict())
        seen.append(rates(scheduler))
    for stop in range(len(losses) + 1):
        fresh = late_scheduler(name, every)
        fresh.load_state_dict(through_a_file(states[stop]))
        assert repr(fresh.state_dict()) == repr(states[stop])
        for step in range(stop, len(losses)):
            fresh.step(losses[step])
            assert rates(fresh) == seen[step], (stop, step)
        assert repr(fresh.state_dict()) == repr(states[-1])


def test_what_is_under_way_is_part_of_the_state(far: None):
    scheduler = late_scheduler("quick", 1)
    assert scheduler.state_dict()["ratewise"]["late"] is None
    losses = late_losses()[:20]
    differ = 0
    for loss in losses:
        scheduler.step(loss)
        state = scheduler.state_dict()
        assert state["ratewise"]["late"] == [float(loss), 1.0]
        # without it the rest of the run is another one
        poorer = copy.deepcopy(state)
        poorer["ratewise"]["late"] = None
        ends = []
        for start in (state, poorer):
            fresh = late_scheduler("quick", 1)
            fresh.load_state_dict(start)
            ends.append([(fresh.step(later), rates(fresh))[1] for later in losses])
        differ += ends[0] != ends[1]
    assert differ


def test_observed_losses_are_late_too(far: None):
    stepped, observed = late_scheduler("quick", 3), late_scheduler("quick", 3)
    for loss in late_losses():
        stepped.step(loss)
        observed.observe(loss)
        observed.step()
        assert rates(stepped) == rates(observed)
    assert repr(stepped.state_dict()) == repr(observed.state_dict())


# -- loss tensors that are used again -------------------------------------------------------


def period_means(scheduler: GreedyLR, pairs: list[tuple[float, float]], dtype: torch.dtype) -> Any:
    """Step decide_every=2 with one tensor, overwritten in place; return the metrics decided on."""
    buffer = torch.zeros((), dtype=dtype)
    for pair in pairs:
        for value in pair:
            buffer.fill_(value)
            scheduler.step(buffer)
    return [metric for _, metric, _ in scheduler.trace]


PAIRS = [(1.0, 3.0), (5.0, 1.0), (2.0, 8.0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_that_is_overwritten_counts_as_it_was(dtype: torch.dtype):
    scheduler = scheduler_of(decide_every=2)
    assert period_means(scheduler, PAIRS, dtype) == [2.0, 3.0, 5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_so_it_does_where_it_arrives_late(far: None, dtype: torch.dtype):
    scheduler = scheduler_of(tensor=False, decide_every=2)
    assert period_means(scheduler, PAIRS, dtype) == [2.0, 3.0]


def test_late_losses_of_low_precision_are_summed_exactly(far: None):
    scheduler = scheduler_of(tensor=False, decide_every=300)
    for _ in range(600):
        scheduler.step(torch.tensor(2.5, dtype=torch.bfloat16))
    assert [metric for _, metric, _ in scheduler.trace] == [2.5]


# -- the user's own torch settings ----------------------------------------------------------


def test_a_default_device_moves_nothing():
    scheduler, twin = scheduler_of(**QUICK), scheduler_of(**QUICK)
    losses = waves(30)
    for loss in losses:
        twin.step(loss)
    scheduler.step(losses[0])
    with torch.device("meta"):
        for loss in losses[1:]:
            scheduler.step(loss)
    assert rates(scheduler) == rates(twin)


def test_a_default_device_does_not_take_what_is_under_way(far: None):
    scheduler = scheduler_of(tensor=False, **QUICK)
    losses = waves(30)
    with torch.device("meta"):
        for loss in losses:
            scheduler.step(loss)
    assert len(set(scheduler.events)) > 1


class FloatSums(TorchDispatchMode):
    """Counts cumulative sums of floats: in deterministic mode torch refuses them on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen += func.overloadpacket.__name__ == "cumsum" and args[0].is_floating_point()
        return func(*args, **(kwargs or {}))


def test_a_decision_is_deterministic_on_cuda_by_torch_s_own_list():
    scheduler = scheduler_of()
    with FloatSums() as sums:
        for loss in waves(3):
            scheduler.step(loss)
    assert sums.seen == 0


def test_a_float_cumsum_is_seen():
    with FloatSums() as sums:
        torch.ones(3).cumsum(0)
        torch.ones(3, dtype=torch.int64).cumsum(0)
    assert sums.seen == 1
