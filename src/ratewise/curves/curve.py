"""What is known of one training: its rates and losses by step, and a few facts about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratewise.errors import InvalidArgument, invalid

#: Optimizer steps that a curve may have: one of more is damage, not a training.
MOST_STEPS = 10_000_000
#: A change is a jump, not a part of a slope, where those beside it are this much smaller.
_JUMP = 0.02
Floats = NDArray[np.float64]
Steps = NDArray[np.int64]


class Series(NamedTuple):
    """Numbers at optimizer steps, which rise; each number is finite."""

    step: Steps
    value: Floats

    @classmethod
    def of(cls, step: ArrayLike, value: ArrayLike) -> Series:
        """Return the series of sound data; `ratewise.curves.series.sound` takes any data.

        Raises:
            InvalidArgument: steps that do not rise from 0 or more, or a number that is not finite.
        """
        steps, values = np.asarray(step, np.int64), np.asarray(value, np.float64)
        if steps.shape != values.shape or steps.ndim != 1:
            shapes = f"{steps.shape} and {values.shape}"
            raise invalid("step and value", "as long as each other", shapes, "pass a value a step")
        if len(steps) and (steps[0] < 0 or np.any(np.diff(steps) <= 0)):
            raise InvalidArgument("step must rise, from 0 or more: sort the points by step")
        if not np.isfinite(values).all():
            raise InvalidArgument("value must be finite: leave out what is not")
        return cls(steps, values)

    @classmethod
    def empty(cls) -> Series:
        """Return the series without a point."""
        return cls(np.empty(0, np.int64), np.empty(0))

    def __len__(self) -> int:
        return len(self.step)

    def until(self, step: float) -> Series:
        """Return the points up to a step, itself included."""
        n = int(np.searchsorted(self.step, step, "right"))
        return Series(self.step[:n], self.value[:n])

    def after(self, step: float) -> Series:
        """Return the points after a step."""
        n = int(np.searchsorted(self.step, step, "right"))
        return Series(self.step[n:], self.value[n:])


@dataclass(frozen=True)
class Facts:
    """What a log tells of the training beside its curves; empty or 0 is not known."""

    optimizer: str = ""
    schedule: str = ""
    task: str = ""
    batch_size: int = 0  #: samples an optimizer step
    parameters: int = 0  #: of the model
    passes: float = 0.0  #: over the training data
    total_steps: int = 0  #: that were planned
    family: str = ""  #: of models, in words of the user's own
    parent: str = ""  #: the run from whose checkpoint this one went on


@dataclass(frozen=True)
class Curve:
    """One training as its log tells it.

    The rate at a step is the one that the step was made with, and a loss at a step is that after
    it. Nothing is filled in: each series has the points that were logged and are sound, and
    `left_out` says in words what was not.
    """

    name: str
    lr: Series = field(default_factory=Series.empty)  #: of the first parameter group
    train_loss: Series = field(default_factory=Series.empty)
    held_out_loss: Series = field(default_factory=Series.empty)
    facts: Facts = Facts()
    left_out: tuple[str, ...] = ()
    diverged_at: int | None = None  #: the step of a loss that was not finite, where it ends

    @property
    def steps(self) -> int:
        """The last step that anything is known of."""
        last = [series.step[-1] for series in self.series.values() if len(series)]
        return int(max(last, default=0))

    @property
    def series(self) -> dict[str, Series]:
        """The three series by name."""
        return {
            "lr": self.lr,
            "train_loss": self.train_loss,
            "held_out_loss": self.held_out_loss,
        }

    @property
    def peak_lr(self) -> float:
        """The highest rate.

        Raises:
            InvalidArgument: no rate is known.
        """
        if not len(self.lr):
            raise no_rates(self.name)
        return float(self.lr.value.max())

    def loss(self, which: str = "auto") -> Series:
        """Return a loss.

        Args:
            which: "held_out", "train", or "auto": held-out where it was measured.

        Raises:
            InvalidArgument: there is no such loss.
        """
        known: Mapping[str, Series] = {"held_out": self.held_out_loss, "train": self.train_loss}
        if which == "auto":
            which = "held_out" if len(self.held_out_loss) else "train"
        if which not in known:
            raise invalid("loss", "auto, held_out or train", which, "pass loss='held_out'")
        if not len(known[which]):
            fix = "name its column, or use another loss"
            raise InvalidArgument(f"run {self.name!r} has no {which} loss: {fix}")
        return known[which]

    def rates(self, steps: int | None = None) -> Floats:
        """Return the rates of the steps 1, 2, ..., of which a log has some.

        Between two points the rate is linear, but for a jump: a change with (almost) none before
        and after it happens at its later point. Before the first point the rates are not known
        and 0 (the laws have a constant for what came before); after the last one the rate stays.

        Args:
            steps: how many; None is all that anything is known of.

        Raises:
            InvalidArgument: the curve has no rates.

        >>> curve = Curve("jump", Series.of([1, 4, 8, 12], [1.0, 1.0, 0.5, 0.5]))
        >>> curve.rates(9)
        array([1. , 1. , 1. , 1. , 1. , 1. , 1. , 0.5, 0.5])
        """
        if not len(self.lr):
            raise no_rates(self.name)
        steps = self.steps if steps is None else steps
        if not 1 <= steps <= MOST_STEPS:
            raise invalid("steps", f"in [1, {MOST_STEPS}]", steps, "pass the length of a training")
        known, rate = self.lr
        change = np.abs(np.diff(rate))
        beside = np.maximum(np.r_[np.inf, change[:-1]], np.r_[change[1:], np.inf])
        jump = np.flatnonzero(beside < _JUMP * change)
        at = np.r_[known.astype(float), known[jump + 1] - 1.0]
        value = np.r_[rate, rate[jump]]
        order = np.lexsort((np.r_[np.ones(len(known)), np.zeros(len(jump))], at))
        every = np.arange(1, steps + 1)
        return np.where(every < known[0], 0.0, np.interp(every, at[order], value[order]))

    def with_facts(self, **known: object) -> Curve:
        """Return the curve with facts that somebody knows beside it."""
        return replace(self, facts=replace(self.facts, **known))  # type: ignore[arg-type]


def no_rates(name: str) -> InvalidArgument:
    """Return the error for a curve without rates."""
    return InvalidArgument(
        f"run {name!r} has no learning rates: name their column, or the schedule that it was "
        "trained under (--schedule cosine --peak-lr 3e-4, or with_schedule)"
    )
