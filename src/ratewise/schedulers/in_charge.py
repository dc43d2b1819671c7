"""One scheduler steers a parameter group: a new one takes over from an older one, and says so."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, cast

from torch.optim import Optimizer

from ratewise.errors import SchedulerReplaced, SchedulerReplacedWarning
from ratewise.schedulers.step_hooks import AroundSteps, let_go, listeners

Chosen = Sequence[int] | None


class Steerer(AroundSteps, Protocol):
    """A scheduler that scales what the steps of its groups move."""

    optimizer: Optimizer
    _chosen: list[int] | None  #: indices of its groups; None is all, later ones included

    @abstractmethod
    def give_up(self, successor: str) -> None:
        """Put the groups' rates back as they are without a schedule, and do nothing from now on."""


def overlap(one: Chosen, other: Chosen) -> bool:
    """Return whether two choices of groups have one in common; None is all groups.

    >>> overlap([0, 2], [1]), overlap([0, 2], [2]), overlap(None, [1])
    (False, True, True)
    """
    return one is None or other is None or bool(set(one) & set(other))


def predecessors(scheduler: Steerer) -> list[Steerer]:
    """Return the living schedulers that steer a group of `scheduler`'s."""
    # whoever hangs on an optimizer's steps is one that steers
    others = cast("list[Steerer]", listeners(scheduler.optimizer))
    return [x for x in others if x is not scheduler and overlap(scheduler._chosen, x._chosen)]


def take_over(scheduler: Steerer, stacklevel: int) -> bool:
    """Let the schedulers that steer a group of `scheduler`'s give up; one warning names all.

    Returns whether there were any.
    """
    older = predecessors(scheduler)
    if not older:
        return False
    name = _name(scheduler)
    for other in older:
        let_go(other, other.optimizer)
        other.give_up(name)
    names = " and ".join(map(_name, older))
    warnings.warn(
        f"a new {name} takes over from {names}, which steered the same optimizer: a step is "
        "scaled once, and step() of the older one raises SchedulerReplaced from now on; pass "
        "groups= to give each parameter groups of its own",
        SchedulerReplacedWarning,
        stacklevel=stacklevel,
    )
    return True


def replaced(scheduler: Steerer, successor: str) -> SchedulerReplaced:
    """Return the error for a scheduler that is used although another has taken over."""
    return SchedulerReplaced(
        f"this {_name(scheduler)} was replaced by a {successor} on the same optimizer: use that "
        "one, or construct both with different groups="
    )


def _name(scheduler: Steerer) -> str:
    chosen = scheduler._chosen
    where = "all groups" if chosen is None else f"groups {list(chosen)}"
    return f"{type(scheduler).__name__} of {where}"
