"""The online correction of the update ratios: each step's gradient judges the step before.

The last displacement is not kept. Adam's two means still say which way it went, until its next
step changes them; what its tensors were multiplied by is one number each. So the correction needs
no memory of the model's size, and goes on to the bit from a saved state. Weight decay, a small
part of any displacement that is steered, does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from ratewise.errors import invalid
from ratewise.rules import online as rule
from ratewise.schedulers.parameters import Groups, Parameters
from ratewise.schedulers.shards import local

#: Whose state says where the last step went. A subclass may do anything.
KINDS: tuple[type[Optimizer], ...] = (optim.Adam, optim.AdamW)
#: Bytes of directions that exist at one time: as many as a cache holds, or plenty on a device.
CHUNK_CPU, CHUNK_DEVICE = 1 << 20, 1 << 26


def check_online(optimizer: Optimizer) -> None:
    """Raise unless the optimizer's state says where its last step went.

    Raises:
        InvalidArgument: it is another than `KINDS`.
    """
    if type(optimizer) not in KINDS:
        known = " or ".join(kind.__name__ for kind in KINDS)
        fix = "leave it out: elsewhere momentum misleads the correction, or the state is unknown"
        raise invalid("online", f"False with another optimizer than {known}", True, fix)


class OnlineCorrection:
    """What all ratios are multiplied by, :math:`e^c`, and what it follows from.

    Args:
        on: whether anything is corrected.
    """

    def __init__(self, on: bool = False) -> None:
        self.on = on
        self.value = torch.zeros(())  #: c
        self._begun: Tensor | None = None  # c before a step that has not ended
        #: [tensors] what the direction of the last step was multiplied by.
        self.last = torch.zeros(0)

    def meet(self, new: Parameters, old: Parameters) -> None:
        """Take in the tensors as they are now; those that were known keep their numbers."""
        known = {id(p): x for p, x in zip(old.params, self.last, strict=False)}
        mine = [known.get(id(p), new.zero).to(new.device) for p in new.params]
        self.last = torch.stack(mine) if mine else new.zero.new_zeros(0)
        self.value = self.value.to(new.device)

    def multiplier(self) -> Tensor | float:
        """Return :math:`e^c`."""
        return self.value.exp() if self.on else 1.0

    def judge(
        self,
        steps: int,
        active: Sequence[int],
        parameters: Parameters,
        groups: Groups,
        state: Mapping[Tensor, Any],
    ) -> None:
        """Correct c by the gradients, which are at the end of the last step.

        Args:
            steps: of the optimizer, made before.
            active: positions of the tensors that this step moves.
            parameters: all tensors.
            groups: theirs.
            state: the optimizer's, not changed by this step yet.
        """
        if not (self.on and rule.looks(steps, rule.EVERY)):
            return
        self._begun = self.value if self._begun is None else self._begun
        found = _positions(active, parameters, groups, state)
        sums = [parameters.zero.expand(3)] * len(parameters.params)
        for (index, _, _), three in zip(found, _sums(found, parameters), strict=True):
            sums[index] = three
        along, lengths, slopes = parameters.reduce.sums(torch.stack(sums, 1)).double()
        last = self.last.double()
        cosine = (last * along).sum() / (
            (last.square() * lengths).sum().sqrt() * slopes.sum().sqrt()
        )
        self.value = rule.corrected(
            self._begun, cosine.to(self.value.dtype), every=rule.EVERY, xp=torch
        )

    def undo(self) -> None:
        """Take back what was corrected for a step that never ended."""
        self.value = self.value if self._begun is None else self._begun
        self._begun = None

    def remember(self, multiplied: Tensor, active: Sequence[int]) -> None:
        """Keep what a step's directions were multiplied by, [tensors].

        Args:
            multiplied: factors times rates.
            active: positions of the tensors that were moved.
        """
        self._begun = None
        if self.on:
            zero, moved = torch.zeros_like(multiplied[0]), set(active)
            values = enumerate(multiplied.unbind())
            self.last = torch.stack([x if index in moved else zero for index, x in values])

    def to_state(self) -> dict[str, Any]:
        """Return plain data: waits for a device."""
        return {"on": self.on, "value": float(self.value), "last": self.last.tolist()}

    def restore(self, state: Mapping[str, Any], zero: Tensor) -> None:
        """Take over what `to_state` returned."""
        self.on = bool(state["on"])
        self.value, self.last = zero.new_tensor(state["value"]), zero.new_tensor(state["last"])


_Found = list[tuple[int, dict[str, Any], dict[str, Any]]]


def _positions(
    active: Sequence[int], parameters: Parameters, groups: Groups, state: Mapping[Tensor, Any]
) -> _Found:
    """Return the tensors that have a dense gradient and a last step: position, group, state."""
    owner = [group for group in groups for _ in group["params"]]
    found = []
    for index in active:
        parameter = parameters.params[index]
        gradient, own = parameter.grad, state.get(parameter, {})
        if gradient is not None and gradient.layout == torch.strided and "exp_avg" in own:
            found.append((index, owner[index], own))
    return found


def _sums(found: _Found, parameters: Parameters) -> Iterator[Tensor]:
    """Yield <g, u>, ||u||^2 and ||g||^2 of each tensor, [3]; -u is where the last step went."""
    limit = CHUNK_CPU if parameters.device.type == "cpu" else CHUNK_DEVICE
    part: _Found = []
    size = 0
    for one in found:
        part.append(one)
        size += parameters.params[one[0]].nbytes
        if size >= limit or one is found[-1]:
            gradients = [local(parameters.params[index].grad) for index, _, _ in part]  # type: ignore[arg-type]
            directions = _directions(part)
            products = torch._foreach_mul(gradients, directions)
            lengths, slopes = torch._foreach_norm(directions), torch._foreach_norm(gradients)
            for along, length, slope in zip(products, lengths, slopes, strict=True):
                three = torch.stack([along.sum().float(), length.float(), slope.float()])
                yield torch.cat([three[:1], three[1:].square()])
            part, size = [], 0


def _directions(part: _Found) -> list[Tensor]:
    """Return Adam's last direction, rate and factor aside: its first mean over the second's root.

    ``m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)``, with the largest v so far under `amsgrad`.
    """
    means, squares, eps = [], [], []
    firsts, seconds = [], []
    for _, group, own in part:
        name = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
        means.append(local(own["exp_avg"]))
        squares.append(local(own[name]))
        one, two = group["betas"]
        firsts.append(1.0 - one ** own["step"])
        seconds.append(1.0 - two ** own["step"])
        eps.append(float(group["eps"]))
    roots = torch._foreach_sqrt(squares)
    torch._foreach_div_(
        roots, [_like(x, root).sqrt() for x, root in zip(seconds, roots, strict=True)]
    )
    torch._foreach_add_(roots, eps)
    found = torch._foreach_div(means, roots)
    torch._foreach_div_(found, [_like(x, one) for x, one in zip(firsts, found, strict=True)])
    return list(found)


def _like(number: Any, tensor: Tensor) -> Tensor:
    """Return a number where a tensor is; one on a device is not read."""
    if isinstance(number, Tensor) and number.device == tensor.device:
        return number.to(tensor.dtype)
    return torch.full((), float(number), dtype=tensor.dtype, device=tensor.device)
