"""What a scheduler tells about itself: events, a trace, words, listeners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO

from torch.optim import Optimizer

from ratewise.errors import wrong_type
from ratewise.rules.checks import check_count
from ratewise.schedulers.events import Event, Listener
from ratewise.schedulers.record import Record
from ratewise.schedulers.step_hooks import settle


class Explained:
    """The part of a scheduler that speaks of its decisions; abstract, mixed into `ScheduledLR`."""

    _record: Record
    optimizer: Optimizer

    def _now(self) -> int:
        """Return the schedule's step."""
        raise NotImplementedError

    def _groups(self) -> list[dict[str, Any]]:
        """Return the scheduled parameter groups."""
        raise NotImplementedError

    def _look_back(self) -> None:
        """See what the last steps on a device have left to say."""
        raise NotImplementedError

    @property
    def events(self) -> list[Event]:
        """The last changes of the rate, oldest first: reads the device, if the rates are on one."""
        return self._record.events()

    @property
    def trace(self) -> list[tuple[int, float, float]]:
        """Points (step, metric, first group's rate) over the whole run, thinned."""
        return self._record.trace.points()

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with every event from now on.

        With rates on a device it hears of them once in 100 steps: call `flush` at the end of a
        run. One that raises is named in the log and not called again; training goes on.
        """
        if not callable(listener):
            fix = "pass e.g. ratewise.JSONLWriter('events.jsonl')"
            raise wrong_type("listener", "a function of an event", listener, fix)
        self._record.log.listeners.append(listener)

    def recall(self, events: Iterable[Event]) -> None:
        """Put earlier events into the log; listeners, who have heard them, are not told again."""
        self._record.log.recall(events)

    def flush(self) -> None:
        """Bring what is still on a device to the host: events to the listeners, and warnings."""
        self._record.flush()
        self._look_back()

    def explain(self, last: int = 10, file: TextIO | None = None) -> None:
        """Print the last decisions in words, and where the rate stands."""
        check_count("last", last, 1)
        settle(self.optimizer)
        self.flush()
        rates = [float(group["lr"]) for group in self._groups()]
        print(self._record.words(last, self._now(), rates), file=file)
