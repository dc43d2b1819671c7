"""The ratewise schedulers inside torch's compositions, for layers that must find them."""

from __future__ import annotations

from typing import Any

from ratewise.schedulers.reactive import ReactiveLR


def reactive_parts(scheduler: Any) -> list[ReactiveLR]:
    """Return `scheduler`, or those that a SequentialLR or ChainedScheduler has in it.

    Args:
        scheduler: anything; what is no scheduler of ours contains none.
    """
    if isinstance(scheduler, ReactiveLR):
        return [scheduler]
    parts = getattr(scheduler, "_schedulers", ())
    return [found for part in parts for found in reactive_parts(part)]
