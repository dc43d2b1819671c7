"""On a GPU: nothing waits, a CUDA graph takes the schedule along, late losses are reproducible.

Graphs are tried on the CPU too, with a stand-in that records operations and replays them in the
memory they had, so that the tests' own code has run where there is no GPU.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ratewise import GreedyConfig, GreedyLR
from ratewise.errors import InvalidArgument
from ratewise.schedulers.async_metric import AsyncMetric

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])

QUICK: dict[str, Any] = {
    "factor": 0.5,
    "patience": 1,
    "window": 2,
    "config": GreedyConfig(reference="previous"),
}
RATE = 2.0**-6
WARM, REPLAYS = 3, 50


def dry(device: str, *, tensor: bool, **settings: Any) -> GreedyLR:
    """Return a scheduler whose optimizer trains nothing: every call of it is a step."""
    rate = torch.tensor(RATE, device=device) if tensor else RATE
    weight = torch.nn.Parameter(torch.zeros(1, device=device))
    return GreedyLR(torch.optim.SGD([weight], lr=rate), **{**QUICK, **settings})


def waves(count: int, device: str, every: int = 1) -> list[Tensor]:
    """Return float32 losses on `device` that fall and rise in 25 periods of `every`."""
    return list((2 + torch.cos(torch.arange(count) / (4 * every))).to(device).unbind())


def rates(scheduler: GreedyLR) -> list[float]:
    return [float(rate) for rate in scheduler.get_last_lr()]


@contextmanager
def no_waiting() -> Iterator[None]:
    """Make an operation that waits for the GPU an error. An event's own wait is none to torch."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


# -- nothing waits --------------------------------------------------------------------------


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Let nobody listen: where INFO is logged, events are read once in 100 steps."""
    caplog.set_level(logging.WARNING, logger="ratewise")


@needs_cuda
@pytest.mark.parametrize("tensor", [True, False], ids=["tensor rate", "float rate"])
@pytest.mark.parametrize("every", [1, 10])
def test_300_steps_wait_for_nothing(quiet: None, tensor: bool, every: int):
    scheduler = dry("cuda", tensor=tensor, decide_every=every)
    losses = waves(300, "cuda", every)
    with no_waiting():
        for loss in losses:
            scheduler.step(loss)
    assert scheduler.last_epoch == 300
    assert len({event.reason for event in scheduler.events}) > 1


@needs_cuda
@pytest.mark.parametrize("tensor", [True, False], ids=["tensor rate", "float rate"])
def test_a_training_step_with_capturable_adamw_waits_for_nothing(quiet: None, tensor: bool):
    loop = training("cuda", tensor=tensor)
    batches = data("cuda", 20)
    loop.run(batches[0])  # cuBLAS and the optimizer's state are made at the first step
    torch.cuda.synchronize()
    with no_waiting():
        for batch in batches[1:]:
            loop.run(batch)
    assert loop.scheduler.last_epoch == 20


@needs_cuda
def test_a_read_loss_is_an_error_there():
    loss = waves(1, "cuda")[0]
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        float(loss)
    assert torch.cuda.get_sync_debug_mode() == 0


@needs_cuda
def test_reading_the_state_is_an_error_there():
    scheduler = dry("cuda", tensor=True)
    scheduler.step(waves(1, "cuda")[0])
    with no_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        scheduler.state_dict()


# -- CUDA graphs ----------------------------------------------------------------------------


class Tape(TorchDispatchMode):
    """A CUDA graph on the CPU: records operations, runs none, replays them where they lay."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, ...]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags:
            raise RuntimeError(f"{func} during a capture")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_leaves(value):
                    self._before.setdefault(id(tensor), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self._calls.append((func, args, kwargs, result))
        return result

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        with torch.no_grad():
            for tensor, values in self._before.values():
                tensor.copy_(values)

    def replay(self) -> None:
        """Run the operations again, on the same memory."""
        with torch.no_grad():
            for func, args, kwargs, result in self._calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


Batch = tuple[Tensor, Tensor]


class Loop(NamedTuple):
    """A training step over buffers that stay where they are, as a CUDA graph needs them."""

    buffers: Batch
    step: Callable[[], Tensor]
    optimizer: torch.optim.Optimizer
    scheduler: GreedyLR

    def load(self, batch: Batch) -> None:
        """Put a batch into the buffers."""
        for buffer, values in zip(self.buffers, batch, strict=True):
            buffer.copy_(values)

    def run(self, batch: Batch) -> Tensor:
        """Train one step on a batch, outside any graph; return a copy of the loss."""
        self.load(batch)
        return self.step().clone()


def training(device: str, *, tensor: bool = True, **settings: Any) -> Loop:
    """Return a small regression with AdamW: capturable on a GPU, fused on the CPU.

    With tensor rates on a GPU the scheduler is there from its construction on, so that a capture
    finds all of its state in place; on the CPU the first warm-up step takes it there.
    """
    torch.manual_seed(0)
    cuda = device == "cuda"
    model = torch.nn.Linear(4, 1).to(device)
    rate = torch.tensor(RATE, device=device) if tensor else RATE
    kind: dict[str, Any] = {"capturable": True, "foreach": True} if cuda else {"fused": True}
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, **kind)
    scheduler = GreedyLR(optimizer, **{**QUICK, **settings})
    inputs, targets = torch.zeros(8, 4, device=device), torch.zeros(8, 1, device=device)

    def step() -> Tensor:
        # None, not zeros: a captured backward then writes the gradients afresh at each replay,
        # into memory of the graph's own, instead of adding to what lies there.
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        return loss.detach()  # no graph of autograd outlives the step

    return Loop((inputs, targets), step, optimizer, scheduler)


def data(device: str, count: int = WARM + REPLAYS) -> list[Batch]:
    """Return batches whose targets grow and shrink, and the loss with them."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for index in range(count):
        inputs = torch.randn(8, 4, generator=generator)
        size = 2 + torch.cos(torch.tensor(index / 4))
        targets = size * (3 + inputs.sum(1, keepdim=True))
        batches.append((inputs.to(device), targets.to(device)))
    return batches


@contextmanager
def side_stream(device: str) -> Iterator[None]:
    """Warm up as torch's recipe has it, so that nothing is made during the capture."""
    if device == "cpu":
        yield
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)


def capture(device: str, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record one step without running it; return its replay and where its loss will be."""
    if device == "cpu":
        tape = Tape()
        names = [
            f"ratewise.schedulers.{module}.capturing" for module in ("base", "greedy", "clock")
        ]
        with tape, mock.patch(names[0], return_value=True), mock.patch(names[1], return_value=True):
            loss = step()
        return tape.replay, loss
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    return graph.replay, loss


def captured(loop: Loop, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Train `WARM` steps, capture one, replay it over the rest; return losses and rates."""
    rate = loop.optimizer.param_groups[0]["lr"]
    batches, losses, seen = data(device), [], []
    with side_stream(device):
        for batch in batches[:WARM]:
            losses.append(loop.run(batch))
            seen.append(rate.clone())
    loop.optimizer.zero_grad(set_to_none=True)
    before = rate.clone()
    replay, loss = capture(device, loop.step)
    assert torch.equal(rate, before)
    assert loop.optimizer.param_groups[0]["lr"] is rate  # the graph writes to this very tensor
    for batch in batches[WARM:]:
        loop.load(batch)
        replay()
        losses.append(loss.clone())
        seen.append(rate.clone())
    return losses, seen


@devices
def test_a_captured_step_gives_the_rates_of_an_eager_one(device: str):
    loop = training(device)
    losses, seen = captured(loop, device)
    assert len(seen) == WARM + REPLAYS

    # Given equal losses: another scheduler on the device, and one on the CPU in Python floats.
    twin, floats = dry(device, tensor=True), dry("cpu", tensor=True)
    for loss, rate in zip(losses, seen, strict=True):
        twin.step(loss)
        floats.step(float(loss))
        assert rates(twin) == rates(floats) == [float(rate)]
    changes = [float(later - sooner) for sooner, later in pairwise(seen)]
    assert sum(change > 0 for change in changes) > 3
    assert sum(change < 0 for change in changes) > 3

    # The replays count as steps, and the events are those of an eager run.
    state, wanted = loop.scheduler.state_dict(), twin.state_dict()
    assert state["last_epoch"] == WARM + REPLAYS
    assert state["ratewise"]["rule"]["memory"] == wanted["ratewise"]["rule"]["memory"]
    assert loop.scheduler.events == twin.events


@devices
def test_weights_move_at_the_rate_that_a_replay_has_set(device: str):
    loop, fixed = training(device), training(device, patience=1000)
    losses, _ = captured(loop, device)
    others, _ = captured(fixed, device)
    assert torch.equal(losses[0], others[0])
    assert not torch.equal(losses[-1], others[-1])


@devices
def test_an_eager_step_goes_on_where_the_last_replay_ended(device: str):
    loop = training(device)
    losses, _ = captured(loop, device)
    losses.append(loop.run(data(device)[0]))
    twin = dry(device, tensor=True)
    for loss in losses:
        twin.step(loss)
    assert rates(loop.scheduler) == rates(twin)
    assert loop.scheduler.state_dict()["last_epoch"] == WARM + REPLAYS + 1


@devices
@pytest.mark.parametrize(
    "settings",
    [{"decide_every": 3}, {"warmup_steps": 10}, {"schedule": "cosine", "total_steps": 100}],
    ids=["decide_every", "ramp", "schedule"],
)
def test_what_counts_steps_in_python_is_refused_in_a_capture(device: str, settings: dict[str, Any]):
    with pytest.raises(InvalidArgument, match="in a CUDA graph a step must be like every other"):
        captured(training(device, **settings), device)


@devices
def test_a_ramp_that_is_over_is_no_hindrance_to_a_capture(device: str):
    loop = training(device, warmup_steps=2)
    losses, seen = captured(loop, device)
    twin = dry(device, tensor=True, warmup_steps=2)
    for loss, rate in zip(losses, seen, strict=True):
        twin.step(loss)
        assert rates(twin) == [float(rate)]


@devices
def test_the_trace_holds_no_point_that_never_was(device: str):
    loop = training(device)
    losses, _ = captured(loop, device)
    for step, metric, _ in loop.scheduler.trace:
        assert metric == float(losses[step - 1])


@devices
def test_explain_says_the_step_of_the_last_replay(device: str):
    loop = training(device)
    captured(loop, device)
    text = io.StringIO()
    loop.scheduler.explain(file=text)
    assert f"now, after step {WARM + REPLAYS}:" in text.getvalue()


def test_the_stand_in_refuses_to_read_and_runs_nothing():
    kept = torch.ones(2)
    with Tape() as tape:
        doubled = kept.mul_(2) + 1
    assert kept.tolist() == [1, 1]
    for total in (2, 4):
        tape.replay()
        assert kept.tolist() == [total] * 2
        assert doubled.tolist() == [total + 1] * 2
    with pytest.raises(RuntimeError, match="_local_scalar_dense"), Tape():
        float(kept[0])


# -- Python rates with losses on the device -------------------------------------------------


@needs_cuda
@pytest.mark.parametrize("every", [1, 3])
def test_a_float_rate_follows_exactly_one_period_late(every: int):
    late, prompt = (dry("cuda", tensor=False, decide_every=every) for _ in range(2))
    sooner, later = [], []
    for loss in waves(60, "cuda", every):
        sooner.append(rates(prompt))
        prompt.step(float(loss))
        late.step(loss)
        later.append(rates(late))
    assert later[every - 1 :] == sooner[: 60 - every + 1]
    assert len({rate for (rate,) in later}) > 3


@needs_cuda
@pytest.mark.parametrize("every", [1, 3])
def test_a_float_rate_resumes_to_the_bit_with_a_loss_under_way(every: int):
    losses = waves(60, "cuda", every)
    whole = dry("cuda", tensor=False, decide_every=every)
    states, seen = [whole.state_dict()], []
    for loss in losses:
        whole.step(loss)
        states.append(whole.state_dict())
        seen.append(rates(whole))
    assert states[30]["ratewise"]["late"] is not None
    for stop in range(0, 60, 7):
        fresh = dry("cuda", tensor=False, decide_every=every)
        fresh.load_state_dict(states[stop])
        for step in range(stop, 60):
            fresh.step(losses[step])
            assert rates(fresh) == seen[step], (stop, step)


@needs_cuda
def test_a_late_loss_is_waited_for_and_not_guessed():
    late = AsyncMetric()
    value = torch.full((), 7.0, device="cuda")
    torch.cuda._sleep(50_000_000)  # some hundredths of a second: the copy is behind it
    assert late.exchange(value.add_(1.0), 1) is None
    assert late.read() == (8.0, 1.0)


# -- two devices ----------------------------------------------------------------------------


@needs_two
def test_a_loss_on_another_gpu_than_the_rate_is_named():
    scheduler = dry("cuda:0", tensor=True)
    scheduler.step(torch.ones((), device="cuda:0"))
    before = scheduler.state_dict()
    with pytest.raises(InvalidArgument, match=r"rates' device, cuda:0.*a tensor on cuda:1"):
        scheduler.step(torch.ones((), device="cuda:1"))
    assert scheduler.state_dict() == before


@needs_two
def test_a_late_loss_of_a_gpu_that_is_not_the_current_one_is_waited_for():
    late = AsyncMetric()
    value = torch.full((), 7.0, device="cuda:1")
    with torch.cuda.device(1):
        torch.cuda._sleep(50_000_000)
        value.add_(1.0)
    with torch.cuda.device(0):
        assert late.exchange(value, 1) is None
        assert late.read() == (8.0, 1.0)
