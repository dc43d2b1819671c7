"""Where a scheduler's rates come from, before schedule and ramp; an interface."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

if TYPE_CHECKING:
    from ratewise.schedulers.base import ScheduledLR


class RateSource(ABC):
    """The part of a scheduler that makes rates out of base rates; abstract.

    A scheduler owns one. Numbers are Python floats, or tensors on the device of the rates after
    `move`.
    """

    #: Whether the schedule's time is counted in the optimizer's steps, else in calls of `step`.
    in_optimizer_steps: ClassVar[bool] = False
    base: list[float]  #: the scheduled groups' base rates

    @abstractmethod
    def rates(self) -> list[Any]:
        """Return each group's rate before schedule, ramp and what others multiply it by."""

    @abstractmethod
    def add_group(self, base: float) -> None:
        """Take in one more parameter group with this base rate."""

    @abstractmethod
    def rebase(self, base: Sequence[float], *, restart: bool) -> None:
        """Put other base rates in place; `restart` puts the scales back to 1."""

    @abstractmethod
    def move(self, device: torch.device | None, dtype: torch.dtype) -> None:
        """Go on with tensors on a device, or with Python floats for None."""

    @abstractmethod
    def to_state(self) -> dict[str, Any]:
        """Return plain data."""

    @abstractmethod
    def check(self, name: str, state: Any) -> None:
        """Raise `InvalidState` unless `to_state` might have returned this; `name` says where."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `to_state` returned, onto Python floats."""

    # -- what most sources leave as it is -------------------------------------------------------

    def attach(self, scheduler: ScheduledLR) -> None:
        """Belong to this scheduler, which is being constructed, or was copied."""
        return

    def listen(self) -> None:
        """Attach to the optimizer's steps, if there is anything to do in them."""
        return

    def begin(self, first: bool) -> None:
        """Called when the scheduler begins; `first` is at construction."""
        return

    def check_groups(self, groups: Sequence[dict[str, Any]]) -> None:
        """Raise unless these groups can be taken in."""
        return

    def check_usable(self) -> None:
        """Raise unless rates may be written."""
        return

    def before(self) -> tuple[Any, Any, Any]:
        """Return what the next metric is compared with, and the counts of good and bad ones."""
        return math.nan, 0, 0

    def restart(self) -> None:
        """Put every scale back to 1, where a schedule begins again."""
        return

    def consequences(self, saved: dict[str, Any]) -> str:
        """Return, for a message, what differs now from a state that was loaded."""
        return ""

    def check_agreement(self) -> None:
        """Raise `RanksDisagree` unless all ranks have the same memory."""
        return
