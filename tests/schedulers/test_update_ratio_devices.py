"""UpdateRatioLR where reading would wait, and in few bits: nothing is read, everything moves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.schedulers.device_watch import Watch
from tests.schedulers.update_ratio_twin import BASE, Task, adamw, length, sgd
from torch import nn

from ratewise import UpdateRatioLR
from ratewise.errors import InvalidArgument
from ratewise.rules import update_ratio as rule

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MODES = ("tensor", "group", "model")
every_mode = pytest.mark.parametrize("per", MODES)
#: foreach takes no tensor rate, and a plain loop reads it: the optimizer's affair, not ours.
FUSED = {"fused": True}


@every_mode
def test_with_a_tensor_rate_a_step_reads_nothing_and_moves_nothing(
    per: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rule, "EARLY", 5)
    rate = torch.tensor(BASE)
    task = Task(lambda groups: adamw(groups, rate, **FUSED), dtype=torch.float32)
    task.optimizer.param_groups[1]["lr"] = rate / 2
    scheduler = UpdateRatioLR(task.optimizer, per=per, measure_every=3)
    task.run(scheduler, 1)
    for _ in range(20):
        task.backward()
        with Watch() as watch:
            task.optimizer.step()
        assert watch.seen == []
    assert all(scheduler.factors() > 0)


def test_what_reads_is_seen():
    task = Task(sgd, dtype=torch.float32)  # a Python rate on the CPU is lent factors, as numbers
    scheduler = UpdateRatioLR(task.optimizer)
    task.backward()
    with Watch() as watch:
        task.optimizer.step()
        scheduler.state_dict()
    assert "aten._local_scalar_dense.default" in watch.seen


@every_mode
@pytest.mark.parametrize("rate", ["float", "tensor"])
def test_where_there_is_no_memory_nothing_can_be_read(
    per: str, rate: str, monkeypatch: pytest.MonkeyPatch
):
    """On the meta device whatever needs a value raises: both kinds of rate, measured or not."""
    monkeypatch.setattr(rule, "EARLY", 2)
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    scheduler = UpdateRatioLR(optimizer, per=per, measure_every=3, total_steps=20)
    if rate == "tensor":
        optimizer.param_groups[0]["lr"] = torch.full((), 0.1, device="meta")
        # torch's own loop reads a tensor rate; here the step is nothing but its hooks
        monkeypatch.setattr(torch.optim.SGD, "step", lambda self: None)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for _ in range(8):
        if rate == "tensor":
            scheduler._control.before_step(False)
            scheduler._control.after_step()
        else:
            optimizer.step()
            scheduler.step()
    assert scheduler.factors().device.type == "meta"
    with pytest.raises((NotImplementedError, RuntimeError)):
        scheduler.state_dict()


@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
@pytest.mark.parametrize("rate", [1e-7, 1e-3, 1.0])
def test_bf16_weights_move_by_the_ratio_from_any_rate(rate: float, tensor: bool):
    """At 1e-7 they would not have moved at all: the rate is raised until they do."""
    lr: Any = torch.tensor(rate) if tensor else rate
    task = Task(lambda groups: sgd(groups, lr), dtype=torch.bfloat16)
    task.optimizer.param_groups[1]["lr"] = lr / 2
    scheduler = UpdateRatioLR(task.optimizer, ratio=0.02, measure_every=1)
    task.run(scheduler, 60)
    weights = [p for p in task.model.parameters() if p.ndim == 2]
    old = [p.detach().float().clone() for p in weights]
    task.run(scheduler, 1)
    for p, before in zip(weights, old, strict=True):
        moved = length(p.float() - before) / length(before)
        assert 0.004 < moved < 0.04 * 1.1, moved
    plain = Task(lambda groups: sgd(groups, 1e-7), dtype=torch.bfloat16)
    plain.optimizer.param_groups[1]["lr"] = 5e-8
    begin = plain.weights()
    for _ in range(10):
        plain.backward()
        plain.optimizer.step()
    assert torch.equal(plain.weights(), begin), "the control stands still"


def test_a_rate_is_raised_no_more_than_ten_thousandfold_where_gradients_are_zero():
    weight = nn.Parameter(torch.ones(4, 4))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scheduler = UpdateRatioLR(optimizer, ratio=0.01, start=1.0)
    for _ in range(20):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        scheduler.step()
    assert torch.equal(weight.detach(), torch.ones(4, 4))
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.99), rtol=1e-5, atol=0)


def test_mixed_precisions_in_one_model():
    weights = [
        nn.Parameter(torch.full((4, 4), 0.5, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16, torch.float64)
    ]
    optimizer = torch.optim.SGD(weights, lr=1.0)
    scheduler = UpdateRatioLR(optimizer, ratio=0.1, start=1.0)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    scheduler.step()
    for weight, exact in zip(weights, (1e-6, 1e-2, 1e-6), strict=True):
        assert float(weight.detach()[0, 0]) == pytest.approx(0.45, rel=exact)


def test_a_compiled_step_is_steered_and_compiled_once():
    import torch._dynamo
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    ends = []
    for compiled in (False, True):
        rate = torch.tensor(BASE)
        task = Task(lambda groups, rate=rate: adamw(groups, rate), dtype=torch.float32)
        task.optimizer.param_groups[1]["lr"] = rate / 2
        scheduler = UpdateRatioLR(task.optimizer, total_steps=20)
        plain = task.optimizer.step
        step = torch.compile(plain, backend=counter) if compiled else plain
        for _ in range(12):
            task.backward()
            step()
            scheduler.step()
        ends.append(task.weights())
    torch._dynamo.reset()
    assert counter.frame_count == 1
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-5)


def test_a_step_that_is_captured_is_refused(monkeypatch: pytest.MonkeyPatch):
    task = Task(sgd)
    scheduler = UpdateRatioLR(task.optimizer)
    task.backward()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(InvalidArgument, match="outside the captured graph"):
        task.optimizer.step()
    assert math.isclose(scheduler.get_last_lr()[0], BASE)


@needs_cuda
@every_mode
@pytest.mark.parametrize("tensor", [False, True], ids=["float rate", "tensor rate"])
def test_on_a_gpu_100_steps_wait_for_nothing(per: str, tensor: bool):
    weights = [nn.Parameter(torch.randn(64, 64, device="cuda")) for _ in range(3)]
    rate: Any = torch.tensor(1e-3, device="cuda") if tensor else 1e-3
    optimizer = torch.optim.AdamW(weights, lr=rate, capturable=tensor)
    scheduler = UpdateRatioLR(optimizer, per=per, total_steps=100)
    before = torch.cuda.get_sync_debug_mode()
    for step in range(100):
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        if step == 1:
            torch.cuda.set_sync_debug_mode("error")
        optimizer.step()
        scheduler.step()
    torch.cuda.set_sync_debug_mode(before)
    assert bool((scheduler.factors() > 0).all())
