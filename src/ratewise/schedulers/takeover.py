"""One scheduler scales the steps of a parameter group: a new one takes over, with a warning."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, cast

from ratewise.errors import SchedulerReplaced, SchedulerReplacedWarning
from ratewise.schedulers.step_hooks import StepListener, detach_hooks, listeners

Chosen = Sequence[int] | None


class Control(StepListener, Protocol):
    """The part of a scheduler that scales what the steps of its groups move."""

    @property
    def scheduler(self) -> Any:
        """The scheduler, which has an optimizer and a choice of its groups."""

    @abstractmethod
    def hand_over(self, successor: str) -> None:
        """Put the groups' rates back as they are without a schedule, and do nothing from now on."""


def overlap(one: Chosen, other: Chosen) -> bool:
    """Return whether two choices of groups have one in common; None is all groups.

    >>> overlap([0, 2], [1]), overlap([0, 2], [2]), overlap(None, [1])
    (False, True, True)
    """
    return one is None or other is None or bool(set(one) & set(other))


def predecessors(control: Control) -> list[Control]:
    """Return the living ones that scale the steps of a group of `control`'s."""
    mine = control.scheduler
    # what is attached to an optimizer's steps scales them
    others = cast("list[Control]", listeners(mine.optimizer))
    return [x for x in others if x is not control and overlap(mine._chosen, x.scheduler._chosen)]


def take_over(control: Control, stacklevel: int) -> bool:
    """Make those that scale the steps of `control`'s groups hand over; one warning names all.

    Returns whether there were any.
    """
    older = predecessors(control)
    if not older:
        return False
    name = _name(control)
    for other in older:
        detach_hooks(other, other.scheduler.optimizer)
        other.hand_over(name)
    names = " and ".join(map(_name, older))
    warnings.warn(
        f"a new {name} takes over from {names}, which controlled the same optimizer's steps: a "
        "step is scaled once, and step() of the older one raises SchedulerReplaced from now on; "
        "pass groups= to give each parameter groups of its own",
        SchedulerReplacedWarning,
        stacklevel=stacklevel,
    )
    return True


def replaced(control: Control, successor: str) -> SchedulerReplaced:
    """Return the error for a scheduler that is used although another has taken over."""
    return SchedulerReplaced(
        f"this {_name(control)} was replaced by a {successor} on the same optimizer: use that "
        "one, or construct both with different groups="
    )


def _name(control: Control) -> str:
    chosen = control.scheduler._chosen
    where = "all groups" if chosen is None else f"groups {list(chosen)}"
    return f"{type(control.scheduler).__name__} of {where}"
