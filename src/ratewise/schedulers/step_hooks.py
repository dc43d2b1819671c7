"""An optimizer's step hooks, held for as long as somebody lives, and no longer."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from typing import Any, Protocol

import torch
from torch.optim import Optimizer


class AroundSteps(Protocol):
    """What hears of each step of an optimizer: before it, and after it."""

    @abstractmethod
    def before_step(self, closure: bool) -> None:
        """Hear that a step begins; `closure` says whether it makes the gradients itself."""

    @abstractmethod
    def after_step(self) -> None:
        """Hear that it has ended; one that raised an error never does."""


def hang_on(listener: AroundSteps, optimizer: Optimizer) -> None:
    """Let `listener` hear of the optimizer's steps through torch's public hooks.

    Args:
        listener: held weakly; with it the hooks go.
        optimizer: whose steps they are. A copy of it has no hooks.
    """
    weakly = weakref.ref(listener)

    def before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        living = weakly()
        if living is not None:  # args[0] is the optimizer itself
            closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
            living.before_step(closure is not None)

    def after(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        living = weakly()
        if living is not None:
            living.after_step()

    # A compiled step is compiled without them: they read Python's counts, which change.
    before, after = torch.compiler.disable(before), torch.compiler.disable(after)
    weakref.finalize(listener, optimizer.register_step_pre_hook(before).remove)
    weakref.finalize(listener, optimizer.register_step_post_hook(after).remove)
