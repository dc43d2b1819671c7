"""The torch side that every reactive scheduler shares: metrics in, rates out, hand-offs, state.

A subclass decides (`_decide`) and says what the decision is (`_rates`); all bookkeeping with
parameter groups, anchors and checkpoints is here, so that it is right once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ratewise.errors import MissingLoss, invalid, unknown, wrong_type
from ratewise.rules.fixed import FIXED, fixed_scale
from ratewise.schedulers.checkpoint import FORMAT, checked
from ratewise.schedulers.metric import as_float

Anchor = str | Callable[[int], float] | None


class ReactiveLR(LRScheduler, ABC):
    """A scheduler that decides on a metric; abstract.

    ``rate[g] = own[g] * outside[g]`` with ``own[g] = clamp(base[g] * scale[g]) * anchor(step)``.
    `outside` is what others have multiplied the group's rate by (another scheduler in a
    `ChainedScheduler`, a user's hand); it is 1 unless somebody does. One step is one call of
    `step`, usually one optimizer step.
    """

    def __init__(
        self, optimizer: Optimizer, *, missing: str, anchor: Anchor, total_steps: int | None
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            fix = "pass the optimizer whose rate is to be scheduled"
            raise wrong_type("optimizer", "a torch.optim.Optimizer", optimizer, fix)
        if missing not in ("raise", "hold"):
            raise unknown("missing", missing, ("raise", "hold"))
        if isinstance(anchor, str):
            if total_steps is None:
                fix = f"anchor={anchor!r} needs to know the run's length in steps"
                raise invalid("total_steps", "an integer >= 1", total_steps, fix)
            fixed_scale(anchor, 0, total_steps)
        elif not (anchor is None or callable(anchor)):
            fix = f"pass None, a function of the step, or one of {', '.join(FIXED)}"
            raise wrong_type("anchor", "a name or a function", anchor, fix)
        self._missing = missing
        self._anchor = anchor
        #: Length of the run in steps, or None. Not `total_steps`: Accelerate stops there.
        self.horizon = total_steps
        self._pending: float | None = None
        self._seen = False
        super().__init__(optimizer)

    # -- what a subclass says ---------------------------------------------------------------

    @abstractmethod
    def _decide(self, metric: float) -> bool:
        """Take one metric in; return whether `_rates` may have changed."""

    @abstractmethod
    def _rates(self) -> list[float]:
        """Return each group's rate before anchor and outside factor."""

    @abstractmethod
    def _restart(self) -> None:
        """Put every group's rate back to its base rate."""

    @abstractmethod
    def _add_group(self, base: float) -> None:
        """Take in one more parameter group with this base rate."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return the subclass's state as plain data."""

    @abstractmethod
    def _restore_own(self, state: dict[str, Any]) -> None:
        """Take over what `_own_state` returned."""

    # -- stepping ---------------------------------------------------------------------------

    def observe(self, loss: float | Tensor) -> None:
        """Store a metric; the next `step()` decides on it. The last one stored counts."""
        self._pending = as_float(loss)

    def step(self, loss: float | Tensor | None = None) -> None:
        """Decide on `loss`, or on the metric last observed, and set the rates.

        Args:
            loss: this step's metric; None takes the one that `observe` stored.

        Raises:
            MissingLoss: nothing was ever passed or observed, and ``missing="raise"``.
            WrongType, InvalidArgument: `loss` is not one number.
        """
        metric = self._pending if loss is None else as_float(loss)
        changed = False
        if metric is not None:
            if len(self._own) != len(self.optimizer.param_groups):
                self._take_in_groups()
            changed = self._decide(metric)
            self._pending = None
            self._seen = True
        elif not self._seen and self._missing == "raise":
            raise MissingLoss(
                f"{type(self).__name__}.step() has no loss to decide on: call step(loss), or "
                "observe(loss) before step(); missing='hold' keeps the rate until one comes"
            )
        self._step_count += 1
        self.last_epoch += 1
        if changed or self._anchor is not None:
            self._write()

    def _initial_step(self) -> None:
        """Torch's first, bare step at construction: the anchor's start, and no decision."""
        self._step_count = 1
        self.last_epoch += 1
        if not hasattr(self, "_own"):
            self._own: list[float] = []
            self._wrote: list[float] = []
            self._outside: list[bool] = []
        self._take_in_groups()
        self._write()

    def _update_lr(self, epoch: int | None = None) -> None:
        """Torch's hand-off (`SequentialLR` calls it with 0): back to the initial rates.

        The number is a step, never a loss. Metrics that were seen before stay remembered.
        """
        if epoch is None:
            self.last_epoch += 1
            self._write()
            return
        self.last_epoch = epoch
        self._restart()
        anchor = self._anchor_scale()
        for index, group in enumerate(self.optimizer.param_groups):
            self._outside[index] = False
            self._own[index] = self._rates()[index] * anchor
            self._set(index, group, self._own[index])

    def get_last_lr(self) -> list[float | Tensor]:
        """Return each group's rate as it is now, tensors copied."""
        return [_copied(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float | Tensor]:
        """Return the same as `get_last_lr`: rates change in `step` alone."""
        return self.get_last_lr()

    # -- rates ------------------------------------------------------------------------------

    def _anchor_scale(self) -> float:
        if self._anchor is None:
            return 1.0
        if isinstance(self._anchor, str):
            return fixed_scale(self._anchor, self.last_epoch, self.horizon or 1)
        scale = float(self._anchor(self.last_epoch))
        if not 0.0 <= scale < math.inf:
            fix = f"anchor({self.last_epoch}) returned it"
            raise invalid("anchor", "a function whose values are finite and >= 0", scale, fix)
        return scale

    def _take_in_groups(self) -> None:
        """Begin to schedule the groups that the optimizer has got since."""
        for group in self.optimizer.param_groups[len(self._own) :]:
            base = group.setdefault("initial_lr", _copied(group["lr"]))
            if len(self.base_lrs) == len(self._own):
                self.base_lrs.append(_copied(base))
            self._add_group(float(base))
            current = float(group["lr"])
            self._own.append(float(base))
            self._wrote.append(current)
            self._outside.append(current != float(base))

    def _write(self) -> None:
        """Set each group's rate where our part of it has changed; leave the others' part."""
        anchor = self._anchor_scale()
        groups = self.optimizer.param_groups
        own = self._own
        for index, rate in enumerate(self._rates()):
            new = rate * anchor
            old = own[index]
            if new != old:
                group = groups[index]
                current = group["lr"]
                if not isinstance(current, Tensor) or current.device.type == "cpu":
                    current = float(current)
                    if current != self._wrote[index]:
                        self._outside[index] = True
                    outside = current / old if self._outside[index] and old else 1.0
                    self._set(index, group, new * outside if outside != 1.0 else new)
                else:  # reading a rate on a device would wait for it: nobody else writes there
                    self._set(index, group, new)
                own[index] = new

    def _set(self, index: int, group: dict[str, Any], value: float) -> None:
        """Write one rate, a tensor in place, and remember what can be read there afterwards."""
        rate = group["lr"]
        if isinstance(rate, Tensor):
            rate.fill_(value)
            self._wrote[index] = float(rate) if rate.device.type == "cpu" else value
        else:
            group["lr"] = self._wrote[index] = value

    # -- checkpoints ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return plain data that ``torch.load(weights_only=True)`` reads; nothing is shared.

        Torch's own keys lie at the top; ours lie under ``"ratewise"`` with a format number. An
        anchor that is a function is not saved: construct the scheduler with it again.
        """
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        anchor = self._anchor if self._anchor is None or isinstance(self._anchor, str) else True
        ours = {
            "format": FORMAT,
            "scheduler": type(self).__name__,
            "anchor": anchor,
            "horizon": self.horizon,
            "missing": self._missing,
            "pending": self._pending,
            "seen": self._seen,
            "rates": rates,
            "own": list(self._own),
            "outside": list(self._outside),
            "rule": self._own_state(),
        }
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": list(rates),
            "base_lrs": [float(rate) for rate in self.base_lrs],
            "ratewise": ours,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken: settings, memory and the groups' rates.

        The rates are written into the groups, so it does not matter whether the optimizer's
        state is loaded before or after. Nothing changes if the state is refused.

        Raises:
            InvalidState: not a state of this scheduler, unknown or missing keys in our part,
                a newer format, or another number of parameter groups.
        """
        ours = checked(state_dict, like=self.state_dict()["ratewise"], anchor=self._anchor)
        self._restore_own(ours["rule"])
        if not callable(self._anchor):
            self._anchor = ours["anchor"]
        self.horizon, self._missing = ours["horizon"], ours["missing"]
        self._pending, self._seen = ours["pending"], ours["seen"]
        self._own, self._outside = list(ours["own"]), list(ours["outside"])
        self._wrote = list(ours["rates"])
        for index, group in enumerate(self.optimizer.param_groups):
            self._set(index, group, ours["rates"][index])
        self.last_epoch = state_dict.get("last_epoch", self.last_epoch)
        self._step_count = state_dict.get("_step_count", self._step_count)
        self.base_lrs = list(state_dict.get("base_lrs", self.base_lrs))


def _copied(rate: float | Tensor) -> float | Tensor:
    return rate.clone() if isinstance(rate, Tensor) else rate
