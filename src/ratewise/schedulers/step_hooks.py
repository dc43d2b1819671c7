"""Hooks on an optimizer's steps, which go with the object that they call.

What is done to an optimizer for the length of a step must be undone before anybody reads it, also
where the step raised an error and never ended: `undo_unfinished` undoes it.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

Closure = Callable[[], Any]


class StepListener(Protocol):
    """An object that is called before and after each step of an optimizer."""

    @abstractmethod
    def before_step(self, closure: bool) -> None:
        """Called before a step; `closure` says whether the step computes the gradients itself."""

    @abstractmethod
    def around_closure(self, closure: Closure) -> Closure:
        """Return what the step is to call in the closure's place."""

    @abstractmethod
    def after_step(self) -> None:
        """Called after a step, unless it raised an error."""

    @abstractmethod
    def undo_unfinished(self) -> None:
        """Undo what `before_step` did to the parameter groups."""


_attached: weakref.WeakKeyDictionary[
    Optimizer, weakref.WeakKeyDictionary[StepListener, list[weakref.finalize[..., Any]]]
] = weakref.WeakKeyDictionary()


def attach_hooks(listener: StepListener, optimizer: Optimizer) -> None:
    """Call `listener` around the optimizer's steps and states, through torch's public hooks.

    Args:
        listener: held weakly; the hooks are removed with it.
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

    def undone(optimizer: Optimizer, *state: Any) -> None:
        living = weakly()
        if living is not None:
            living.undo_unfinished()

    # A compiled step is compiled without them: they read Python's counts, which change.
    before, after = torch.compiler.disable(before), torch.compiler.disable(after)
    handles = (
        optimizer.register_step_pre_hook(before),
        optimizer.register_step_post_hook(after),
        optimizer.register_state_dict_pre_hook(undone),
        optimizer.register_load_state_dict_pre_hook(undone),
    )
    removals = [weakref.finalize(listener, handle.remove) for handle in handles]
    _attached.setdefault(optimizer, weakref.WeakKeyDictionary())[listener] = removals


def detach_hooks(listener: StepListener, optimizer: Optimizer) -> None:
    """Remove the hooks that call `listener`."""
    attached = _attached.get(optimizer)
    for removal in [] if attached is None else attached.pop(listener, []):
        removal()


def listeners(optimizer: Optimizer) -> list[StepListener]:
    """Return what is called around the optimizer's steps, the oldest first."""
    return list(_attached.get(optimizer, {}))


def undo_unfinished(optimizer: Optimizer) -> None:
    """Undo what was done for a step that has raised an error: call it before rates are read."""
    if _attached:  # a scheduler asks at each step, and mostly there is nobody
        for listener in listeners(optimizer):
            listener.undo_unfinished()
