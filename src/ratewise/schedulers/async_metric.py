"""A metric that is copied from a device without waiting, and read one period later."""

from __future__ import annotations

import torch
from torch import Tensor


def is_far(loss: object) -> bool:
    """Return whether reading `loss` now would make the host wait for a device."""
    return isinstance(loss, Tensor) and loss.device.type not in ("cpu", "meta")


class AsyncMetric:
    """Holds the one metric that is being copied.

    `exchange` sends this period's and returns the one before it. By then the copy is long done;
    if it is not, it is waited for, so that a run's decisions never depend on timing.
    """

    def __init__(self) -> None:
        self._sent: Tensor | None = None
        self._done: torch.Event | None = None

    def exchange(self, total: float | Tensor, count: float | Tensor) -> tuple[float, float] | None:
        """Send a sum and a count, return those sent before; None at the first call."""
        before = self.read()
        device = total.device if isinstance(total, Tensor) else torch.device("cpu")
        if device.type == "cpu":
            self.put(float(total), float(count))
            return before
        dtype = torch.float32 if device.type == "mps" else torch.float64
        pinned = device.type == "cuda"
        pair = torch.empty(2, dtype=dtype, device="cpu", pin_memory=pinned)
        for slot, value in zip(pair, (total, count), strict=True):
            if isinstance(value, Tensor):
                slot.copy_(value, non_blocking=True)
            else:
                slot.fill_(value)
        self._sent = pair
        module = torch.get_device_module(device)
        self._done = module.Event()
        # The copy runs on the loss's device, which need not be the current one.
        streams = hasattr(module, "current_stream")
        self._done.record(module.current_stream(device)) if streams else self._done.record()
        return before

    def read(self) -> tuple[float, float] | None:
        """Return what is being copied, once the copy has ended; None if there is nothing."""
        if self._done is not None:
            self._done.synchronize()
            self._done = None
        return None if self._sent is None else (float(self._sent[0]), float(self._sent[1]))

    def put(self, total: float, count: float) -> None:
        """Take up a metric that was being copied when a state was saved."""
        self._sent = torch.tensor([total, count], dtype=torch.float64, device="cpu")
        self._done = None
