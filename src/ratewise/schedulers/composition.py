"""Finds ratewise schedulers inside torch's SequentialLR and ChainedScheduler."""

from __future__ import annotations

from typing import Any

from ratewise.schedulers.base import ScheduledLR


def ratewise_parts(scheduler: Any) -> list[ScheduledLR]:
    """Return `scheduler`, or those that a SequentialLR or ChainedScheduler has in it.

    Args:
        scheduler: any object; one that is no such scheduler contains none.
    """
    if isinstance(scheduler, ScheduledLR):
        return [scheduler]
    parts = getattr(scheduler, "_schedulers", ())
    return [found for part in parts for found in ratewise_parts(part)]
