"""One batch's loss at trial rates: the same dropout and the same buffers every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ratewise.errors import InvalidArgument, WrongType, invalid, wrong_type

#: Losses of one batch at one point that differ by more, relatively, are of different batches:
#: kernels that add in another order, or with and without gradients, stay far below.
TOLERANCE = 1e-3


class Snapshot:
    """The random generators of some devices and the buffers of a module, to go back to.

    Args:
        devices: whose generators are kept, besides the CPU's.
        model: whose buffers are kept, or None.
    """

    def __init__(self, devices: Iterable[torch.device], model: nn.Module | None) -> None:
        self._cpu = torch.get_rng_state()
        self._others: list[tuple[Any, Any, Tensor]] = []
        for device in devices:
            if device.type not in ("cpu", "meta"):
                module = getattr(torch, device.type)
                where = () if device.type == "mps" else (device,)  # of which there is one
                self._others.append((module, where, module.get_rng_state(*where)))
        #: The module that holds it, its name, the tensor itself, and its values. A forward pass may
        #: write into the tensor or put another in its place.
        self._buffers: list[tuple[nn.Module, str, Tensor | None, Tensor | None]] = [
            (holder, name, buffer, None if buffer is None else buffer.detach().clone())
            for holder in (() if model is None else model.modules())
            for name, buffer in holder._buffers.items()
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Put generators and buffers back; the snapshot can be used again."""
        torch.set_rng_state(self._cpu)
        for module, where, state in self._others:
            module.set_rng_state(state, *where)
        for holder, name, buffer, values in self._buffers:
            if buffer is not None and values is not None:
                buffer.copy_(values)
            holder._buffers[name] = buffer


class Trials:
    r"""The loss of one batch at :math:`w - \eta d`, for any number of rates.

    Every evaluation starts from the generators' states and the buffers of the first one. A trial
    is written as base - rate * direction into the parameters (`closure`) or into tensors beside
    them (`functional`): from the same numbers, so that both give the same bits, and from the base
    each time, so that nothing drifts.

    Args:
        closure: returns the loss at the parameters as they are, or None.
        functional: returns the loss at the tensors that it is given, or None; one of the two.
        parameters: all parameters, in order.
        model: whose buffers a forward pass changes, or None.

    Raises:
        WrongType: no function was given, or two.
    """

    def __init__(
        self,
        closure: Callable[[], Any] | None,
        functional: Callable[[tuple[Tensor, ...]], Any] | None,
        parameters: Sequence[Tensor],
        model: nn.Module | None,
    ) -> None:
        given: list[Any] = [each for each in (closure, functional) if each is not None]
        if len(given) != 1 or not callable(given[0]):
            fix = "pass optimizer.step(lambda: loss_fn(model(x), y)), without a call of backward()"
            raise wrong_type("closure", "a function that returns the loss", closure, fix)
        self._name = "closure" if functional is None else "functional"
        self._evaluate = given[0] if closure is None else lambda point: given[0]()
        #: Whether trials are written into the parameters, not beside them.
        self._in_place = functional is None
        self._parameters = parameters
        self._devices = {parameter.device for parameter in parameters}
        self._model = model
        self._before = Snapshot(self._devices, model)
        self._after = self._before
        self._moved: list[Tensor] = []
        self._base: list[Tensor] = []
        self._direction: Sequence[Tensor] = []
        self.gradients: list[Tensor | None] = []
        self._rounding = 0.0  # of a loss of 1
        #: Forward passes so far.
        self.passes = 0

    # -- the first evaluation ----------------------------------------------------------------------

    def first(self) -> Tensor:
        """Return the loss at the parameters, a scalar without graph, and find their gradients.

        They are left out of ``grad`` until `settle`, so that a closure that zeroes it does no harm.

        Raises:
            InvalidArgument, WrongType: the closure's loss is no scalar tensor with a graph, depends
                on no parameter, or was differentiated already; a gradient is sparse.
        """
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = self._loss(tuple(self._parameters))
            if any(parameter.grad is not None for parameter in self._parameters):
                raise InvalidArgument(
                    f"{self._name} must leave the gradients to the optimizer, which needs them "
                    "once and then only losses: remove loss.backward() from it"
                )
            if not loss.requires_grad:
                raise InvalidArgument(
                    f"{self._name} must return a loss with a graph, got one without: compute it "
                    "from the parameters, not under torch.no_grad() or detached"
                )
            loss.backward()
        self._rounding = torch.finfo(loss.dtype).eps
        self._after = Snapshot(self._devices, self._model)
        self._take_gradients()
        return loss.detach()

    def _take_gradients(self) -> None:
        self.gradients = [parameter.grad for parameter in self._parameters]
        if all(gradient is None for gradient in self.gradients):
            raise InvalidArgument(
                f"{self._name} returned a loss that depends on none of the optimizer's parameters: "
                "compute it from those that the optimizer was given"
            )
        for parameter, gradient in zip(self._parameters, self.gradients, strict=True):
            if gradient is not None and gradient.layout != torch.strided:
                fix = "construct the embedding with sparse=False"
                raise invalid("gradients", "dense", gradient.layout, fix)
            parameter.grad = None

    def check_batch(self, loss: float) -> None:
        """Raise unless another evaluation at the same point gives the same loss.

        Args:
            loss: the first evaluation's.

        Raises:
            InvalidArgument: it does not.
        """
        again = self.at(0.0)
        allowed = max(TOLERANCE, 2.0 * self._rounding) * abs(loss) + self._rounding
        if not abs(again - loss) <= allowed:  # NaN is not, either
            raise InvalidArgument(
                f"{self._name} must return the same loss at the same parameters, got {loss:g} and "
                f"then {again:g}: draw the batch outside of it, and randomness from torch's global "
                "generator, which is set back for every trial"
            )

    # -- trials ------------------------------------------------------------------------------------

    @torch.no_grad()
    def along(self, direction: Sequence[Tensor]) -> None:
        """Set the direction, a tensor for each parameter that has a gradient."""
        pairs = zip(self._parameters, self.gradients, strict=True)
        self._moved = [parameter for parameter, gradient in pairs if gradient is not None]
        self._direction = direction
        if self._in_place:
            self._base = [parameter.detach().clone() for parameter in self._moved]

    @torch.no_grad()
    def at(self, rate: float) -> float:
        """Return the loss at a rate, from one forward pass; 0 is the step's beginning."""
        self._before.restore()
        if self._in_place:
            self._place(rate)
            return self._loss(()).item()
        point = {id(parameter): parameter.detach() for parameter in self._parameters}
        if rate:
            moved = torch._foreach_add(self._moved, list(self._direction), alpha=-rate)
            point |= zip(map(id, self._moved), moved, strict=True)
        return self._loss(tuple(point.values())).item()

    @torch.no_grad()
    def settle(self, rate: float) -> None:
        """Move the parameters by this rate; everything else is as after one forward pass."""
        self._place(rate)
        self._finish(self._after)

    @torch.no_grad()
    def undo(self) -> None:
        """Leave everything as it was before the first evaluation, as far as it is kept here."""
        if self._in_place:
            self._place(0.0)
        self._finish(self._before)

    def _place(self, rate: float) -> None:
        if self._base:
            torch._foreach_copy_(self._moved, self._base)
        if rate:
            torch._foreach_add_(self._moved, list(self._direction), alpha=-rate)

    def _finish(self, snapshot: Snapshot) -> None:
        snapshot.restore()
        for parameter, gradient in zip(self._parameters, self.gradients, strict=False):
            parameter.grad = gradient

    # -- one evaluation ----------------------------------------------------------------------------

    def _loss(self, point: tuple[Tensor, ...]) -> Tensor:
        """Return the loss, checked."""
        # A step inside torch.autocast would go on with the low-precision copies of the weights that
        # the first pass made: every trial's loss would be the first one's.
        torch.clear_autocast_cache()
        self.passes += 1
        loss = self._evaluate(point)
        if not isinstance(loss, Tensor):
            fix = "return the loss tensor itself, not loss.item()"
            raise wrong_type(f"{self._name}'s result", "a scalar tensor", loss, fix)
        if loss.numel() != 1 or not loss.dtype.is_floating_point:
            kind = f"{loss.dtype} of shape {tuple(loss.shape)}"
            fix = "reduce it to one real number, e.g. by loss.mean()"
            raise WrongType(f"{self._name}'s result must be a scalar tensor, got {kind}: {fix}")
        return loss
