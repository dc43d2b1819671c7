r"""Schedules of the rate inside the bound: each gives the multiple c of 1 / L for a step.

A schedule is an object with `rate(observation) -> c`; whatever it says is cut to [1e-3, 1.9], so
that every step stays below the limit 2 / L. `make` builds those that have a name.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ratewise.errors import RatewiseError, invalid, unknown
from ratewise.nmf.arrays import Array
from ratewise.nmf.learned import LEAST, MOST
from ratewise.nmf.rows import inner
from ratewise.rules.fixed import fixed_scale
from ratewise.rules.greedy_config import GreedyConfig, GreedyLimits
from ratewise.rules.greedy_float import FloatGreedy


class Observation:
    """What a schedule can read before a step of the components; values are computed on demand.

    All are per row of the data and in the metric of the step, sum_j |.|_j^2 / L_j, which no scale
    of a component changes.

    Args:
        step: steps of the components made before this one.
        total_steps: steps in the run; None if unknown.
        loss: returns f over the rows whose gradient is taken, with penalties.
        rows: how many these are, each with the weight that it has left.
        gradient: of f / rows, [k, m].
        gain: rows / L_j, [k, 1].
        last: the gradient of the step before, where it was, or None.
    """

    def __init__(
        self,
        step: int,
        total_steps: int | None,
        loss: Callable[[], float],
        rows: float,
        gradient: Array,
        gain: Array,
        last: Array | None,
    ) -> None:
        self.step, self.total_steps = step, total_steps
        self._loss, self._rows = loss, rows
        self._gradient, self._gain, self._last = gradient, gain, last

    @property
    def progress(self) -> float:
        """Share of the run that is over, in [0, 1]; 0 where its length is not known."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0

    @cached_property
    def loss(self) -> float:
        """f of the rows in the statistics, before the step, per row: what the step lowers."""
        return self._loss() / self._rows

    @cached_property
    def square(self) -> float:
        """|g_t|^2 / L."""
        return inner(self._gradient * self._gain, self._gradient)

    @cached_property
    def inner(self) -> float:
        """g_t . g_(t-1) / L, with the gradient that the last step saw; 0 at the first step."""
        return 0.0 if self._last is None else inner(self._gradient * self._gain, self._last)


@runtime_checkable
class RateSchedule(Protocol):
    """A schedule of the rate, which StochasticNMF asks before each step of the components."""

    def rate(self, observation: Observation) -> float:
        """Return c, the multiple of 1 / L for this step."""


class BoundSchedule:
    """c = 1: half of the limit, where the bound on the next loss is lowest."""

    def rate(self, observation: Observation) -> float:
        """Return 1."""
        return 1.0


class FixedSchedule:
    """c = base times a schedule of time alone, by name from `ratewise.rules.fixed`."""

    def __init__(self, name: str, base: float, total_steps: int | None) -> None:
        if total_steps is None and name != "constant":
            raise _no_length(name)
        self._name, self._base, self._total = name, base, total_steps or 1

    def rate(self, observation: Observation) -> float:
        """Return c."""
        return self._base * fixed_scale(self._name, observation.step, self._total)


class GreedySchedule:
    """GreedyLR on the loss that the steps see: up to 1.9 while it falls, down while it does not.

    A fall counts however small it is: a pass may be a hundred steps, each with its part of it.
    """

    def __init__(self, base: float) -> None:
        limits = GreedyLimits((LEAST / base,), (MOST / base,), (0.0,))
        self._rule, self._base = FloatGreedy(GreedyConfig(threshold=0.0), limits), base

    def rate(self, observation: Observation) -> float:
        """Return c."""
        self._rule.update(observation.loss)
        return self._base * self._rule.scale[0]


class LearnedSchedule:
    """A policy of `ratewise.nmf.learned`, which decides from the measurements of earlier steps.

    Where these are outside the range that it was trained on, it keeps the cosine, and warns once.
    """

    def __init__(self, policy: Any, total_steps: int | None) -> None:
        from ratewise.nmf import learned

        if total_steps is None:
            raise _no_length("learned")
        self._total, self._warned = total_steps, False
        self._schedule = learned.PolicySchedule(
            learned.load(policy), total_steps, np.zeros(1, np.float64)
        )

    def rate(self, observation: Observation) -> float:
        """Return c."""
        c = float(self._schedule.c[0])
        if observation.step < self._total:
            seen = (observation.loss, observation.inner, observation.square)
            self._schedule.observe(*(np.array([value]) for value in seen))
        if self._schedule.outside[0] and not self._warned:
            self._warned = True
            warnings.warn(
                "the run is outside of what the learned schedule's policy was trained on: it "
                "follows the plain cosine while that lasts",
                UserWarning,
                stacklevel=2,
            )
        return c


_Builder = Callable[[float, "int | None", Any], RateSchedule]
#: name -> schedule from (base multiple, total steps, policy)
NAMED: dict[str, _Builder] = {
    "bound": lambda base, total, policy: BoundSchedule(),
    "constant": lambda base, total, policy: FixedSchedule("constant", base, total),
    "step": lambda base, total, policy: FixedSchedule("step", base, total),
    "exponential": lambda base, total, policy: FixedSchedule("exponential", base, total),
    "cosine": lambda base, total, policy: FixedSchedule("cosine", base, total),
    "greedy": lambda base, total, policy: GreedySchedule(base),
    "learned": lambda base, total, policy: LearnedSchedule(policy, total),
}


def make(name: str, base: float, total_steps: int | None, policy: Any = "default") -> RateSchedule:
    """Return a fresh schedule.

    Args:
        name: a key of `NAMED`.
        base: multiple of 1 / L that "constant" holds, and the others of time and "greedy" start
            from, in (0, 1.9].
        total_steps: of the run; what depends on time needs it.
        policy: for "learned": a name, a file's path or an `NMFPolicy`.

    Raises:
        UnknownName: no schedule is called so, or no policy.
        InvalidArgument: the length is not known.

    >>> make("cosin", 1.0, 10)
    Traceback (most recent call last):
    ...
    ratewise.errors.UnknownName: unknown schedule 'cosin': did you mean 'cosine'? known: bound, \
constant, cosine, exponential, greedy, learned, step
    """
    if name not in NAMED:
        raise unknown("schedule", name, NAMED)
    return NAMED[name](base, total_steps, policy)


def clipped(c: float) -> float:
    """Return c cut to [1e-3, 1.9].

    Raises:
        InvalidArgument: it is not a number.

    >>> clipped(7.0), clipped(0.0)
    (1.9, 0.001)
    """
    try:
        number = float(c)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise invalid("rate(observation)", "a number", c, "correct the schedule")
    return min(MOST, max(LEAST, number))


def _no_length(name: str) -> RatewiseError:
    fix = "pass how many steps of the components there will be, or schedule='bound'"
    return invalid("total_steps", f"an integer >= 1 for schedule={name!r} here", None, fix)
