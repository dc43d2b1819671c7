"""What a scheduler reports: events, a trace, explanations, warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import torch
from torch.optim import Optimizer

from ratewise.errors import OverwrittenRateWarning, PastHorizonWarning, wrong_type
from ratewise.rules.checks import check_count
from ratewise.schedulers.clock import OptimizerClock
from ratewise.schedulers.events import Event, Listener
from ratewise.schedulers.rate_watch import overwriting
from ratewise.schedulers.record import Record
from ratewise.schedulers.schedule import Schedule
from ratewise.schedulers.step_hooks import undo_unfinished


class Explained:
    """Events, trace, explanations and warnings of a scheduler; a mixin of `ScheduledLR`."""

    optimizer: Optimizer
    schedule: Schedule
    horizon: int | None
    last_epoch: int
    _record: Record
    _rates: Any
    _clock: OptimizerClock
    _device: torch.device | None
    _overwritten = False  # whether that was warned of
    _told_past: bool  # and that the run is longer than it was to be
    _ends = False  # whether a schedule that is a function ends with the run

    def _now(self) -> int:
        """Return the schedule's step."""
        raise NotImplementedError

    def _groups(self) -> list[dict[str, Any]]:
        """Return the scheduled parameter groups."""
        raise NotImplementedError

    def share(self, ramp: bool = True) -> float:
        """Return the schedule's height at this step, with the ramp or without."""
        raise NotImplementedError

    def _settled(self) -> list[str]:
        """Return in words what was settled for this run that nobody has named."""
        return []

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

        With rates on a device it is called once in 100 steps: call `flush` at the end of a run. A
        listener that raises an error is named in the log and not called again; training goes on.
        """
        if not callable(listener):
            fix = "pass e.g. ratewise.JSONLWriter('events.jsonl')"
            raise wrong_type("listener", "a function of an event", listener, fix)
        self._record.log.listeners.append(listener)

    def recall(self, events: Iterable[Event]) -> None:
        """Put earlier events into the log, without calling the listeners again."""
        self._record.log.recall(events)

    def flush(self) -> None:
        """Read what is still on a device: events go to the listeners, and warnings are given."""
        self._record.flush()
        self._look_back()

    def explain(self, last: int = 10, file: TextIO | None = None) -> None:
        """Print the last decisions in words, and the rate as it is now."""
        check_count("last", last, 1)
        undo_unfinished(self.optimizer)
        self.flush()
        rates = [float(group["lr"]) for group in self._groups()]
        for line in self._settled():
            print(line, file=file)
        print(self._record.words(last, self._now(), rates), file=file)

    def report(self, path: str | Path) -> Path:
        """Write a page of the run so far: its losses and rates, and why the rate changed.

        One file that opens without a network; hovering over a mark says why. Rates on a device are
        waited for. `ratewise.plot` draws the same as a picture.

        Args:
            path: the file, which ends in .html.

        Returns:
            The path.

        Raises:
            InvalidArgument: there was no decision yet, or `path` has another ending.
            MissingExtra: plotly is not installed.
            CannotWrite: the file system refused.
        """
        from ratewise.plotting import run_report  # it draws, and is loaded where it is wanted

        return run_report.write(self, path)

    # -- warnings ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """See whether the last change is still in the rates; on the host alone."""
        self._rates.look(self._groups())
        self._tell_overwritten()

    def _look_back(self) -> None:
        """Do the same for the last steps on a device, which is waited for."""
        if self._device is not None:
            self._rates.look_back()
            self._tell_overwritten(late=True)

    def _tell_overwritten(self, late: bool = False) -> None:
        if self._overwritten:
            return
        found = overwriting(self._rates.watches, self.optimizer, self, late=late)
        if found is not None:
            self._overwritten = True
            words = f"step {self.last_epoch}: {found}"
            warnings.warn(words, OverwrittenRateWarning, stacklevel=5)

    def _tell_past_horizon(self) -> None:
        """Warn once where the optimizer has made more steps than the run was to have."""
        step, last = self._clock.elapsed, self.horizon
        ends = self._ends or isinstance(self.schedule, str)
        if last is None or step <= last or self._told_past or not ends:
            return
        self._told_past = True
        warnings.warn(
            f"step {step} is beyond total_steps={last}: the final rate holds, "
            f"{self.share(ramp=False):.3g} of the full one; pass the run's whole length in "
            "optimizer steps, however often step() is called",
            PastHorizonWarning,
            stacklevel=4,
        )
