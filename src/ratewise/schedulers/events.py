"""Changes of the rate as events: a bounded log of them, and a sentence for each."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ratewise.rules import schema
from ratewise.rules.significance import TREND

logger = logging.getLogger("ratewise")

#: Events that are kept; older ones have gone to the listeners.
CAPACITY = 256

_RATES = schema.several(schema.real)
_NUMBERS = schema.count(), *[schema.real] * 3, schema.count(-1), schema.count()
_COLUMNS = *_NUMBERS, schema.text, *[_RATES] * 2, schema.real
#: What `EventLog.state` must look like: rows as `Event` names their columns.
CHECK = schema.several(schema.row(*_COLUMNS), most=CAPACITY)

Listener = Callable[["Event"], None]


class Event(NamedTuple):
    """One change of the rate; rates are those of the scheduled groups, in their order."""

    step: int  #: the schedule's step after which the new rate holds, from 1
    metric: float  #: what was decided on
    smoothed: float  #: its rolling mean; of a test of significance, the mean of the newer losses
    reference: float  #: what that was compared with; NaN before there is one
    good: int  #: consecutive better metrics before this one
    bad: int  #: consecutive worse metrics before this one
    reason: str  #: one of `ratewise.rules.greedy.REASONS`, or "rollback" of a guard
    old_lr: tuple[float, ...]
    new_lr: tuple[float, ...]
    errors: float = 0.0  #: standard errors of a test's statistic; 0 where no test has decided

    def words(self) -> str:
        """Return the event as one sentence.

        >>> Event(7, 0.5, 0.6, 0.7, 3, 0, "increase", (0.01,), (0.02,)).words()
        'step 7: increase 0.01 -> 0.02; loss 0.5 (mean 0.6) was better than 0.7, run of 4'
        >>> Event(7, 0.5, 0.6, 0.7, 0, 0, "increase", (0.1,), (0.125,), -3.2).words()
        'step 7: increase 0.1 -> 0.125; loss fell by 0.1 to 0.6, 3.2 standard errors'
        """
        rates = f"{_numbers(self.old_lr)} -> {_numbers(self.new_lr)}"
        loss = f"loss {self.metric:.4g} (mean {self.smoothed:.4g})"
        against = "" if math.isnan(self.reference) else f" than {self.reference:.4g}"
        if self.errors:
            loss = self._trend()
        said = {
            "increase": f"{loss} was better{against}, run of {self.good + 1}",
            "decrease": f"{loss} was not better{against}, run of {self.bad + 1}",
            "warmup": f"{loss}; the stage after an increase goes on",
            "cooldown": f"{loss}; the stage after a decrease goes on",
            "reset": f"{loss}; at its lower bound too often, back to the initial rate",
            "rollback": f"{loss} was a spike: back to the last good weights",
        }
        tested = self.errors and self.reason in ("increase", "decrease")
        why = loss if tested else said.get(self.reason, loss)
        return f"step {self.step}: {self.reason} {rates}; {why}"

    def _trend(self) -> str:
        """Return in words what a test of significance found."""
        change, errors = self.smoothed - self.reference, abs(self.errors)
        if errors <= TREND:
            return f"loss {self.smoothed:.4g} shows no trend ({errors:.1f} standard errors)"
        verb = "rose" if change > 0 else "fell"
        by = f"{verb} by {abs(change):.3g} to {self.smoothed:.4g}"
        return f"loss {by}, {errors:.1f} standard errors"


def _numbers(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:.4g}" for rate in rates)


class EventLog:
    """The last events, and the listeners that are called with each as it happens.

    Every event also goes to Python's logging: level INFO, logger ``"ratewise"``.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=CAPACITY)
        self.listeners: list[Listener] = []

    @property
    def wanted(self) -> bool:
        """Whether there is a listener, or logging is on."""
        return bool(self.listeners) or logger.isEnabledFor(logging.INFO)

    def add(self, event: Event) -> None:
        """Keep an event and call the listeners."""
        self._events.append(event)
        if logger.isEnabledFor(logging.INFO):
            logger.info(event.words())
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception:
                self.listeners.remove(listener)
                logger.exception("%r failed, and is not told of further changes", listener)

    def recall(self, events: Iterable[Event]) -> None:
        """Keep earlier events without calling the listeners again."""
        self._events.extend(events)

    def __iter__(self) -> Any:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def state(self) -> list[list[Any]]:
        """Return the events as plain data."""
        return [
            [*event[:-3], list(event.old_lr), list(event.new_lr), event.errors]
            for event in self._events
        ]

    def restore(self, rows: Iterable[list[Any]]) -> None:
        """Take over what `state()` returned, without calling the listeners."""
        self._events.clear()
        rows = [[*row[:-3], tuple(row[-3]), tuple(row[-2]), row[-1]] for row in rows]
        self._events.extend(map(Event._make, rows))


def as_json(event: Event) -> str:
    """Return an event as one line of JSON; what is not finite becomes null.

    >>> as_json(Event(1, math.nan, 0.5, 0.5, 0, 3, "decrease", (0.1,), (0.05,)))[:46]
    '{"step": 1, "metric": null, "smoothed": 0.5, "'
    """
    fields = event._asdict().items()
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields}
    return json.dumps(plain)
