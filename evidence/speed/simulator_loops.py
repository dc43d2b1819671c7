"""What is timed of the simulator: the ordinary loop, the stack, and what a step demands."""

from __future__ import annotations

import gc
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.flop_counter import FlopCounterMode

import ratewise
from ratewise.models.attention import Block, fused, mix
from ratewise.models.recurrent import GRU
from ratewise.models.sequence import AttentionNet
from ratewise.simulate import arguments, memory, runner
from ratewise.simulate.order import DataOrder
from ratewise.simulate.task import Data, Task

SIZES = (1, 4, 16, 64, 256, 1024, 4096)
LR = 1e-3
#: Steps of a simulated run, as long as those of the robustness study; then a new one begins.
HORIZON = 200
#: Seconds that a cell's pairs may take, from the third on.
PATIENCE = 6.0
#: Optimizer steps between two readings of the clock where a device is sent them ahead of time.
BLOCK = 20
#: Bytes of a float32, and how many of them each parameter moves at least: read by the forward
#: and by the backward, the gradient written and read, weight and two averages read and written.
FLOAT, TOUCHED = 4, 10
#: A step reads its batch once, and what the forward keeps is written and read.
KEPT = 2


class Case(NamedTuple):
    """What is measured: a family under a rule, its task called as the table calls it."""

    task: Task
    rule: str = "constant"


class Options(NamedTuple):
    """How it is measured."""

    device: torch.device
    seconds: float
    repeats: int
    most: int = SIZES[-1]
    budget: int = memory.DEFAULT_BUDGET
    quick: bool = False
    clock: Callable[[], float] = time.perf_counter


class Contender(Protocol):
    """What is timed: one step of all its runs at a time."""

    runs: int
    shuffle: float  #: seconds a run and step that are to be added to what is timed

    def ready(self) -> int:
        """Return how many steps may be timed in a row; what this takes is not timed."""

    def step(self) -> None:
        """Make one optimizer step of every run."""


def synchronize(device: torch.device) -> None:
    """Wait for what a device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class TorchGRU(nn.GRU):
    """torch's own GRU, where the family has one from elementary operations."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Vectors [n, length, inputs] to states [n, length, width]."""
        return super().forward(x)[0]


class FusedAttentionNet(AttentionNet):
    """The attention family's model with torch's own kernel."""

    def forward(self, x: Tensor) -> Tensor:
        """Sequences to logits [n, outputs]."""
        x = self.embed(x) + self.position
        mixed = mix(self.qkv(self.norm(x)), self.heads, fused, causal=False)
        return self.head((x + self.out(mixed)).mean(1))


def models(task: Task) -> dict[str, Callable[[], nn.Module]]:
    """Return the ways of writing a task's model, which differ in nothing but their speed."""

    def with_torch() -> nn.Module:
        model = task.model()
        if type(model) is AttentionNet:
            model.__class__ = FusedAttentionNet
        for module in list(model.modules()):
            if isinstance(module, Block):
                module.attend = fused
            for name, child in list(module.named_children()):
                if isinstance(child, GRU):
                    three, inputs = child.weight_ih_l0.shape
                    setattr(module, name, TorchGRU(inputs, three // 3, batch_first=True))
        return model

    found: dict[str, Callable[[], nn.Module]] = {"the family's": task.model}
    kinds = {type(module) for module in task.model().modules()}
    if GRU in kinds:
        found["nn.GRU"] = with_torch
    elif kinds & {Block, AttentionNet}:
        found["fused attention"] = with_torch
    return found


class Loop:
    """One run, as one writes it: batches by index, forward, backward, the rate set, a step.

    Args:
        task: what is trained.
        model: its module.
        rule: "greedy" is `ratewise.GreedyLR`, stepped each iteration; otherwise the rate is set.
        lr: the rate.
        device: where it is trained.
        fused: AdamW's own option, which the stack does not use.
        records: note what the simulator does, gradient norm and relative update among it.
    """

    runs, shuffle = 1, 0.0

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        rule: str,
        lr: float,
        device: torch.device,
        *,
        fused: bool = False,
        records: bool = False,
    ) -> None:
        self._task, self._model, self._lr = task, model.to(device), lr
        self._parameters = list(model.parameters())
        self._optimizer = AdamW(self._parameters, lr=lr, fused=fused or None)
        self._scheduler = ratewise.GreedyLR(self._optimizer) if rule == "greedy" else None
        self._batches = batches(tuple(part.to(device) for part in task.data_for(0)), task)
        self._block = 1 if device.type == "cpu" else BLOCK
        self._records = records
        self.history: deque[object] = deque(maxlen=1000)

    def ready(self) -> int:
        """Return how many steps are timed in a row."""
        return self._block

    def step(self) -> None:
        """Make one optimizer step."""
        batch = next(self._batches)
        self._optimizer.zero_grad()
        loss = self._task.loss(self._model(*batch[:1]), *batch[1:])
        loss.backward()
        if self._scheduler is None:
            for group in self._optimizer.param_groups:
                group["lr"] = self._lr
        if self._records:
            self._recorded_step(loss)
            return
        self._optimizer.step()
        if self._scheduler is None:
            self.history.append(loss.detach())
        else:
            self.history.append(value := loss.item())
            self._scheduler.step(value)

    @torch.no_grad()
    def _recorded_step(self, loss: Tensor) -> None:
        before = [p.clone() for p in self._parameters]
        self._optimizer.step()
        moved = [p - old for p, old in zip(self._parameters, before, strict=True)]
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        update = _norm(moved) / _norm(before)
        self.history.append((loss.detach(), self._lr, _norm(gradients), update))


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def batches(data: Data, task: Task) -> Iterator[Data]:
    """Yield batches for ever, in shuffled epochs."""
    while not data:
        yield ()
    size, batch = len(data[0]), task.batch_size
    while True:
        order = torch.randperm(size)
        for start in range(0, size - batch + 1, batch):
            rows = order[start : start + batch].to(data[0].device)
            yield tuple(part[rows] for part in data)


def request(case: Case, runs: int, options: Options) -> arguments.Request:
    """Return what `simulate.run` would be asked for."""
    return arguments.check(
        case.task,
        "adamw",
        case.rule,
        runs=runs,
        steps=HORIZON,
        lr=LR,
        noise=None,
        seed=0,
        device=options.device,
        dtype=torch.float32,
        every=1,
        memory=options.budget,
        compile=False,
    )


def drawn_once(task: Task) -> Task:
    """Return the task with one draw of weights and data for all runs: quick to set up."""
    model, data = task.model(), task.data_for(0)
    own = (lambda seed: data) if callable(task.data) else data
    return replace(task, model=lambda: model, data=own, evaluation=1)


class Simulated:
    """A stack of N runs amid their training; a new one where their steps are made.

    Epochs are shuffled for all runs in the same step. That step is not timed, since at large N
    a measurement is shorter than an epoch; its share of every step is `shuffle`.
    """

    def __init__(self, case: Case, runs: int, options: Options) -> None:
        self.runs, self.shuffle = runs, 0.0
        task = drawn_once(case.task)
        self._request = request(case._replace(task=task), runs, options)
        self._device = options.device
        data = task.data_for(0)
        self._batches = len(data[0]) // task.batch_size if data else 0
        if self._batches > 1:
            taken = []
            for _ in range(3):
                order = DataOrder(range(64), len(data[0]), task.batch_size)
                start = time.perf_counter()
                order.next()
                taken.append(time.perf_counter() - start)
            self.shuffle = min(taken) / (64 * self._batches)
        self._begin()

    def _begin(self) -> None:
        self._training = runner.Training(self._request, range(self.runs))
        self.step()  # it makes the optimizer's state

    def ready(self) -> int:
        """Return how many steps there are before the next epoch or the end, at most a block."""
        while True:
            made = self._training.steps
            if made == HORIZON:
                self._begin()
            elif self._batches > 1 and made % self._batches == 0:
                self.step()
            else:
                break
        synchronize(self._device)
        left = HORIZON - made
        if self._batches > 1:
            left = min(left, self._batches - made % self._batches)
        return 1 if self._device.type == "cpu" else min(left, BLOCK)

    def step(self) -> None:
        """Make one optimizer step of every run."""
        self._training.step()


def burst(contender: Contender, options: Options) -> float:
    """Return run-steps a second, over at least one step."""
    spent, made = 0.0, 0
    gc.disable()
    try:
        while spent < options.seconds or not made:
            count = contender.ready()
            start = options.clock()
            for _ in range(count):
                contender.step()
            synchronize(options.device)
            spent += options.clock() - start
            made += count
    finally:
        gc.enable()
    return 1.0 / (spent / (made * contender.runs) + contender.shuffle)


def pairs(loop: Contender, stack: Contender, options: Options) -> list[tuple[float, float]]:
    """Return run-steps a second of the loop and of the stack after it, pair after pair."""
    found: list[tuple[float, float]] = []
    begin = options.clock()
    while len(found) < options.repeats:
        if len(found) >= 3 and options.clock() - begin > PATIENCE:
            break
        found.append((burst(loop, options), burst(stack, options)))
    return found


def demands(task: Task) -> tuple[float, float]:
    """Return about how many bytes one step of one run moves at least, and its operations.

    Operations are those of products and convolutions, forward and backward.
    """
    model, batch = task.model(), next(batches(task.data_for(0), task))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task.loss(model(*batch[:1]), *batch[1:])
        loss.backward()
    parameters = sum(p.numel() for p in model.parameters())
    traffic = FLOAT * TOUCHED * parameters + KEPT * sum(kept.values())
    return traffic + sum(part.nbytes for part in batch), float(counter.get_total_flops())


def rates(device: torch.device, quick: bool) -> tuple[float, float]:
    """Return a device's bytes a second in a big copy and operations a second in a big product."""
    large = device.type == "cuda"
    count = 1 << (20 if quick else 29 if large else 26)
    side = 64 if quick else 8192 if large else 1024
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    left, right = (torch.randn(side, side, device=device) for _ in range(2))
    copy = _seconds(lambda: target.copy_(source), device)
    product = _seconds(lambda: torch.mm(left, right), device)
    return 2 * source.nbytes / copy, 2 * side**3 / product


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
