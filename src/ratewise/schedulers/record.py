"""What a scheduler did and why: events and a thinned trace, on the host or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ratewise.schedulers.device_log import DeviceLog
from ratewise.schedulers.events import Event, EventLog
from ratewise.schedulers.trace import Trace


class Record:
    """Events and trace of one scheduler; those on a device stay there until they are asked for."""

    def __init__(self) -> None:
        self.log = EventLog()
        self.trace = Trace()
        self._on_device: DeviceLog | None = None

    def use_device(self, groups: int, device: torch.device | None, dtype: torch.dtype) -> None:
        """Keep events on `device` from now on; None brings them in and keeps them on the host."""
        self.flush()
        self._on_device = None if device is None else DeviceLog(groups, device, dtype)

    def note(
        self,
        step: int,
        why: tuple[Any, ...],
        old: Sequence[float],
        new: Sequence[float],
        errors: float = 0.0,
    ) -> None:
        """Note an event; `why` is its fields from metric to reason, `errors` those of a test."""
        self.log.add(Event._make((step, *why, tuple(old), tuple(new), errors)))

    def note_on_device(
        self, changed: Tensor, fixed: list[Tensor], old: Tensor, new: Tensor
    ) -> None:
        """Note an event where `changed`, without reading it; see `DeviceLog.add`."""
        if self._on_device is not None:
            self._on_device.add(changed, fixed, old, new)

    def flush(self) -> None:
        """Bring the device's events to the host and to the listeners: waits for the device."""
        if self._on_device is not None:
            for event in self._on_device.take():
                self.log.add(event)

    def events(self) -> list[Event]:
        """Return the last events, oldest first."""
        self.flush()
        return list(self.log)

    def words(self, last: int, step: int, rates: list[float]) -> str:
        """Return the last events as sentences, and where the rate stands."""
        lines = [event.words() for event in self.events()[-last:]]
        if not lines:
            lines = [f"no change of the rate in {step} steps"]
        now = ", ".join(f"{rate:.4g}" for rate in rates)
        return "\n".join([*lines, f"now, after step {step}: lr {now}"])

    def state(self) -> dict[str, Any]:
        """Return plain data."""
        self.flush()
        return {"events": self.log.state(), "trace": self.trace.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state()` returned."""
        self.log.restore(state["events"])
        self.trace.restore(state["trace"])
