"""A hypergradient step's work: gradients and last directions, by group, device and dtype."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import invalid


@dataclass
class Part:
    """Parameters of one group, on one device and of one dtype, that have gradients in this step."""

    index: int
    group: dict[str, Any]
    foreach: bool
    parameters: list[Tensor] = field(default_factory=list)
    #: Of what is minimized: negated under `maximize`, and with the penalty's.
    gradients: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    #: Directions of the last step, for those that had gradients in it.
    previous: list[Tensor | None] = field(default_factory=list)

    def pairs(self) -> tuple[list[Tensor], list[Tensor], list[dict[str, Any]]]:
        """Return gradients with a previous direction, those directions, and their states."""
        found = [
            (gradient, previous, state)
            for gradient, previous, state in zip(
                self.gradients, self.previous, self.states, strict=True
            )
            if previous is not None
        ]
        gradients, directions, states = (list(side) for side in zip(*found, strict=True))
        return gradients, directions, states

    def paired(self) -> bool:
        """Return whether any gradient has a previous direction."""
        return any(previous is not None for previous in self.previous)

    def penalize(self) -> None:
        """Make the gradients those of what is minimized; the parameters' own stay as they are."""
        decay = self.group["weight_decay"]
        if self.foreach:
            if self.group["maximize"]:
                self.gradients = list(torch._foreach_neg(self.gradients))
            if decay:
                added = torch._foreach_add(self.gradients, self.parameters, alpha=decay)
                self.gradients = list(added)
            return
        if self.group["maximize"]:
            self.gradients = [-g for g in self.gradients]
        if decay:
            both = zip(self.gradients, self.parameters, strict=True)
            self.gradients = [g.add(p, alpha=decay) for g, p in both]


def filled(empty: Tensor, rate: Any) -> Tensor:
    """Return new memory filled with a rate: a number, or a tensor of one."""
    return empty.copy_(rate.reshape(())) if isinstance(rate, Tensor) else empty.fill_(float(rate))


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return values on a device; only a host has to wait, or it could read them too early."""
    return values.to(device, non_blocking=device.type != "cpu")


def check_parameter(p: Any) -> None:
    """Raise unless a parameter is a whole, dense, real tensor; torch refuses what is no tensor.

    Raises:
        InvalidArgument: it is complex, sparse, or a shard.
    """
    if not isinstance(p, Tensor):
        return
    if p.is_complex():
        fix = "hold torch.view_as_real of it instead"
        raise invalid("params", "real tensors", str(p.dtype), fix)
    if p.layout != torch.strided:
        raise invalid("params", "dense tensors", str(p.layout), "make them dense")
    shard = hasattr(p, "placements") or hasattr(p, "ds_id") or getattr(p, "_fsdp_flattened", False)
    if shard:
        # One shard's inner product is not the tensor's: the ranks' rates would part.
        fix = "train under DistributedDataParallel instead of FSDP or ZeRO"
        raise invalid("params", "whole tensors", f"a shard, {type(p).__name__}", fix)
