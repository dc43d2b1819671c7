"""Rules of the simulator that this study alone needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ratewise.simulate import Rule, Signals


@dataclass(frozen=True)
class Epochs:
    """Another rule that sees the mean loss of each `count`-th of the run, once: an epoch's."""

    rule: Rule
    count: int = 20

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return the rule's first scale, and its state with the sum of an epoch."""
        scale, state = self.rule.start(zero, self.count)
        return scale, (scale, state, zero, max(1, steps // self.count))

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the same scale, or at an epoch's end the rule's next one."""
        scale, inner, total, length = state
        total = total + seen.loss
        if seen.step % length == 0:
            epoch = seen._replace(step=seen.step // length, loss=total / length)
            scale, inner = self.rule.update(inner, epoch)
            total = total * 0.0
        return scale, (scale, inner, total, length)


@dataclass(frozen=True, eq=False)
class Fed:
    """Another rule that sees losses which are not its runs' own.

    Args:
        rule: what decides.
        losses: [steps, runs], float64.
    """

    rule: Rule
    losses: Tensor

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return what the rule starts with."""
        return self.rule.start(zero, steps)

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the rule's next scale after the losses of this step."""
        return self.rule.update(state, seen._replace(loss=self.losses[seen.step - 1]))
