"""A hypergradient step reads nothing from a device; on CUDA it makes the host wait for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.schedulers.device_watch import Watch, through_a_file
from torch import Tensor, nn

from ratewise.optimizers.hypergradient import HypergradientAdam, HypergradientSGD
from ratewise.optimizers.hypergradient_rate import PER

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
every_per = pytest.mark.parametrize("per", PER)
KINDS: list[tuple[Any, dict[str, Any]]] = [
    (HypergradientSGD, {}),
    (HypergradientSGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (HypergradientAdam, {"maximize": True, "form": "multiplicative"}),
]
both_kinds = pytest.mark.parametrize(("kind", "settings"), KINDS)


def steps(optimizer: Any, count: int = 3) -> None:
    for _ in range(count):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.ones_like(p)
        optimizer.step()


def two_groups(device: str, dtype: torch.dtype = torch.float32) -> list[dict[str, Any]]:
    shapes = [[(3, 2), (3,)], [(2,), ()]]
    return [
        {"params": [nn.Parameter(torch.zeros(s, device=device, dtype=dtype)) for s in group]}
        for group in shapes
    ]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("foreach", [None, False, True])
@every_per
@both_kinds
def test_a_step_reads_nothing(
    kind: Any, settings: dict[str, Any], per: str, foreach: bool | None, device: str
) -> None:
    """A meta tensor has no value: whatever is read of one raises."""
    optimizer = kind(two_groups(device), per=per, foreach=foreach, **settings)
    with Watch() as watch:
        steps(optimizer)
        rates = optimizer.rates()
    assert watch.seen == []
    assert {rate.device.type for rate in rates} == {device}


class Reading(HypergradientSGD):
    """Asks on the host whether its rate is positive."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        assert self.param_groups[0]["lr"] > 0
        return loss


def test_control_a_rate_that_is_read_is_seen() -> None:
    with Watch() as watch:
        steps(Reading(two_groups("cpu"), lr=0.1), 1)
    assert watch.seen
    with pytest.raises(RuntimeError, match="meta"):
        steps(Reading(two_groups("meta"), lr=0.1), 1)


@pytest.mark.parametrize("per", ["model", "group"])
def test_a_rate_is_where_its_parameters_are_and_moves_after_them(per: str) -> None:
    groups = two_groups("cpu")
    groups[1]["params"] = [nn.Parameter(p.detach().double()) for p in groups[1]["params"]]
    optimizer = HypergradientSGD(groups, lr=0.1, hyper_lr=0.01, per=per)
    steps(optimizer)
    # 9 and 3 weights, of ones: h is their number, in each of two steps.
    rates = [0.1 + 0.01 * 12 * 2] if per == "model" else [0.1 + 0.01 * 9 * 2, 0.1 + 0.01 * 3 * 2]
    assert [rate.item() for rate in optimizer.rates()] == pytest.approx(rates)
    for group in optimizer.param_groups:
        group["params"] = [nn.Parameter(p.detach().to("meta")) for p in group["params"]]
    assert {rate.device.type for rate in optimizer.rates()} == {"meta"}


# -- where there is a GPU -------------------------------------------------------------------------


@pytest.fixture
def no_waiting() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode(before)


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("foreach", [False, True])
@every_per
@both_kinds
def test_on_cuda_nothing_waits(
    no_waiting: None,
    kind: Any,
    settings: dict[str, Any],
    per: str,
    foreach: bool,
    dtype: torch.dtype,
) -> None:
    steps(kind(two_groups("cuda", dtype), per=per, foreach=foreach, **settings))


@needs_cuda
@pytest.mark.parametrize("foreach", [None, False])
@every_per
@both_kinds
def test_on_cuda_it_goes_as_on_the_cpu_and_resumes(
    kind: Any, settings: dict[str, Any], per: str, foreach: bool | None
) -> None:
    ends: dict[str, list[Tensor]] = {}
    for device in ("cpu", "cuda"):
        groups = two_groups(device, torch.float64)
        optimizer = kind(groups, per=per, foreach=foreach, lr=0.1, **settings)
        steps(optimizer)
        resumed = kind(groups, per=per, foreach=foreach, lr=0.2, **settings)
        resumed.load_state_dict(through_a_file(optimizer.state_dict()))
        steps(resumed)
        weights = [p.detach().cpu() for group in groups for p in group["params"]]
        ends[device] = [*weights, *(rate.cpu() for rate in resumed.rates())]
    torch.testing.assert_close(ends["cuda"], ends["cpu"], rtol=1e-9, atol=1e-12)


@needs_cuda
@pytest.mark.parametrize("per", ["model", "group"])
@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_parameters_on_two_devices_share_one_rate(first: str, per: str) -> None:
    other = {"cpu": "cuda", "cuda": "cpu"}[first]
    params = [nn.Parameter(torch.zeros(3, device=device)) for device in (first, other)]
    optimizer = HypergradientSGD(params, lr=0.1, hyper_lr=0.01, per=per)
    steps(optimizer)
    assert optimizer.rates()[0].item() == pytest.approx(0.1 + 0.01 * 6 * 2)
    assert params[0].tolist() == pytest.approx(params[1].tolist())
