"""The open-loop schedule of a Keras fit: where the fit stands, and how it ends."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ratewise.errors import PastHorizonWarning
from ratewise.rules.fixed import fixed_scale


class FitSchedule:
    """A schedule with a name over one fit, or over `total_steps` in several.

    A fit of E epochs with n steps each has E n steps; step b of epoch e is the one of number
    ``e n + b``, from 0, whichever epoch the fit began with. The height of a step is that of
    `ratewise.rules.fixed.fixed_scale`, ramp or not. Where Keras does not know n before a whole
    epoch was counted, the height changes from epoch to epoch until then.

    Args:
        name: what `ratewise.rules.fixed.fixed_rule` takes; None is none.
        total_steps: the run's length in optimizer steps; None is the fit's.

    >>> schedule = FitSchedule("linear", None)
    >>> schedule.begin_epoch(0, {"epochs": 2, "steps": 2}, iterations=0)
    >>> [schedule.height] + [schedule.after(batch) for batch in range(2)]
    [1.0, 0.75, 0.5]
    """

    def __init__(self, name: str | None, total_steps: int | None) -> None:
        self.name, self.total_steps = name, total_steps
        self.height = 1.0  #: of the next step
        self._first = self._steps = self._total = self._seen = 0
        self._told = False

    def begin_fit(self) -> None:
        """Forget how long an epoch was."""
        self._steps = self._seen = 0

    def begin_epoch(
        self, epoch: int, fit: Mapping[str, Any], *, iterations: int, batches: int = 1
    ) -> None:
        """Take in where an epoch begins.

        Args:
            epoch: its number, from 0.
            fit: `params` of a callback: ``"epochs"``, and ``"steps"`` of an epoch, or None.
            iterations: steps that the optimizer has made.
            batches: that it makes a step of, where it accumulates gradients.
        """
        self._steps = fit.get("steps") or self._seen
        self._seen = 0
        if self.total_steps is None:
            self._first = epoch * (self._steps or 1)
            self._total = fit["epochs"] * (self._steps or 1)
        else:
            self._first, self._total = iterations * batches, self.total_steps * batches
        if self.name is not None and self._first >= self._total and not self._told:
            self._told = True
            warnings.warn(
                f"step {iterations} is beyond total_steps={self.total_steps}: the final rate "
                f"holds, {self._at(self._total):.3g} of the full one; pass the length of all fits",
                PastHorizonWarning,
                stacklevel=2,
            )
        self.height = self._at(self._first)

    def length(
        self, fit: Mapping[str, Any], interval: str, *, batches: int = 1, at_once: int = 1
    ) -> float | None:
        """Return how many batches or epochs the run has, or None where that is not known yet.

        Args:
            fit: as above.
            interval: "batch" or "epoch".
            batches: as above.
            at_once: batches that Keras reports as one.

        >>> FitSchedule(None, None).length({"epochs": 2, "steps": 50}, "batch")
        100.0
        """
        steps = fit.get("steps")
        if interval == "epoch" and self.total_steps is None:
            return float(fit["epochs"])
        if self.total_steps is not None:
            total = self.total_steps * batches
            each = at_once if interval == "batch" else steps
            return total / each if each else None
        return fit["epochs"] * steps / at_once if steps else None

    def after(self, batch: int) -> float:
        """Return the height of the step after this batch of the epoch; nothing comes after the
        last one, whose rate stays.
        """
        self._seen = batch + 1
        if self.name is not None and (self._steps or self.total_steps is not None):
            step = self._first + self._seen
            self.height = self.height if step == self._total else self._at(step)
        return self.height

    def _at(self, step: int) -> float:
        return 1.0 if self.name is None else fixed_scale(self.name, step, self._total)
