"""The rates of GreedyLR: base rates times the rule's scales, within bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ratewise.errors import invalid, wrong_type
from ratewise.rules import schema
from ratewise.rules.checks import is_number
from ratewise.rules.greedy_config import RELATIVE_BOUNDS, GreedyConfig, GreedyLimits, bounded
from ratewise.rules.greedy_float import MEMORY, FloatGreedy, check_memory
from ratewise.schedulers.greedy_tensor import TensorGreedy
from ratewise.schedulers.source import RateSource

Bound = float | Sequence[float] | None

_BOUNDS = schema.several(schema.number(0.0))


def _given_bound(name: str, value: Any) -> None:
    """Check a bound as the constructor takes it."""
    check = _BOUNDS if isinstance(value, list) else schema.optional(schema.number(0.0))
    check(name, value)


#: What `GreedyRates.to_state` must look like; `GreedyRates.check` has what depends on several.
_STATE = schema.record(
    {
        "config": schema.settings(GreedyConfig),
        "base": schema.several(schema.rate),
        "bounds": schema.record({"min_lr": _given_bound, "max_lr": _given_bound}),
        "min_lr": _BOUNDS,
        "max_lr": _BOUNDS,
        "memory": schema.record(MEMORY),
    }
)


class GreedyRates(RateSource):
    """Each group's ``clamp(base * scale, min_lr, max_lr)``, and the rule that decides the scale.

    Args:
        config: the rule's settings.
        bounds: `min_lr` and `max_lr` as they were given.
        strict: a base rate outside bounds is an error, and the bounds hold every rate.
    """

    def __init__(self, config: GreedyConfig, bounds: tuple[Bound, Bound], *, strict: bool) -> None:
        self.rule: Any = FloatGreedy(config, GreedyLimits((), (), ()))
        self._bounds, self._strict = bounds, strict
        self.base: list[float] = []
        self._min_lr: list[float] = []
        self._max_lr: list[float] = []
        self._last: tuple[list[float], list[float]] = [], []  # scales, and the rates that they gave

    def rates(self) -> list[Any]:
        """Return each group's base rate times its scale, within its bounds."""
        on_device = isinstance(self.rule, TensorGreedy)
        if self._strict and not on_device:  # base * (bound / base) may miss by a rounding
            if self.rule.scale != self._last[0]:
                bound = bounded(self.base, self.rule.scale, self._min_lr, self._max_lr)
                self._last = list(self.rule.scale), bound
            return self._last[1]
        rates = [base * scale for base, scale in zip(self.base, self.rule.scale, strict=True)]
        if not self._strict:
            return rates
        bounds = zip(rates, self._min_lr, self._max_lr, strict=True)
        return [torch.clamp(rate, low, high) for rate, low, high in bounds]

    def move(self, device: torch.device | None, dtype: torch.dtype) -> None:
        """Decide on tensors on a device, or on Python floats for None."""
        if device is None:
            rule = FloatGreedy(self.rule.config, self.rule.limits)
            rule.restore(self.rule.state())
            self.rule = rule
        else:
            self.rule = TensorGreedy(self.rule, device, dtype)

    def decide_by(self, config: GreedyConfig) -> None:
        """Decide by the settings that a criterion was found for, before the first metric."""
        if config.criterion == "count":  # what the rule does already
            self.rule.config = config
            return
        rule, now = FloatGreedy(config, self.rule.limits), self.rule
        self.rule = now.anew(rule) if isinstance(now, TensorGreedy) else rule

    def before(self) -> tuple[Any, Any, Any]:
        """Return the reference that the next metric meets, and the counts."""
        return self.rule.before()

    def restart(self) -> None:
        """Put every scale back to 1."""
        self.rule.restart()

    def add_group(self, base: float) -> None:
        """Take in one more parameter group with this base rate."""
        low, high = self._bounds_of(len(self.base), base)
        self.base.append(base)
        self._min_lr.append(low)
        self._max_lr.append(high)
        self.rule.scale.append(1.0)
        self._set_limits()

    def rebase(self, base: Sequence[float], *, restart: bool) -> None:
        """Put other base rates in place; `restart` puts the scales back to 1."""
        bounds = [self._bounds_of(index, rate, hold=not restart) for index, rate in enumerate(base)]
        self.base = list(base)
        self._min_lr = [low for low, _ in bounds]
        self._max_lr = [high for _, high in bounds]
        if restart:
            self.rule.restart()
        self._set_limits()

    def _bounds_of(self, index: int, base: float, hold: bool = False) -> tuple[float, float]:
        """Return a group's bounds: those given, else multiples of its base rate.

        With `hold` a base rate outside given bounds is no error: the bounds hold its rate.
        """
        low, high = _bounds(self._bounds, index, base)
        if hold:
            return min(low, high), max(low, high)
        if low > high and None not in self._bounds:
            raise invalid("min_lr", f"at most max_lr={high:g}", low, "swap or widen the bounds")
        # A rate in float32 may miss the bound that it was set to by a rounding.
        low, high = (base if math.isclose(base, x, rel_tol=1e-6) else x for x in (low, high))
        if self._strict and not low <= base <= high:
            fix = f"group {index} starts outside: widen the bounds or change the group's lr"
            raise invalid("lr", f"in [min_lr, max_lr] = [{low:g}, {high:g}]", base, fix)
        return low, high

    def _set_limits(self) -> None:
        self._last = [], []
        self.rule.limits = GreedyLimits.absolute(
            self.base, self._min_lr, self._max_lr, self.rule.config.eps
        )

    def to_state(self) -> dict[str, Any]:
        """Return plain data: waits for a device."""
        return {
            "config": self.rule.config.plain(),
            "base": list(self.base),
            "bounds": {
                name: list(bound) if isinstance(bound, Sequence) else bound
                for name, bound in zip(("min_lr", "max_lr"), self._bounds, strict=True)
            },
            "min_lr": list(self._min_lr),
            "max_lr": list(self._max_lr),
            "memory": self.rule.state(),
        }

    def check(self, name: str, state: Any) -> None:
        """Raise `InvalidState` unless `to_state` might have returned this."""
        _STATE(name, state)
        base, memory = state["base"], state["memory"]
        schema.same_length(name, state, "base", "min_lr", "max_lr")
        bounds = zip(state["min_lr"], state["max_lr"], strict=True)
        for index, (low, high) in enumerate(bounds):
            allowed = f"at most max_lr[{index}] = {high:g}"
            schema.require(low <= high, f"{name}['min_lr'][{index}]", allowed, low)
        config = GreedyConfig(**state["config"])
        check_memory(f"{name}['memory']", memory, config, len(base))
        for index, (scale, rate) in enumerate(zip(memory["scale"], base, strict=True)):
            allowed = f"at most {schema.LARGEST_RATE:g} over its base rate"
            legal = scale * rate <= schema.LARGEST_RATE
            schema.require(legal, f"{name}['memory']['scale'][{index}]", allowed, scale)

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `to_state` returned, onto Python floats."""
        rule = FloatGreedy(GreedyConfig(**state["config"]), self.rule.limits)
        rule.restore(state["memory"])
        self.rule = rule
        self._bounds = (state["bounds"]["min_lr"], state["bounds"]["max_lr"])
        self.base, self._min_lr, self._max_lr = (
            list(map(float, state[key])) for key in ("base", "min_lr", "max_lr")
        )
        self._set_limits()


def follow_bounds(rule: dict[str, Any]) -> None:
    """Let a state's bounds of each group follow from those that were given."""
    given = (rule["bounds"]["min_lr"], rule["bounds"]["max_lr"])
    both = [_bounds(given, index, base) for index, base in enumerate(rule["base"])]
    rule["min_lr"], rule["max_lr"] = [min(x) for x in both], [max(x) for x in both]


def check_bound(name: str, bound: Bound, groups: int) -> None:
    """Raise unless `bound` is None, a finite number >= 0, or one such number a group."""
    if bound is None:
        return
    if isinstance(bound, str) or not isinstance(bound, int | float | Sequence):
        raise wrong_type(name, "a number or a list, one a parameter group", bound, "pass 1e-5")
    values = list(bound) if isinstance(bound, Sequence) else [bound]
    if isinstance(bound, Sequence) and len(values) != groups:
        fix = "give one number a parameter group, or one number for all"
        raise invalid(name, f"a list of {groups} numbers", values, fix)
    for value in values:
        if not is_number(value):
            raise wrong_type(name, "a number", value, "pass a finite number >= 0")
        if not 0.0 <= value < math.inf:
            raise invalid(name, "a finite number >= 0", value, "pass e.g. 1e-5")


def _bounds(given: tuple[Bound, Bound], index: int, base: float) -> tuple[float, float]:
    """Return group `index`'s bounds as given, else multiples of its base rate."""
    low, high = (
        _bound(bound, index, base * multiple)
        for bound, multiple in zip(given, RELATIVE_BOUNDS, strict=True)
    )
    return low, high


def _bound(bound: Bound, index: int, default: float) -> float:
    """Return group `index`'s bound; a group added after the list was given gets the default."""
    if bound is None:
        return default
    if isinstance(bound, Sequence):
        return float(bound[index]) if index < len(bound) else default
    return float(bound)
