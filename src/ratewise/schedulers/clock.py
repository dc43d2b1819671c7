"""Whether the optimizer has made a step since the schedule's last one.

A schedule's time is the optimizer's: a step that a `GradScaler` skipped, a micro-batch whose
gradients are only accumulated, and Accelerate's calling ``step`` once a process are no steps.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from typing import Any

import torch
from torch.optim import Optimizer

from ratewise.errors import StepOrderWarning


class OptimizerClock:
    """Hears the optimizer's steps through its public step hook; it only ever stores a constant
    there, so that a compiled optimizer step is not compiled again.

    Calls count without a step of the optimizer in two cases: in a dry run, where nothing was
    ever trained (losses fed by hand, to see what the schedule does), and where steps cannot be
    heard: an optimizer whose steps are replayed by a CUDA graph, or that bypasses torch's hooks.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._stepped = False  # since the schedule's last step
        self._heard = False  # a step with gradients, ever
        self._deaf = False
        self._warned = False
        self._listen()

    def _listen(self) -> None:
        """Hang on to the optimizer's steps for as long as this clock lives, and no longer."""
        clock = weakref.ref(self)

        def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            heard = clock()
            if heard is not None:
                heard._after_step(optimizer)

        weakref.finalize(self, self._optimizer.register_step_post_hook(after_step).remove)

    def _after_step(self, optimizer: Optimizer) -> None:
        self._stepped = True
        if torch.compiler.is_compiling():
            self._heard = True
            return
        if not self._heard:
            self._heard = _has_gradients(optimizer)
        if capturing():
            self._deaf = True  # the graph's replays will not come by here

    def advance(self) -> bool:
        """Return whether a call of the schedule counts as its next step, and begin that step."""
        if self._stepped or self._deaf:
            self._stepped = False
            return True
        if self._heard:
            return False
        if not _has_gradients(self._optimizer):
            return True
        if getattr(self._optimizer, "_opt_called", False):
            self._deaf = True  # torch saw a step that the hook did not
            return True
        if not self._warned:
            self._warned = True
            warnings.warn(
                "the scheduler was stepped before its optimizer, and does not advance until "
                "optimizer.step() has been called: call optimizer.step() first, on the optimizer "
                "that the scheduler was given (a GradScaler may have skipped it: nothing to mend)",
                StepOrderWarning,
                stacklevel=3,
            )
        return False

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizerClock:
        """A copied optimizer has no hooks: its clock is a new one."""
        return OptimizerClock(copy.deepcopy(self._optimizer, memo))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """An optimizer that comes out of a pickle has no hooks either."""
        self.__dict__.update(state)
        self._listen()


def capturing() -> bool:
    """Return whether a CUDA graph is being captured, whose replays will run no Python."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])
