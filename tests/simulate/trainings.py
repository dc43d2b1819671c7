"""Small tasks, every optimizer of the allow-list, and the ordinary loop that a run must equal."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn, optim

from ratewise.models.attention import Block, explicit
from ratewise.simulate import Task

SIZE, BATCH = 24, 6

_of = functools.partial
#: name -> what builds it; every option that changes the step's arithmetic.
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": _of(optim.SGD),
    "sgd momentum dampened": _of(optim.SGD, momentum=0.8, dampening=0.3),
    "sgd nesterov decayed": _of(optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": _of(optim.Adam),
    "adam amsgrad decayed": _of(optim.Adam, amsgrad=True, weight_decay=1e-2, betas=(0.8, 0.95)),
    "adam fused": _of(optim.Adam, fused=True),
    "adamw": _of(optim.AdamW, weight_decay=0.1),
    "adamw amsgrad": _of(optim.AdamW, amsgrad=True, foreach=True),
    "adagrad": _of(optim.Adagrad),
    "adagrad lr_decay": _of(
        optim.Adagrad, lr_decay=0.05, weight_decay=1e-2, initial_accumulator_value=0.1
    ),
    "rmsprop": _of(optim.RMSprop, weight_decay=1e-2),
    "rmsprop centered momentum": _of(optim.RMSprop, centered=True, momentum=0.9),
    "nadam": _of(optim.NAdam),
    "nadam decoupled": _of(optim.NAdam, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": _of(optim.RAdam),
    "radam decoupled": _of(optim.RAdam, weight_decay=0.03, decoupled_weight_decay=True),
    "adamax": _of(optim.Adamax, weight_decay=1e-2),
    "adadelta": _of(optim.Adadelta, rho=0.95, weight_decay=1e-2),
}


def squared(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(output, target)


def crossed(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, target)


@functools.cache
def regression() -> Task:
    """A perceptron on 24 rows of four numbers: 37 parameters, four batches an epoch."""
    draw = torch.Generator().manual_seed(11)
    x = torch.randn(SIZE, 4, generator=draw)
    y = torch.sin(x[:, :1] + x[:, 1:2] * x[:, 2:3]) + 0.1 * torch.randn(SIZE, 1, generator=draw)

    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))

    return Task("test-regression", model, squared, (x, y), BATCH)


@functools.cache
def images() -> Task:
    """A convolution with group norm on images of 6 x 6, three classes."""
    draw = torch.Generator().manual_seed(12)
    x = torch.randn(SIZE, 1, 6, 6, generator=draw)
    y = torch.randint(3, (SIZE,), generator=draw)

    def model() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.GroupNorm(2, 4),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3),
            nn.Flatten(),
            nn.Linear(4, 3),
        )

    return Task("test-images", model, crossed, (x, y), BATCH)


class Reader(nn.Module):
    """An embedding, learned positions, one attention block, and a head that shares no weight."""

    def __init__(self, codes: int = 7, length: int = 5, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(codes, width)
        self.position = nn.Parameter(0.1 * torch.randn(length, width))
        self.block = Block(width, 2, 2, causal=True, attend=explicit)
        self.head = nn.Linear(width, 3)

    def forward(self, codes: Tensor) -> Tensor:
        return self.head(self.block(self.embed(codes) + self.position).mean(1))


@functools.cache
def sentences() -> Task:
    """Rows of five codes into three classes."""
    draw = torch.Generator().manual_seed(13)
    x = torch.randint(7, (SIZE, 5), generator=draw)
    return Task("test-sentences", Reader, crossed, (x, x.sum(1) % 3), BATCH)


class Point(nn.Module):
    """f(x) = sum_i 2^-i x_i^2 / 2 of eight coordinates: the parameters are all there is."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.randn(8))
        self.register_buffer("curvature", 2.0 ** -torch.arange(8.0))

    def forward(self) -> Tensor:
        return 0.5 * (self.curvature * self.x.square()).sum()


@functools.cache
def bowl() -> Task:
    """A quadratic, without data: SGD diverges at a rate above 2."""
    return Task("test-bowl", Point, lambda value: value)


class Alone(NamedTuple):
    """What an ordinary training showed, up to its first loss that was not finite."""

    loss: np.ndarray  #: [steps] NaN from the divergence on
    grad_norm: np.ndarray  #: [steps]
    update_ratio: np.ndarray  #: [steps]
    lr: np.ndarray  #: [steps]
    diverged_at: int
    final: float  #: loss on the first 256 rows


def ordinary(
    task: Task,
    build: Callable[..., optim.Optimizer],
    seed: int,
    steps: int,
    *,
    lr: Any = None,
    schedule: Callable[[optim.Optimizer], Callable[[float], object]] | None = None,
    dtype: torch.dtype = torch.float64,
    nudge: int | None = None,
    norms: bool = True,
) -> Alone:
    """Train as one does: a module, an optimizer, a loop.

    Args:
        task: what is trained.
        build: makes the optimizer.
        seed: of the weights and of the data's order.
        steps: how many.
        lr: the rate, or the rate of each step.
        schedule: takes the optimizer, and returns what is called with each step's loss and sets
            the next rate; `lr` is then the base rate.
        dtype: of everything.
        nudge: a seed; at each step the last bit of each weight, each module's output and each
            gradient is changed, up or down as drawn from it: the least that rounding may do.
        norms: measure gradients and updates too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = task.model().to(dtype)
    parameters = list(model.parameters())
    shift = _shift(nudge, dtype) if nudge is not None else None
    for part in model.modules() if shift else ():
        if not any(part.children()):
            part.register_forward_hook(lambda module, given, output: shift(output))
    data = [x.to(dtype) if x.is_floating_point() else x for x in task.data_for(seed)]
    rates = [lr] * steps if isinstance(lr, float) else lr
    optimizer = build(parameters, lr=float(rates[0]))
    decide = schedule(optimizer) if schedule else None
    order = _order(seed, len(data[0]), task.batch_size) if data else None
    shown: list[tuple[float, ...]] = []
    diverged = 0
    for step in range(steps):
        if decide is None:
            optimizer.param_groups[0]["lr"] = float(rates[step])
        rows = next(order) if order else None
        batch = [part[rows] for part in data]
        for p in parameters if shift else ():
            shift(p)
        optimizer.zero_grad()
        loss = task.loss(model(*batch[:1]), *batch[1:])
        loss.backward()
        for p in parameters if shift else ():
            shift(p.grad)
        value = loss.item()
        if not math.isfinite(value):
            diverged = step + 1
            break
        before = [p.detach().clone() for p in parameters] if norms else []
        optimizer.step()
        gradient = _norm(p.grad for p in parameters) if norms else 0.0
        moved = _norm(p.detach() - b for p, b in zip(parameters, before, strict=False))
        rate = float(optimizer.param_groups[0]["lr"])
        shown.append((value, gradient, moved / _norm(before) if norms else 0.0, rate))
        if decide is not None:
            decide(value)
    rest = [(math.nan,) * 4] * (steps - len(shown))
    histories = np.array(shown + rest).T
    with torch.no_grad():
        final = task.loss(model(*data[:1]), *data[1:]).item()
    return Alone(*histories, diverged, final)


def _shift(seed: int, dtype: torch.dtype) -> Callable[[Tensor], None]:
    """Return what changes the last bit of each number of a tensor, up or down, under autograd.

    A layer's backward reads what its forward left (1 - tanh² of a tanh near one loses every digit),
    so the number is changed where it lies. Zero and one stay: a tanh that is saturated is one on
    every kernel, and its gradient zero.
    """
    draw = torch.Generator().manual_seed(seed)
    signs = 2 * torch.randint(2, (4096,), generator=draw).to(dtype) - 1
    factors, at = 1 + torch.finfo(dtype).eps * signs, 0

    def shift(x: Tensor) -> None:
        nonlocal at
        if at + x.numel() > len(factors):
            at %= 61  # another part of the pool
        factor = factors[at : at + x.numel()].view(x.shape)
        x.data.mul_(factor.where(x.abs() != 1, factor.new_ones(())))
        at += x.numel()

    return shift


def _order(seed: int, size: int, batch_size: int) -> Any:
    """Yield shuffled epochs of whole batches."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randperm(size, generator=draw)
        for start in range(0, size - batch_size + 1, batch_size):
            yield rows[start : start + batch_size]


def _norm(tensors: Any) -> float:
    return math.sqrt(sum(float(x.detach().double().square().sum()) for x in tensors))


def off(ours: Any, theirs: Any) -> float:
    """The largest relative difference of two arrays, where both are numbers."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    with np.errstate(all="ignore"):
        apart = np.abs(ours - theirs) / np.abs(theirs)
    apart = apart[np.isfinite(apart)]
    return float(apart.max(initial=0.0))
