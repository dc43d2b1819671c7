"""The local parts of sharded parameters, and norms over all their parts.

A parameter of `torch.distributed.tensor` (FSDP2, tensor parallelism) is its local shard here, and
its norm is reduced over the processes that hold the others: one small all-reduce a measurement.
Where the parts of one tensor cannot be told apart, an error says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ratewise.errors import InvalidArgument, invalid


def check_parameters(parameters: Sequence[Tensor]) -> None:
    """Raise unless norms of all of these can be formed, on one device.

    Raises:
        InvalidArgument: sparse, shared out by FSDP1 or DeepSpeed, of a partial sum, or not all on
            one device.
    """
    for index, parameter in enumerate(parameters):
        if parameter.layout != torch.strided:
            fix = f"parameter {index} is stored sparsely: make it dense; sparse gradients are fine"
            raise invalid("optimizer", "of dense parameters", str(parameter.layout), fix)
        if hasattr(parameter, "ds_id") or getattr(parameter, "_fsdp_flattened", False):
            raise InvalidArgument(
                f"parameter {index} is a part of a flattened one, whose tensors' norms cannot be "
                "told: use FSDP2 (fully_shard) instead of FSDP1 or DeepSpeed's ZeRO"
            )
        if any(place.is_partial() for place in getattr(parameter, "placements", ())):
            fix = f"parameter {index}: redistribute it"
            raise invalid("optimizer", "of sharded or replicated tensors", "a partial sum", fix)
    devices = sorted({str(parameter.device) for parameter in parameters})
    if len(devices) > 1:
        fix = "give each device's parameters an optimizer of their own"
        raise invalid("optimizer", "of parameters on one device", ", ".join(devices), fix)


def local(parameter: Tensor) -> Tensor:
    """Return what of a parameter lies here, as real numbers that share its memory.

    >>> local(torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))).shape
    torch.Size([2, 2])
    """
    part: Any = parameter.detach()
    part = part.to_local() if hasattr(part, "to_local") else part
    return torch.view_as_real(part) if part.is_complex() else part


class Reduction:
    """Makes norms of local parts those of the whole tensors.

    Args:
        parameters: in the order of the norms.
        device: where the norms are.
    """

    def __init__(self, parameters: Sequence[Tensor], device: torch.device) -> None:
        found: dict[tuple[int, ...], tuple[list[Any], list[bool]]] = {}
        for index, parameter in enumerate(parameters):
            groups = [
                parameter.device_mesh.get_group(dimension)  # type: ignore[attr-defined]
                for dimension, place in enumerate(getattr(parameter, "placements", ()))
                if place.is_shard()
            ]
            if groups:
                key = tuple(id(group) for group in groups)
                _, mine = found.setdefault(key, (groups, [False] * len(parameters)))
                mine[index] = True
        self._parts = [
            (groups, torch.tensor(mine, device=device)) for groups, mine in found.values()
        ]

    def __call__(self, norms: Tensor) -> Tensor:
        """Return the norms of whole tensors, [tensors]; nothing is sent where all lie here."""
        return self.sums(norms.double().square()).sqrt().to(norms.dtype) if self._parts else norms

    def sums(self, values: Tensor) -> Tensor:
        """Return sums over local parts as those over whole tensors, [tensors]."""
        for groups, mine in self._parts:
            total = torch.where(mine, values, 0.0)
            for group in groups:
                dist.all_reduce(total, group=group)
            values = torch.where(mine, total, values)
        return values
