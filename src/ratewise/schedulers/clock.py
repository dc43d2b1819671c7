"""How many steps the optimizer has made since the schedule's last one.

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
from ratewise.rules import schema
from ratewise.rules.schema import Check

#: What a saved clock has: `OptimizerClock.state`.
TABLE: dict[str, Check] = {"elapsed": schema.count(), "uncounted": schema.count()}


class OptimizerClock:
    """Counts the optimizer's steps, in its public step hook.

    In a compiled step the hook only stores a constant, so that the step is not compiled again:
    several compiled steps between two calls count as one.

    Calls count without a step of the optimizer in two cases: in a dry run, where nothing was
    ever trained (losses fed by hand, to see what the schedule does), and where steps cannot be
    observed: an optimizer whose steps are replayed by a CUDA graph, or that bypasses torch's hooks.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        #: Optimizer steps of the schedule's whole run so far.
        self.elapsed = 0
        self._stepped = False  # since the schedule's last step
        self._steps = 0  # how often, as far as they can be counted
        self.observed = False  #: whether a step with gradients was ever observed
        self._unobservable = False
        self._warned = False
        self._listen()

    def _listen(self) -> None:
        """Attach a hook to the optimizer's steps, which goes with this clock."""
        clock = weakref.ref(self)

        def after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            living = clock()
            if living is not None:
                living._after_step(optimizer)

        weakref.finalize(self, self._optimizer.register_step_post_hook(after_step).remove)

    def _after_step(self, optimizer: Optimizer) -> None:
        self._stepped = True
        if torch.compiler.is_compiling():
            self.observed = True
            return
        self._steps += 1
        if not self.observed:
            self.observed = _has_gradients(optimizer)
        if capturing():
            self._unobservable = True  # the graph's replays will not come by here

    @property
    def uncounted(self) -> int:
        """Steps that were observed since the schedule's last one."""
        return self._steps or int(self._stepped)

    def take(self) -> int:
        """Count the steps that were observed since the schedule's last one; return how many."""
        steps = self._steps or int(self._stepped)
        self._steps, self._stepped = 0, False
        self.elapsed += steps
        return steps

    def advance(self) -> int:
        """Return how many optimizer steps a call of the schedule brings, and count them.

        0 means that the call does not count. Where steps cannot be observed, each call is one.
        """
        steps = self.take()
        if not steps and self._counts_unobserved():
            steps = 1
            self.elapsed += 1
        return steps

    def _counts_unobserved(self) -> bool:
        """Return whether a call counts although no step of the optimizer was observed."""
        if self._unobservable:
            return True
        if self.observed:
            return False
        if not _has_gradients(self._optimizer):
            return True
        if getattr(self._optimizer, "_opt_called", False):
            self._unobservable = True  # torch saw a step that the hook did not
            return True
        if not self._warned:
            self._warned = True
            warnings.warn(
                "the scheduler was stepped before its optimizer, and does not advance until "
                "optimizer.step() has been called: call optimizer.step() first, on the optimizer "
                "that the scheduler was given (a GradScaler may have skipped it: nothing to mend)",
                StepOrderWarning,
                stacklevel=4,
            )
        return False

    def restart(self, elapsed: int = 0) -> None:
        """Begin the schedule's run here; earlier steps belong to another schedule's."""
        self.take()
        self.elapsed = elapsed

    def state(self) -> dict[str, int]:
        """Return what is counted, as plain data."""
        return {"elapsed": self.elapsed, "uncounted": self.uncounted}

    def restore(self, state: dict[str, int]) -> None:
        """Take over what `state()` returned."""
        self.elapsed, self._steps = int(state["elapsed"]), int(state["uncounted"])
        self._stepped = self._steps > 0

    def __deepcopy__(self, memo: dict[int, Any]) -> OptimizerClock:
        """A copied optimizer has no hooks: its clock is a new one."""
        clock = OptimizerClock(copy.deepcopy(self._optimizer, memo))
        clock.restore(self.state())
        return clock

    def __setstate__(self, state: dict[str, Any]) -> None:
        """An optimizer that comes out of a pickle has no hooks either."""
        self.__dict__.update(state)
        self._listen()


def capturing() -> bool:
    """Return whether a CUDA graph is being captured, whose replays will run no Python."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])
