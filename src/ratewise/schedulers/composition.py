"""The ratewise schedulers inside torch's compositions, for layers that must find them."""

from __future__ import annotations

from typing import Any

from ratewise.schedulers.base import ScheduledLR


def ratewise_parts(scheduler: Any) -> list[ScheduledLR]:
    """Return `scheduler`, or those that a SequentialLR or ChainedScheduler has in it.

    Args:
        scheduler: anything; what is no scheduler of ours contains none.
    """
    if isinstance(scheduler, ScheduledLR):
        return [scheduler]
    parts = getattr(scheduler, "_schedulers", ())
    return [found for part in parts for found in ratewise_parts(part)]
