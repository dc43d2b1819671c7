"""The part of a step's factors that the rates are multiplied by, for that step alone.

A displacement that is too small to be rounded well cannot be made larger afterwards: bf16 weights
would not have moved at all. So where the step is a multiple of the rate, the rate is multiplied by
the largest factor of its group beforehand, and what is left for afterwards is at most 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from ratewise.errors import invalid
from ratewise.rate_proportional import RATE_PROPORTIONAL
from ratewise.rules.update_ratio import QUIET

Scale = float | Tensor


def check_kind(optimizer: Any) -> None:
    """Raise unless an optimizer's steps can be scaled from outside.

    Raises:
        InvalidArgument: it keeps past weights itself: LBFGS, Schedule-Free.
    """
    kind = type(optimizer)
    if isinstance(optimizer, optim.LBFGS) or kind.__module__.startswith("schedulefree"):
        fix = "it keeps past weights itself and would not see the scaling; use e.g. AdamW or SGD"
        raise invalid("optimizer", "one whose steps can be scaled", kind.__name__, fix)


class Prescale:
    """Multiplies the groups' rates by factors for a step, and puts them back after it.

    Where a rate could not be written without a device's value on the host (a Python rate, weights
    on a device) it is only raised from far below usual rates; where the optimizer is not in
    `ratewise.rate_proportional` it is left alone.

    Args:
        optimizer: only its kind is looked at.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._linear = type(optimizer) in RATE_PROPORTIONAL
        self._saved: list[tuple[dict[str, Any], Any]] = []
        self._terms: list[tuple[dict[str, Any], Tensor, Tensor, float]] = []
        #: What each group's rate was multiplied by; None is not at all.
        self.applied: list[Scale | None] = []

    def apply(
        self,
        groups: Sequence[dict[str, Any]],
        factors: Sequence[Tensor],
        probes: Sequence[Tensor],
        range_factors: Sequence[float],
    ) -> None:
        """Multiply each group's rate by its factor.

        Args:
            groups: parameter groups.
            factors: one a group, on the parameters' device; 0 is not known yet.
            probes: the factors where none is known yet, one a group.
            range_factors: what rates are multiplied by where a factor cannot be read, one a
                group.
        """
        self.undo()
        self._terms = list(zip(groups, factors, probes, range_factors, strict=True))
        self._apply_all()

    def take(self, factors: Sequence[Tensor]) -> None:
        """Take other factors for a step that was begun, before its closure returns."""
        self._terms = [(g, f, p, r) for (g, _, p, r), f in zip(self._terms, factors, strict=True)]

    def around(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """Return the closure, with the groups' own rates for as long as it runs.

        Where it raises an error, the rates are left as they were.
        """

        def closed() -> Any:
            self.undo()
            loss = closure()
            self._apply_all()
            return loss

        return closed

    def _apply_all(self) -> None:
        self.applied = [self._apply(*terms) for terms in self._terms]

    def _apply(
        self, group: dict[str, Any], factor: Tensor, probe: Tensor, range_factor: float
    ) -> Scale | None:
        rate = group["lr"]
        if not self._linear:
            return None
        if isinstance(rate, Tensor):
            if rate.device != factor.device:
                return None
            share = torch.where(factor > 0, factor, probe)
            self._saved.append((group, rate.clone()))
            rate.mul_(share)
            return share
        on_host = factor.device.type == "cpu"
        if not on_host and range_factor == 1.0:
            return None
        number = float(factor) or float(probe) if on_host else range_factor
        self._saved.append((group, rate))
        group["lr"] = rate * number
        return number

    def undo(self) -> None:
        """Put the rates back as they were; also where a step was begun and never ended."""
        for group, rate in self._saved:
            if isinstance(rate, Tensor):
                group["lr"].copy_(rate)
            else:
                group["lr"] = rate
        self._saved = []

    def shares(self) -> list[Scale]:
        """Return what each group's displacements have already been multiplied by."""
        return [1.0 if share is None else share for share in self.applied]

    def whole(self, scales: Sequence[Scale]) -> list[Scale]:
        """Return what makes the groups' displacements those of factor 1 at the full rate.

        Args:
            scales: each group's rate over its full rate; 0 is returned where it is below `QUIET`.
        """
        return [_inverse(*both) for both in zip(self.shares(), scales, strict=True)]


def _inverse(share: Scale, scale: Scale) -> Scale:
    if isinstance(scale, Tensor):
        return torch.where(scale >= QUIET, 1.0 / (share * scale), 0.0)
    if not scale >= QUIET:
        return 0.0
    return 1.0 / (share * scale)
