"""The metrics between two decisions: summed where they are, agreed, and made one number."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ratewise.rules import schema
from ratewise.schedulers.agreement import Agreement
from ratewise.schedulers.async_metric import AsyncMetric

_SUM = schema.optional(schema.row(schema.real, schema.number(0.0)))
#: What `Period.state` must look like: a sum of metrics and how many there were, or None.
TABLE = {"pending": _SUM, "late": _SUM}


class Period:
    """The mean of the metrics that came in since the last decision.

    A period with a metric that is not finite is not finite as a whole, unless those are skipped.
    Sums are Python floats or scalar tensors, as the metrics are.

    Args:
        agreement: how the ranks come to one metric.
    """

    def __init__(self, agreement: Agreement) -> None:
        self._agreement = agreement
        #: Leave out what is not finite.
        self.skip = False
        #: Set once metrics come from a device to Python rates: then all are one period late.
        self.late: AsyncMetric | None = None
        self.forget()

    def forget(self) -> None:
        """Begin a new period."""
        self.pending = False
        self._total: Any = 0.0
        self._count: Any = 0

    def take(self, value: float | Tensor) -> None:
        """Add a metric to this period's."""
        self.pending = True
        if not self.skip:
            if self._count:
                self._total = self._total + value
            else:  # a tensor may be the caller's own, and be overwritten by the next step
                self._total = value.clone() if isinstance(value, Tensor) else value
            self._count += 1
        elif isinstance(value, Tensor):
            finite = torch.isfinite(value)
            self._total = torch.where(finite, value, 0.0) + self._total
            self._count = finite + self._count
        elif math.isfinite(value):
            self._total += value
            self._count += 1

    def total_with(self, value: float) -> float:
        """Return this period's sum with one more metric; without tensors, which are not read."""
        return value if isinstance(self._total, Tensor) else self._total + value

    def close(
        self, value: float | Tensor | None, device: torch.device | None
    ) -> float | Tensor | None:
        """End the period; return the metric to decide on, or None if there is none.

        Args:
            value: the period's last metric, if one comes with its last step.
            device: where the rule decides; None on Python floats.
        """
        if not self.pending and self.late is None and not self._agreement.active:
            return value
        if value is not None:
            self.take(value)
        pending, total, count = self.pending, self._total, self._count
        if not pending and not (self._agreement.always and device is None):
            return None
        self.forget()
        total, count = self._agreement.totals(total, count)
        if self.late is not None:
            arrived = self.late.exchange(total, count)
            if arrived is None:
                return None
            total, count = arrived
        if isinstance(count, Tensor) or count > 1:
            return total / count
        if count:
            return total
        return math.nan if pending else None

    def state(self) -> dict[str, Any]:
        """Return what is pending and what is under way, as plain data: waits for a device."""
        under_way = None if self.late is None else self.late.read()
        return {
            "pending": [float(self._total), float(self._count)] if self.pending else None,
            "late": None if under_way is None else list(under_way),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state()` returned."""
        self.pending = state["pending"] is not None
        self._total, self._count = state["pending"] or (0.0, 0)
        self.late = None
        if state["late"] is not None:
            self.late = AsyncMetric()
            self.late.put(*state["late"])
