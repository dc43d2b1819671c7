"""What the callback is told, beside the rule's own settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ratewise.errors import invalid, unknown, wrong_type
from ratewise.rules.checks import check_count
from ratewise.rules.criterion import decide
from ratewise.rules.fixed import fixed_rule
from ratewise.rules.greedy_config import DEFAULTS, END, GreedyConfig


@dataclass(frozen=True)
class CallbackSettings:
    """What decides which value the rule gets, when, and how far the rate may go.

    Args:
        monitor: name of the metric.
        interval: "batch" or "epoch": what a step is.
        decide_every: steps a decision.
        warmup_steps: steps of the ramp.
        min_lr, max_lr: bounds of the rate; None is a multiple of the base.
        config: the rule's settings; where they name no criterion `decided` has one.
        schedule: name of what the rate is multiplied by over a fit; None follows from the
            criterion.
        total_steps: of the optimizer, where the run is not one fit.

    Raises:
        InvalidArgument, UnknownName, WrongType: one is outside its range.
    """

    monitor: str
    interval: str
    decide_every: int
    warmup_steps: int
    min_lr: float | None
    max_lr: float | None
    config: GreedyConfig
    schedule: str | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str):
            raise wrong_type("monitor", "a metric's name", self.monitor, "pass e.g. 'loss'")
        if self.interval not in ("batch", "epoch"):
            raise unknown("interval", self.interval, ("batch", "epoch"))
        if self.monitor.startswith("val_") and self.interval == "batch":
            allowed = f"'epoch' for monitor={self.monitor!r}"
            raise invalid("interval", allowed, self.interval, "pass 'epoch'")
        check_count("decide_every", self.decide_every, 1)
        check_count("warmup_steps", self.warmup_steps, 0)
        if self.schedule is None:
            object.__setattr__(self, "schedule", END.get(self.config.criterion or ""))
        else:
            fixed_rule(self.schedule)
        if self.total_steps is not None:
            check_count("total_steps", self.total_steps, 1)
        low, high = self.min_lr, self.max_lr
        for name, value in (("min_lr", low), ("max_lr", high)):
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise wrong_type(name, "a number", value, "pass a finite number >= 0")
            if value is not None and not 0.0 <= value < math.inf:
                raise invalid(name, "a finite number >= 0", value, "pass e.g. 1e-5")
        if low is not None and high is not None and low > high:
            raise invalid("min_lr", f"at most max_lr={high:g}", low, "swap or widen the bounds")

    def plain(self) -> dict[str, Any]:
        """Return the settings by name, the rule's among them."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "config"}
        return {**own, **self.config.plain()}

    def decided(self, metrics: float | None) -> tuple[CallbackSettings, str]:
        """Return these settings with a criterion and the run's end, and why, if none was named.

        Args:
            metrics: how many come in the whole run; None is not known.
        """
        left = None if metrics is None else (metrics - self.warmup_steps) / self.decide_every
        config, end, why = decide(self.config, left, scheduled=self.schedule is not None)
        return replace(self, config=config, schedule=self.schedule or end), why

    def as_saved(self, saved: Mapping[str, Any]) -> CallbackSettings:
        """Return these settings with the criterion and the end that saved ones were decided to be.

        Args:
            saved: what `plain` returned, or what a stranger's file holds.
        """
        criterion = saved.get("criterion")
        if self.config.criterion is not None or criterion not in DEFAULTS:
            return self
        end = self.schedule or END.get(criterion)
        return replace(self, config=self.config.under(criterion), schedule=end)
