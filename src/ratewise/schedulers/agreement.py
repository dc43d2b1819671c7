"""One metric for all processes that train together, so that their rates stay equal.

Every rank's sum and count lie in slots of their own in one small tensor of zeros: its all-reduce
adds only zeros to each slot, which is exact, so that all ranks hold the same numbers to the last
bit whatever order the reduction takes. The mean is then formed in the order of the ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ratewise.errors import RanksDisagree, unknown

SYNC = ("mean", "rank0")
_AVAILABLE = dist.is_available()


class Agreement:
    """How the ranks of a process group come to one metric.

    Args:
        how: ``"mean"`` over all metrics of all ranks; ``"rank0"``, the first rank's, where the
            others may pass anything or nothing; None, each rank on its own.
        process_group: of `torch.distributed`; the default group if None.

    Raises:
        UnknownName: no such way.
    """

    def __init__(self, how: str | None, process_group: Any = None) -> None:
        if how is not None and how not in SYNC:
            raise unknown("sync", how, SYNC)
        self.how = how
        self._group = process_group

    @property
    def active(self) -> bool:
        """Whether there are other ranks to agree with."""
        if self.how is None or not _AVAILABLE or not dist.is_initialized():
            return False
        return dist.get_world_size(self._group) > 1

    @property
    def always(self) -> bool:
        """Whether a rank takes part even without a metric of its own."""
        return self.how == "rank0" and self.active

    def totals(self, total: float | Tensor, count: float | Tensor) -> tuple[Any, Any]:
        """Return the sum and number of the metrics to decide on: one all-reduce, where active.

        Numbers come back as numbers; tensors stay on their device and nothing is read.
        """
        if not self.active:
            return total, count
        if isinstance(total, Tensor):
            device, dtype = total.device, total.dtype
        else:
            device, dtype = host_device(self._group), torch.float64
        slots = torch.zeros(self._world(), 2, dtype=dtype, device=device)
        if self.how == "mean" or dist.get_rank(self._group) == 0:
            mine = slots[dist.get_rank(self._group)]
            mine[0].copy_(total) if isinstance(total, Tensor) else mine[0].fill_(total)
            mine[1].copy_(count) if isinstance(count, Tensor) else mine[1].fill_(count)
        dist.all_reduce(slots, group=self._group)
        if isinstance(total, Tensor):
            return slots[:, 0].sum(), slots[:, 1].sum()
        rows = slots.tolist()
        return sum(row[0] for row in rows), sum(row[1] for row in rows)

    def check(self, rates: list[float], step: int) -> None:
        """Raise unless every rank has these rates; each rank must call it. Reads the rates.

        Raises:
            RanksDisagree: with the rates of the ranks that differ from rank 0.
        """
        world = self._world()
        if world == 1:
            return
        slots = torch.zeros(world, len(rates), dtype=torch.float64, device=host_device(self._group))
        slots[dist.get_rank(self._group)] = torch.tensor(rates, dtype=torch.float64)
        dist.all_reduce(slots, group=self._group)
        rows = slots.tolist()
        others = [f"rank {rank} has {row}" for rank, row in enumerate(rows) if row != rows[0]]
        if others:
            raise RanksDisagree(
                f"at step {step} rank 0 has rates {rows[0]}, {'; '.join(others[:4])}: pass "
                "sync='mean', or give every rank the same loss"
            )

    def _world(self) -> int:
        return dist.get_world_size(self._group) if _initialized() else 1


def host_device(process_group: Any = None) -> torch.device:
    """Return where a group can reduce a number of the host's: the CPU, or with NCCL a GPU."""
    backend = str(dist.get_backend_config(process_group))
    if "cpu:" in backend or backend in ("gloo", "mpi"):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _initialized() -> bool:
    return _AVAILABLE and dist.is_initialized()


def highest_alarm(alarm: int, loss: Any) -> int:
    """Return the highest alarm of any process, so that all do the same; `loss` gives the device."""
    if not _initialized() or dist.get_world_size() == 1:
        return alarm
    near = not isinstance(loss, Tensor) or loss.device.type == "cpu"
    highest = torch.tensor(alarm, device=host_device() if near else loss.device)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return int(highest)
