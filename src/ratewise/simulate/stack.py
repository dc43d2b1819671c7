"""Many runs on one stacked tensor: their forward in one call, one optimizer's step for all.

All parameters of all runs are one tensor [runs, parameters], the optimizer's only one; a run's
weights are views of its row. The forward is `torch.func.vmap` of one run's, the backward plain
autograd of the losses' sum: a run's gradient does not depend on the others, whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _NormBase

from ratewise.errors import invalid
from ratewise.simulate import optimizers
from ratewise.simulate.task import Data, Task


class Movement(NamedTuple):
    """How far a step went, one entry a run."""

    grad_norm: Tensor  #: [runs] |g|
    update_ratio: Tensor  #: [runs] |p_new - p_old| / |p_old|


class Tensors(NamedTuple):
    """What a step that is about to be made shows of each tensor, [tensors, runs] unless noted."""

    sizes: Tensor  #: [tensors, 1] numbers of elements
    matrices: Tensor  #: [tensors, 1] whether there are two dimensions or more
    before: Tensor  #: |p_i|
    moved: Tensor  #: |d_i|, of the step d at lr = 1
    gradient: Tensor  #: |g_i|
    along: Tensor  #: <g_i, d_i>
    #: [1, runs] cosine between -g and the last step's whole displacement; 0 where it is not kept
    again: Tensor


#: From a function that measures the step, the factor of each tensor's displacement at lr = 1,
#: [tensors, runs].
Steer = Callable[[Callable[[], Tensors]], Tensor]


class Stack:
    """Runs that share an architecture; `losses`, `backward`, `step` make one optimizer step.

    Args:
        task: what is trained.
        optimizer: a name, a class or a function, as `optimizers.build` takes it.
        seeds: one a run, of its initial weights.
        device: where the stack lies.
        dtype: its floating-point type.
        compile: pass the forward through `torch.compile`.

    Raises:
        InvalidArgument: the model keeps running statistics, has no parameters or frozen ones, or
            its buffers differ from run to run.
    """

    def __init__(
        self,
        task: Task,
        optimizer: optimizers.Choice,
        seeds: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
    ) -> None:
        self.runs = len(seeds)
        self.model, rows = _draw(task, seeds)
        self.model.to(device=device, dtype=dtype)
        self.flat = rows.to(device=device, dtype=dtype).requires_grad_()
        self.optimizer = optimizers.build(optimizer, self.flat)
        self._gradient = torch.zeros_like(self.flat.detach())
        self._before = torch.empty_like(self._gradient)
        self._ones = self._gradient.new_ones(self.runs)
        self._last: Tensor | None = None  # the last displacement, if it is kept
        shapes = [parameter.shape for parameter in self.model.parameters()]
        self._sizes, self.tensors = [shape.numel() for shape in shapes], len(shapes)
        elements = torch.tensor(self._sizes, dtype=torch.float64)[:, None]
        matrices = torch.tensor([[len(shape) > 1] for shape in shapes])
        self._known = elements.to(self.flat.device), matrices.to(self.flat.device)
        if self.runs == 1:
            self._bind()
            self._forward = _alone(task, self.model)
        else:
            self._forward = vmap(_one(task, self.model), randomness="different")
            self._forward = torch.compile(self._forward) if compile else self._forward

    def losses(self, batch: Data) -> Tensor:
        """Return the loss of each run on its own batch, [runs], with its graph.

        Args:
            batch: (inputs, *targets), each [runs, batch_size, ...].
        """
        return self._forward(self.flat, *batch)

    def backward(self, losses: Tensor) -> Tensor:
        """Return the gradient of every run, [runs, parameters]; it may be changed in place."""
        if self.runs == 1:  # the module's own parameters accumulate into the row
            self._gradient.zero_()
            losses.backward(self._ones)
        else:
            (self._gradient,) = torch.autograd.grad(losses, self.flat, self._ones)
        self.flat.grad = self._gradient
        return self._gradient

    @torch.no_grad()
    def step(self, lr: Tensor, steer: Steer | None = None, keep: bool = False) -> Movement:
        """Move every run one optimizer step at its own rate, and return how far it went.

        Args:
            lr: [runs].
            steer: gives the tensors' own factors, which take the rates' place.
            keep: the displacement, for the next step's `again`.
        """
        norm, gradient = torch.linalg.vector_norm, self._gradient
        flat, before = self.flat.detach(), self._before
        before.copy_(flat)
        if steer is None and self.runs == 1 and flat.device.type == "cpu":
            self.optimizer.param_groups[0]["lr"] = float(lr)  # an ordinary loop has less to do
            self.optimizer.step()
            ratio = norm(flat - before, dim=1) / norm(before, dim=1)
            return Movement(norm(gradient, dim=1), ratio)
        self.optimizer.step()
        flat.sub_(before)  # each run's own part of the way
        if steer is None:
            flat.mul_(lr.to(flat.dtype)[:, None])
        else:
            factors = steer(self._measure).to(flat.dtype)
            for piece, factor in zip(self._split(flat), factors, strict=True):
                piece.mul_(factor[:, None])
        if keep:
            self._last = flat.clone() if self._last is None else self._last.copy_(flat)
        ratio = norm(flat, dim=1) / norm(before, dim=1)
        flat.add_(before)
        return Movement(norm(gradient, dim=1), ratio)

    def _measure(self) -> Tensors:
        """Return what the step shows while `flat` holds its displacement."""
        moved, gradient = self.flat.detach(), self._gradient
        pairs = zip(self._split(moved), self._split(gradient), strict=True)
        along = torch.stack([torch.linalg.vecdot(d, g) for d, g in pairs]).double()
        before, lengths, slopes = map(self._norms, (self._before, moved, gradient))
        return Tensors(*self._known, before, lengths, slopes, along, self._again()[None])

    def _again(self) -> Tensor:
        """Return the cosine between -g and the last displacement, [runs], float64."""
        if self._last is None:
            return torch.zeros(self.runs, dtype=torch.float64, device=self.flat.device)
        norm, gradient = torch.linalg.vector_norm, self._gradient
        lengths = norm(gradient, dim=1).double() * norm(self._last, dim=1).double()
        along = torch.linalg.vecdot(gradient, self._last).double()
        return torch.where(lengths > 0, -along / lengths, 0.0)

    def _norms(self, whole: Tensor) -> Tensor:
        """Return each tensor's norm in each run, [tensors, runs], float64."""
        norms = [torch.linalg.vector_norm(piece, dim=1) for piece in self._split(whole)]
        return torch.stack(norms).double()

    def _split(self, whole: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of [runs, parameters], each [runs, elements]."""
        return whole.split(self._sizes, dim=1)

    @torch.no_grad()
    def evaluate(self, batch: Data) -> Tensor:
        """Return the loss of each run on a batch of its own, [runs]: no graph, no dropout."""
        training = self.model.training
        self.model.eval()
        try:
            return self.losses(batch)
        finally:
            self.model.train(training)

    def _bind(self) -> None:
        """Make the module's parameters and their gradients views of the only row."""
        weights, gradients = self.flat.detach()[0], self._gradient[0]
        sizes = [parameter.numel() for parameter in self.model.parameters()]
        pieces = zip(weights.split(sizes), gradients.split(sizes), strict=True)
        for parameter, (weight, gradient) in zip(self.model.parameters(), pieces, strict=True):
            parameter.data = weight.view(parameter.shape)
            parameter.grad = gradient.view(parameter.shape)


# Functions, not methods: a stack that referred to itself would outlive its last use.
def _one(task: Task, model: nn.Module) -> Callable[..., Tensor]:
    """Return a function of one run's row of the stack, and its batch, that gives its loss."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def loss(row: Tensor, *batch: Tensor) -> Tensor:
        pieces = zip(shapes.items(), row.split(sizes), strict=True)
        weights = {name: piece.view(shape) for (name, shape), piece in pieces}
        return task.loss(functional_call(model, weights, batch[:1]), *batch[1:])

    return loss


def _alone(task: Task, model: nn.Module) -> Callable[..., Tensor]:
    """Return a function that gives the loss of the only run, [1]: no vmap, no copies."""

    def loss(flat: Tensor, *batch: Tensor) -> Tensor:
        own = [part[0] for part in batch]
        return task.loss(model(*own[:1]), *own[1:])[None]

    return loss


def _draw(task: Task, seeds: Sequence[int]) -> tuple[nn.Module, Tensor]:
    """Return a module, and the initial weights of every run, [runs, parameters]."""
    with torch.random.fork_rng(devices=[]):
        for run, seed in enumerate(seeds):
            # not torch.manual_seed: it queues a call for every kind of device, each time
            torch.default_generator.manual_seed(seed)
            drawn = task.model()
            if run == 0:
                model, constants = drawn, dict(drawn.named_buffers())
                _check(model)
            elif any(not torch.equal(b, constants[k]) for k, b in drawn.named_buffers()):
                fix = "make what is random a parameter, or draw it under a fixed seed"
                raise invalid("model", "one whose buffers are equal in all runs", task.name, fix)
            row = torch.cat([p.detach().reshape(-1) for p in drawn.parameters()])
            if run == 0:
                rows = row.new_empty(len(seeds), len(row))
            rows[run] = row
    return model, rows


def _check(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            allowed = "without running statistics, which runs cannot share"
            raise invalid("model", allowed, type(module).__name__, "use nn.GroupNorm")
    if not any(True for _ in model.parameters()):
        raise invalid("model", "a module with parameters", type(model).__name__, "give it some")
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            fix = f"make {name!r} a buffer"
            raise invalid("model", "one whose parameters are all trained", "a frozen one", fix)


def measured(loss: Any) -> bool:
    """Return whether one run's loss is what it must be: a floating-point scalar."""
    return isinstance(loss, Tensor) and loss.ndim == 0 and loss.is_floating_point()
