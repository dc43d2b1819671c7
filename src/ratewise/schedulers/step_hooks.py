"""An optimizer's hooks, held for as long as somebody lives, and no longer; and who hangs on them.

What is done to an optimizer for the length of a step must be undone before anybody reads it, also
where the step raised an error and never ended: `settle` undoes it.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

Closure = Callable[[], Any]


class AroundSteps(Protocol):
    """What hears of each step of an optimizer: before it, and after it."""

    @abstractmethod
    def before_step(self, closure: bool) -> None:
        """Hear that a step begins; `closure` says whether it makes the gradients itself."""

    @abstractmethod
    def around_closure(self, closure: Closure) -> Closure:
        """Return what the step is to call in the closure's place."""

    @abstractmethod
    def after_step(self) -> None:
        """Hear that it has ended; one that raised an error never does."""

    @abstractmethod
    def settle(self) -> None:
        """Undo what `before_step` did to the parameter groups."""


_hanging: weakref.WeakKeyDictionary[
    Optimizer, weakref.WeakKeyDictionary[AroundSteps, list[weakref.finalize[..., Any]]]
] = weakref.WeakKeyDictionary()


def hang_on(listener: AroundSteps, optimizer: Optimizer) -> None:
    """Let `listener` hear of the optimizer's steps and states through torch's public hooks.

    Args:
        listener: held weakly; with it the hooks go.
        optimizer: whose steps they are. A copy of it has no hooks.
    """
    weakly = weakref.ref(listener)

    def before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        living = weakly()
        if living is None:
            return None
        # args[0] is the optimizer itself
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        living.before_step(closure is not None)
        if closure is None:
            return None
        closure = living.around_closure(closure)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": closure}
        return (args[0], closure, *args[2:]), kwargs

    def after(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        living = weakly()
        if living is not None:
            living.after_step()

    def settled(optimizer: Optimizer, *state: Any) -> None:
        living = weakly()
        if living is not None:
            living.settle()

    # A compiled step is compiled without them: they read Python's counts, which change.
    before, after = torch.compiler.disable(before), torch.compiler.disable(after)
    handles = (
        optimizer.register_step_pre_hook(before),
        optimizer.register_step_post_hook(after),
        optimizer.register_state_dict_pre_hook(settled),
        optimizer.register_load_state_dict_pre_hook(settled),
    )
    removals = [weakref.finalize(listener, handle.remove) for handle in handles]
    _hanging.setdefault(optimizer, weakref.WeakKeyDictionary())[listener] = removals


def let_go(listener: AroundSteps, optimizer: Optimizer) -> None:
    """Let `listener` hear no more; its hooks are gone when this returns."""
    hanging = _hanging.get(optimizer)
    for removal in [] if hanging is None else hanging.pop(listener, []):
        removal()


def listeners(optimizer: Optimizer) -> list[AroundSteps]:
    """Return who hears of the optimizer's steps, the oldest first."""
    return list(_hanging.get(optimizer, {}))


def settle(optimizer: Optimizer) -> None:
    """Undo what was done for a step that has raised an error: call it before rates are read."""
    for listener in listeners(optimizer):
        listener.settle()
