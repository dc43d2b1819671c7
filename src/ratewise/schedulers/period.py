"""The metrics between two decisions where there are devices and other processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ratewise.rules import schema
from ratewise.rules.period import Period, mean
from ratewise.schedulers.agreement import Agreement
from ratewise.schedulers.async_metric import AsyncMetric

_SUM = schema.optional(schema.row(schema.real, schema.number(0.0)))
#: What `SharedPeriod.state` must look like: a sum of metrics and how many there were, or None.
TABLE = {"pending": _SUM, "late": _SUM}


class SharedPeriod:
    """The metrics since the last decision, of this process and of those that train with it.

    Args:
        agreement: how the ranks come to one metric.
    """

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement
        #: This process's part; floats, or scalar tensors that stay where they are.
        self.own = Period()
        #: Set once metrics come from a device to Python rates: then all are one period late.
        self.late: AsyncMetric | None = None

    def take(self, value: float | Tensor) -> None:
        """Add a metric to this period's."""
        own = self.own
        if not isinstance(value, Tensor):
            own.add(value)
        elif own.skip or own.count:
            own.add(value, torch)
        else:  # it may be the caller's own, and be overwritten by the next step
            own.add(value.clone(), torch)

    def total_with(self, value: float) -> float:
        """Return this period's sum with one more metric; without tensors, which are not read."""
        total = self.own.total
        return value if isinstance(total, Tensor) else total + value

    def close(
        self, value: float | Tensor | None, device: torch.device | None
    ) -> float | Tensor | None:
        """End the period; return the metric to decide on, or None if there is none.

        Args:
            value: the period's last metric, if one comes with its last step.
            device: where the rule decides; None on Python floats.
        """
        own = self.own
        if not own.seen and self.late is None and not self._agreement.active:
            return value
        if value is not None:
            self.take(value)
        pending, total, count = own.seen > 0, own.total, own.count
        if not pending and not (self._agreement.always and device is None):
            return None
        own.clear()
        total, count = self._agreement.totals(total, count)
        if self.late is not None:
            arrived = self.late.exchange(total, count)
            if arrived is None:
                return None
            total, count = arrived
        nothing = not pending and not isinstance(count, Tensor) and not count
        return None if nothing else mean(total, count)

    def state(self) -> dict[str, Any]:
        """Return what is pending and what is under way, as plain data: waits for a device."""
        own, under_way = self.own, None if self.late is None else self.late.read()
        return {
            "pending": [float(own.total), float(own.count)] if own.seen else None,
            "late": None if under_way is None else list(under_way),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state()` returned."""
        self.own.clear()
        if state["pending"] is not None:
            self.own.total, self.own.count = state["pending"]
            self.own.seen = max(1, int(self.own.count))
        self.late = None
        if state["late"] is not None:
            self.late = AsyncMetric()
            self.late.put(*state["late"])
