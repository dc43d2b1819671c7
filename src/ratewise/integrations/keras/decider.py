"""What decides, on Python floats alone: the rule, its period, the ramp, and their state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ratewise.integrations.keras.settings import CallbackSettings
from ratewise.rules.fixed import ramped
from ratewise.rules.greedy import REASONS
from ratewise.rules.greedy_config import GreedyLimits, bounded
from ratewise.rules.greedy_float import FloatGreedy
from ratewise.rules.period import Period, nonfinite
from ratewise.schedulers.events import Event


class Decider:
    """GreedyLR over the steps of a training: values come in, the next step's rates go out.

    A step is a batch or an epoch. Steps of the ramp are counted and not decided on.

    Args:
        settings: of the callback.

    >>> from ratewise.rules.greedy_config import GreedyConfig
    >>> config = GreedyConfig(factor=0.5, patience=0, window=1)
    >>> decider = Decider(CallbackSettings("loss", "batch", 2, 0, None, None, config))
    >>> decider.begin([0.1], [0.01], [1.0])
    >>> [decider.take(loss) is not None for loss in (4.0, 3.0, 2.0, 1.0)], decider.rates()
    ([False, False, False, True], [0.2])
    """

    def __init__(self, settings: CallbackSettings) -> None:
        self.height = 1.0  #: of the schedule at the next step; where a fit stands, Keras knows
        self.forget(settings)

    def forget(self, settings: CallbackSettings) -> None:
        """Begin anew, with rates that `begin` will tell."""
        self.settings, self._config = settings, settings.config
        self.base: list[float] = []  #: rates before the first step; empty until it is known
        self.step = 0
        self._low: Sequence[float] = ()
        self._high: Sequence[float] = ()
        self._rule = FloatGreedy(self._config, GreedyLimits((), (), ()))
        self._period = Period(skip=True)  # but `take` may let one spoil them all

    def decide_by(self, settings: CallbackSettings) -> None:
        """Decide by settings with a criterion from now on, before the first metric."""
        self.settings, self._config = settings, settings.config
        self._rule = FloatGreedy(self._config, self._rule.limits)

    def begin(self, base: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
        """Take up the rates' bounds; what has no state yet begins at `base`."""
        limits = GreedyLimits.absolute(list(base), low, high, self._config.eps)
        if not self.base:
            self.base, self._rule = list(base), FloatGreedy(self._config, limits)
        self._rule.limits = limits
        self._low, self._high = low, high

    def rates(self) -> list[float]:
        """Return the rates of the next step."""
        own = bounded(self.base, self._rule.scale, self._low, self._high)
        height = ramped(self.height, self.step, self.settings.warmup_steps)
        return [rate * height for rate in own]

    @property
    def last_reason(self) -> str:
        """The reason of the last decision: one of `ratewise.rules.greedy.REASONS`."""
        return REASONS[self._rule.reason]

    def take(self, value: float | None) -> Event | None:
        """Count a step and, if it ends a period, decide; return what changed the rate, if it did.

        Args:
            value: the step's own; None where there was none.

        Raises:
            NonFiniteLoss: what ``on_nonfinite="raise"`` asked for; nothing has changed.
        """
        settings, period, policy = self.settings, self._period, self._config.on_nonfinite
        if value is None or self.step < settings.warmup_steps:
            self.step += 1
            return None
        total = period.total + value
        if policy == "raise" and not math.isfinite(total):
            where = f"{settings.interval} {self.step + 1}"
            raise nonfinite(value, where, name=settings.monitor, total=total)
        self.step += 1
        period.add(value)
        if period.seen < settings.decide_every:
            return None
        whole = policy == "skip" or period.count == period.seen
        metric = period.mean() if whole else math.nan
        period.clear()
        return self._decide(metric)

    def _decide(self, metric: float) -> Event | None:
        rule, old = self._rule, tuple(self.rates())
        before = rule.before()
        rule.update(metric)
        if not rule.changed():
            return None
        compared, reference, errors = rule.told(metric, before[0])
        met = (self.step, metric, compared, reference, *before[1:])
        return Event(*met, self.last_reason, old, tuple(self.rates()), errors)

    def state(self) -> dict[str, Any]:
        """Return all that the next decision depends on, as plain copied data."""
        period = self._period
        return {
            "base": list(self.base),
            "step": self.step,
            "period": {"seen": period.seen, "finite": period.count, "total": period.total},
            "memory": self._rule.state(),
        }

    def restore(self, state: dict[str, Any], settings: CallbackSettings) -> None:
        """Take over what `state` returned under these settings."""
        self.forget(settings)
        self.base, self.step = list(map(float, state["base"])), state["step"]
        self._period.seen, self._period.count = state["period"]["seen"], state["period"]["finite"]
        self._period.total = float(state["period"]["total"])
        self._rule = FloatGreedy(self._config, GreedyLimits.relative(len(self.base)))
        self._rule.restore(state["memory"])
