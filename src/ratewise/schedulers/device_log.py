"""Events on a device: a ring of rows that are read only on demand."""

from __future__ import annotations

import torch
from torch import Tensor

from ratewise.rules.greedy import REASONS
from ratewise.schedulers.events import CAPACITY, Event

#: step, metric, smoothed, reference, good, bad, reason, errors; then the old and the new rates
_FIXED = 8


class DeviceLog:
    """The last events of one scheduler, on its device.

    Args:
        groups: number of scheduled parameter groups.
        device: where the rows live.
        dtype: float type of the rows.
    """

    def __init__(self, groups: int, device: torch.device, dtype: torch.dtype) -> None:
        # The last row takes what is no event: the write itself must not depend on a value.
        self._rows = torch.zeros(CAPACITY + 1, _FIXED + 2 * groups, dtype=dtype, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._read = 0
        self._groups = groups

    def add(self, changed: Tensor, fixed: list[Tensor], old: Tensor, new: Tensor) -> None:
        """Note an event where `changed`; `fixed` as the columns name them, rates as [groups]."""
        row = torch.cat([torch.stack([x.to(self._rows.dtype) for x in fixed]), old, new])
        slot = torch.where(changed, self._count % CAPACITY, CAPACITY)
        self._rows.index_copy_(0, slot.reshape(1), row.reshape(1, -1))
        self._count.add_(changed)

    def take(self) -> list[Event]:
        """Return the events since the last call, at most `CAPACITY`: waits for the device."""
        count = int(self._count)
        first = max(self._read, count - CAPACITY)
        self._read = count
        if first == count:
            return []
        rows = self._rows.tolist()
        return [self._event(rows[index % CAPACITY]) for index in range(first, count)]

    def _event(self, row: list[float]) -> Event:
        (step, *found, good, bad, reason, errors), rates = row[:_FIXED], row[_FIXED:]
        counts = int(good), int(bad)
        old, new = tuple(rates[: self._groups]), tuple(rates[self._groups :])
        return Event._make((int(step), *found, *counts, REASONS[int(reason)], old, new, errors))
