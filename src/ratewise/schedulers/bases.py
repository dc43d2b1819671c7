"""The base rates of a scheduler's groups: where torch keeps them, and what multiplies them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ratewise.schedulers.arguments import check_positive, check_scaled


class BaseRates:
    """The part of a scheduler that keeps base rates; abstract, mixed into `ReactiveLR`."""

    optimizer: Any
    base_lrs: list[float | Tensor]
    last_epoch: int
    _base: list[float]
    _prepare_to_write: Any
    _rates: Any
    _record: Any
    _rule: Any
    # what `ReactiveLR` has
    _groups: Any
    _meet_new_groups: Any
    _rates_device: Any
    _rebase: Any
    _to_device: Any
    _to_host: Any
    _write: Any

    def _name_others(self) -> None:
        """Put the rates of groups where torch keeps base rates, scheduled or not."""
        new = self.optimizer.param_groups[len(self.base_lrs) :]
        self.base_lrs += [initial(group) for group in new]

    def rescale(self, factor: float, *, reason: str = "rescale", metric: float = math.nan) -> None:
        """Multiply the base rates, and with them the rates and bounds that depend on them.

        Bounds that were given as numbers stay, and hold. A guard lowers the rate by it.

        Args:
            factor: > 0; 0.5 halves the rates.
            reason: what the event is called.
            metric: what the event shows as its loss.

        Raises:
            WrongType, InvalidArgument: `factor` is no such number, or takes a rate out of what its
                type can hold; nothing has changed.
        """
        check_positive("factor", factor, "pass 0.5 to halve the rates")
        self._prepare_to_write()
        self._meet_new_groups()
        self._to_host()
        before, old = self._rule.before(), self._rates.current(self._groups())
        for group, *rates in zip(self._groups(), self._base, old, strict=True):
            check_scaled("factor", factor, rates, group["lr"])
        self._set_base([base * factor for base in self._base], restart=False)
        why = (metric, metric, *before, reason)
        self._record.note(self.last_epoch, why, old, self._rates.current(self._groups()))
        self._to_device(self._rates_device(), unless_cpu=True)

    def _set_base(self, base: Sequence[float], *, restart: bool) -> None:
        self._rebase(base, restart=restart)
        self._name_base()
        self._write()

    def _name_base(self) -> None:
        """Put the base rates where torch keeps them."""
        for group, rate in zip(self._groups(), self._base, strict=True):
            kept = group.get("initial_lr")
            group["initial_lr"] = torch.full_like(kept, rate) if isinstance(kept, Tensor) else rate
        self.base_lrs = [initial(group) for group in self.optimizer.param_groups]


def initial(group: dict[str, Any]) -> float | Tensor:
    """Return a group's base rate; one that nobody schedules may have none but its rate."""
    return copied(group.get("initial_lr", group["lr"]))


def copied(rate: float | Tensor) -> float | Tensor:
    """Return a rate that nobody else writes to."""
    return rate.clone() if isinstance(rate, Tensor) else rate
