"""How displacements are applied: numbers do what tensors do, to the bit."""

from __future__ import annotations

import pytest
import torch
from tests.schedulers.update_ratio_twin import Task, adamw
from torch import Tensor, nn

from ratewise import UpdateRatioLR
from ratewise.rules import update_ratio as rule
from ratewise.schedulers.displacement import Displacement
from ratewise.schedulers.shards import local

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def trained(dtype: torch.dtype) -> Tensor:
    task = Task(adamw, dtype=dtype)
    task.run(UpdateRatioLR(task.optimizer, ratio=0.02, total_steps=70), 70)
    return task.weights()


@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_as_numbers_are_those_as_tensors(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    ours = trained(dtype)
    for times, same in ((1.0, True), (1.5, False)):  # the second is the negative control

        def by_tensors(
            self: Displacement, rest: Tensor, now: list[Tensor], times: float = times
        ) -> None:
            for index, old, new in zip(self._active, self._copies, now, strict=True):
                torch.lerp(old, new, times * rest.to(new.dtype)[index], out=new)

        monkeypatch.setattr(Displacement, "_apply", by_tensors)
        assert torch.equal(ours, trained(dtype)) == same


def test_the_typical_weight_is_measured_once_and_a_resumed_run_has_it(
    monkeypatch: pytest.MonkeyPatch,
):
    calls = []
    plain = rule.typical_rms
    monkeypatch.setattr(
        rule, "typical_rms", lambda *x, **more: calls.append(1) or plain(*x, **more)
    )
    task = Task(adamw)
    scheduler = task.run(UpdateRatioLR(task.optimizer), 5)
    assert len(calls) == 1
    other = UpdateRatioLR(task.optimizer)
    other.load_state_dict(scheduler.state_dict())
    task.run(other, 5)
    assert len(calls) == 1
    fresh = UpdateRatioLR(Task(adamw).optimizer)
    early = UpdateRatioLR(Task(adamw).optimizer)
    early.load_state_dict(fresh.state_dict())  # of before the first step: nothing is known there
    assert not early._control.displacement._typical_known


def test_the_local_part_shares_memory_and_takes_no_part_in_gradients():
    weight = nn.Parameter(torch.ones(2))
    part = local(weight)
    assert not part.requires_grad
    part.zero_()
    assert weight.tolist() == [0.0, 0.0]
