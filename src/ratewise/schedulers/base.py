"""What every scheduler shares: time, parameter groups, ramp, schedule, writing, checkpoints."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ratewise.rules.checks import check_count
from ratewise.rules.fixed import ramped
from ratewise.rules.schema import Check
from ratewise.schedulers import checkpoint, resume
from ratewise.schedulers.agreement import Agreement
from ratewise.schedulers.arguments import (
    check_capture,
    check_optimizer,
    check_positive,
    check_rate,
    check_scaled,
    chosen_groups,
)
from ratewise.schedulers.clock import OptimizerClock, capturing
from ratewise.schedulers.explained import Explained
from ratewise.schedulers.rates import (
    DeviceRates,
    HostRates,
    accumulator,
    copied,
    initial,
    own_tensors,
)
from ratewise.schedulers.record import Record
from ratewise.schedulers.resume import Place, at
from ratewise.schedulers.schedule import Schedule, check_schedule, schedule_scale
from ratewise.schedulers.source import RateSource
from ratewise.schedulers.step_hooks import undo_unfinished

if TYPE_CHECKING:
    from typing_extensions import Self


class ScheduledLR(Explained, LRScheduler, ABC):
    """A scheduler of the package; abstract.

    ``rate[g] = own[g] * outside[g]`` with ``own[g] = source[g] * schedule(step) * ramp(step)`` and
    ``ramp(t) = min(1, (t + 1) / (warmup_steps + 1))``. `outside` is what others have multiplied
    the group's rate by; it is 1 unless somebody does.

    Args:
        optimizer: whose rates are scheduled.
        source: where the groups' rates come from.
        schedule: an open-loop shape; one with a name counts the optimizer's steps.
        total_steps: length of the run in optimizer steps, or None.
        warmup_steps: length of the linear ramp.
        groups: indices of the scheduled groups; None is all, later ones included.
        agreement: how ranks that train together agree; None is each on its own.
        open_ended: whether a schedule with a name may have no end yet.
    """

    #: Where a state keeps the constructor's arguments.
    _places: ClassVar[Mapping[str, Place]] = {
        "total_steps": at("length"),
        "schedule": at("schedule"),
        "warmup_steps": at("warmup_steps"),
    }
    #: What our part of a state must have, besides the source's.
    _table: ClassVar[Mapping[str, Check]] = checkpoint.TABLE
    decide_every = 1  #: steps between two decisions
    _given: frozenset[str]  #: names of the arguments that the constructor was given
    _device: torch.device | None = None  #: where the rates are tensors that are not read

    def __new__(cls, *args: Any, **arguments: Any) -> Self:
        """Remember which arguments were given: in `load_state_dict` they hold."""
        self = super().__new__(cls)
        self._given = frozenset(k for k, value in arguments.items() if value is not None)
        return self

    def __init__(
        self,
        optimizer: Optimizer,
        source: RateSource,
        *,
        schedule: Schedule,
        total_steps: int | None,
        warmup_steps: int = 0,
        groups: Sequence[int] | None = None,
        agreement: Agreement | None = None,
        open_ended: bool = False,
    ) -> None:
        check_optimizer(optimizer)
        check_count("warmup_steps", warmup_steps, 0)
        check_schedule(schedule, total_steps, warmup_steps, open_ended=open_ended)
        self._source = source
        self._open_ended = open_ended
        #: The open-loop shape, and steps of the linear ramp at the start.
        self.schedule, self.warmup_steps = schedule, warmup_steps
        #: Length of the run in optimizer steps, or None. Not `total_steps`: Accelerate stops there.
        self.horizon = total_steps
        self._length = total_steps  # as constructed; the end may have been moved since
        #: Where an annealing began, the schedule's height there, and the one written last.
        self._begin, self._height, self._wrote = 0, 1.0, math.nan
        #: Steps that were counted without a call of `step`, since the last one; and the most
        #: that ever lay between two calls, 0 before there were two.
        self._alone = self._stride = 0
        self._chosen = chosen_groups(groups, len(optimizer.param_groups))
        self._agreement = agreement or Agreement(None)
        self._clock = OptimizerClock(optimizer)
        self._record = Record()
        self._rates: Any = HostRates()
        self._group_count = self._ramp_end = 0  # the ramp ends at a step of the optimizer
        self._told_past = False
        super().__init__(optimizer)
        source.listen()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up a copy's attributes; a copied optimizer has no hooks."""
        self.__dict__.update(state)
        self._source = copy.copy(self._source)  # a shallow copy needs one of its own, too
        self._source.attach(self)
        self._source.listen()

    @abstractmethod
    def step(self, loss: Any = None) -> None:
        """Advance the schedule by a step; `loss` is for those that decide on one."""

    @abstractmethod
    def observe(self, loss: Any) -> None:
        """Take a loss, which the next `step` may decide on."""

    # -- time -----------------------------------------------------------------------------------

    def _initial_step(self) -> None:
        """Torch's first, bare step at construction: the start of schedule and ramp."""
        self._source.attach(self)
        self._source.begin(not self._group_count)
        self._prepare_to_write()
        again = self._group_count > 0  # SequentialLR makes it again, after it has reset the rates
        self._step_count = 1
        self.last_epoch += 1
        self._take_in_groups()
        if again:
            self._to_host()
            self._rates = HostRates.of(self._groups(), self._source.base)
            self._to_device(self._rates_device(), unless_cpu=True)
        self._write()

    def _advance(self) -> int:
        """Count the optimizer's steps since the last call; return how far the schedule moved."""
        steps = self._clock.advance()
        if not steps:
            return 0
        if self._device is not None and capturing():
            ramp = max(0, self.warmup_steps - self.last_epoch)
            check_capture(self.decide_every, ramp, self.schedule)
        self._step_count += 1
        if not self._source.in_optimizer_steps:
            self._move_on(1)
            return 1
        since, self._alone = self._alone + steps, 0
        if self._clock.observed:
            self._stride = max(self._stride, since)
        self._move_on(steps)
        return since

    def _write_if_due(self, since: int) -> None:
        """Write the rates after a step that moved by `since`, if they may have changed."""
        if self._moving or self.last_epoch - self.warmup_steps < since:
            self._write()
        elif self._rates.looking:
            self._look()
        self._tell_past_horizon()

    def advance_alone(self) -> None:
        """Count the last step where no call of `step` has: the rate moves at each step.

        As many steps as lay between two calls before; then this waits for the next one, as after
        a `SequentialLR` has handed the optimizer over. In its turn before that it counts nothing.
        """
        if self.last_epoch < 0 or 0 < self._stride <= self._alone + 1:
            return
        steps = self._clock.take()
        if steps:
            self._alone += steps
            self._move_on(steps)
            self._write()
            self._tell_past_horizon()

    def _move_on(self, count: int) -> None:
        self.last_epoch += count
        if self._device is not None:
            self._ticks.add_(count)
        if self.last_epoch <= self.warmup_steps:
            self._ramp_end = self._clock.elapsed

    def _now(self) -> int:
        """Return the step; a CUDA graph's replays are counted on the device alone."""
        if self._device is not None:
            self.last_epoch = int(self._ticks)
        return self.last_epoch

    def _update_lr(self, epoch: int | None = None) -> None:
        """Torch's hand-off (`SequentialLR` calls it with 0): back to the initial rates.

        The number is a step, never a loss. Metrics that were seen before stay remembered.
        """
        self._prepare_to_write()
        self._clock.restart(self._clock.elapsed + 1 if epoch is None else epoch)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._ramp_end = min(self._clock.elapsed, self.warmup_steps)
        if self._device is not None:
            self._ticks.fill_(self.last_epoch)
        if epoch is None:
            self._write()
            return
        self._source.restart()
        self._rates.reset(self._groups(), self._own_rates())

    # -- the schedule -----------------------------------------------------------------------------

    @property
    def _moving(self) -> bool:
        """Whether the schedule may be another one at the next step."""
        return (self.horizon if isinstance(self.schedule, str) else self.schedule) is not None

    def share(self, ramp: bool = True) -> float:
        """Return the schedule's height at this step, with the ramp or without."""
        step, begin = self._schedule_step(), self._schedule_begin()
        scale = self._height * schedule_scale(self.schedule, step, self.horizon, begin)
        over = not ramp or self.last_epoch >= self.warmup_steps
        return scale if over else ramped(scale, self.last_epoch, self.warmup_steps)

    def _schedule_step(self) -> int:
        """Return the schedule's own step; one with a name counts the optimizer's."""
        return self._clock.elapsed if isinstance(self.schedule, str) else self.last_epoch

    def _schedule_begin(self) -> int:
        ramp = self.warmup_steps if self._source.in_optimizer_steps else self._ramp_end
        return ramp if ramp > self._begin else self._begin

    def hear_length(self, steps: int) -> None:
        """Take the run's length in optimizer steps from a trainer, if that decides anything."""
        return

    def hear_data(self, steps_per_epoch: int, batch_size: int | None = None) -> None:
        """Take a pass's steps and a step's rows from a trainer, if they decide anything."""
        return

    def _begin_annealing(self, begin: int, end: int, schedule: Schedule) -> None:
        """Let the rate fall from where it is, by a schedule with a name, from step to step."""
        self._prepare_to_write()
        self._height = self.share(ramp=False)
        self.schedule, self._begin, self.horizon = schedule, begin, end
        self._told_past = False
        self._write()

    # -- parameter groups -------------------------------------------------------------------------

    def _groups(self) -> list[dict[str, Any]]:
        groups = self.optimizer.param_groups
        return groups if self._chosen is None else [groups[index] for index in self._chosen]

    def _meet_new_groups(self) -> None:
        """Begin to schedule the groups that the optimizer has got since."""
        if self._chosen is None and self._group_count != len(self.optimizer.param_groups):
            self._take_in_groups()
        elif len(self.base_lrs) != len(self.optimizer.param_groups):
            self._name_others()

    def _take_in_groups(self) -> None:
        self._source.check_groups(self._groups()[self._group_count :])
        self._to_host()
        own_tensors(self._groups(), self.optimizer.param_groups)
        for group in self._groups()[self._group_count :]:
            check_rate(len(self._source.base), float(initial(group)))
            base = float(group.setdefault("initial_lr", copied(group["lr"])))
            self._source.add_group(base)
            self._rates.add(group, base)
        self._group_count, self._wrote = len(self._groups()), math.nan
        self._name_others()
        self._to_device(self._rates_device(), unless_cpu=True)

    def _name_others(self) -> None:
        """Put the rates of groups where torch keeps base rates, scheduled or not."""
        new = self.optimizer.param_groups[len(self.base_lrs) :]
        self.base_lrs += [initial(group) for group in new]

    # -- rates ------------------------------------------------------------------------------------

    def get_last_lr(self) -> list[float | Tensor]:
        """Return every group's rate as it is now, tensors copied.

        Between a step of the optimizer and the call of `step` that is the rate it was made with.
        """
        undo_unfinished(self.optimizer)
        return [copied(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float | Tensor]:
        """Return the same as `get_last_lr`: rates change in `step` alone."""
        return self.get_last_lr()

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
        before, old = self._source.before(), self._rates.current(self._groups())
        for group, *both in zip(self._groups(), self._source.base, old, strict=True):
            check_scaled("factor", factor, both, group["lr"])
        self._set_base([base * factor for base in self._source.base], restart=False)
        why = (metric, metric, *before, reason)
        self._record.note(self.last_epoch, why, old, self._rates.current(self._groups()))
        self._to_device(self._rates_device(), unless_cpu=True)

    def _set_base(self, base: Sequence[float], *, restart: bool) -> None:
        self._source.rebase(base, restart=restart)
        self._name_base()
        self._write()

    def _name_base(self) -> None:
        """Put the base rates where torch keeps them."""
        for group, rate in zip(self._groups(), self._source.base, strict=True):
            kept = group.get("initial_lr")
            group["initial_lr"] = torch.full_like(kept, rate) if isinstance(kept, Tensor) else rate
        self.base_lrs = [initial(group) for group in self.optimizer.param_groups]

    def _own_rates(self, share: float | None = None) -> list[Any]:
        self._wrote, rates = self.share() if share is None else share, self._source.rates()
        return rates if self._wrote == 1.0 else [rate * self._wrote for rate in rates]

    def _prepare_to_write(self) -> None:
        """Take back what was lent to a step that raised an error, before rates are changed."""
        undo_unfinished(self.optimizer)
        self._source.check_usable()

    def _write(self, share: float | None = None) -> None:
        rates, groups = self._rates, self._groups()
        if rates.untouched(groups):
            rates.replace(groups, self._own_rates(share))
            return
        if rates.looking:
            self._look()
        rates.write(groups, self._own_rates(share))

    def check_agreement(self) -> None:
        """Raise `RanksDisagree` unless all ranks have the same rates; call it on every rank."""
        undo_unfinished(self.optimizer)
        rates = [float(group["lr"]) for group in self._groups()]
        self._agreement.check(rates, self._now())
        self._source.check_agreement()

    # -- devices ----------------------------------------------------------------------------------

    def _rates_device(self) -> torch.device | None:
        """Return the one device on which all scheduled rates are tensors, or None."""
        device = None
        for group in self._groups():
            rate = group["lr"]
            if not isinstance(rate, Tensor) or device not in (None, rate.device):
                return None
            device = rate.device
        return device

    def _to_device(self, device: torch.device | None, *, unless_cpu: bool = False) -> None:
        """Go on with tensors on `device`; rates on the CPU wait for a loss that is a tensor."""
        if device is None or self._device is not None or (unless_cpu and device.type == "cpu"):
            return
        dtype = accumulator(device)
        self._source.move(device, dtype)
        self._rates = DeviceRates(self._rates, self._groups(), device)
        self._record.use_device(self._group_count, device, dtype)
        self._ticks = torch.tensor(self.last_epoch, device=device)
        self._device = device

    def _to_host(self) -> None:
        """Go on with Python floats: waits for the device."""
        if self._device is None:
            return
        dtype = accumulator(self._device)
        self._now()
        self._record.use_device(self._group_count, None, dtype)
        state = self._rates.state(known := self._groups()[: self._group_count])
        self._source.move(None, dtype)
        self._rates, self._device = HostRates(), None
        self._rates.restore(known, state)

    # -- checkpoints ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return plain data that ``torch.load(weights_only=True)`` reads; nothing is shared.

        Torch's own keys lie at the top; ours lie under ``"ratewise"`` with a format number. A
        schedule that is a function is not saved: construct the scheduler with it again.
        """
        undo_unfinished(self.optimizer)
        self._meet_new_groups()
        self._look_back()
        return {
            "last_epoch": self._now(),
            "_step_count": self._step_count,
            "_last_lr": [float(group["lr"]) for group in self.optimizer.param_groups],
            "base_lrs": [float(rate) for rate in self.base_lrs],
            "ratewise": {
                "format": checkpoint.FORMAT,
                "scheduler": type(self).__name__,
                **self._to_state(),
                "rule": self._source.to_state(),
            },
        }

    def _to_state(self) -> dict[str, Any]:
        return {
            "schedule": True if callable(self.schedule) else self.schedule,
            "length": self._length,
            "horizon": self.horizon,
            "begin": self._begin,
            "height": self._height,
            "warmup_steps": self.warmup_steps,
            "groups": self._chosen,
            "clock": self._clock.state(),
            "ramp_end": self._ramp_end,
            "alone": self._alone,
            "stride": self._stride,
            **self._rates.state(self._groups()),
            **self._record.state(),
        }

    def _restore(self, ours: dict[str, Any]) -> None:
        """Take over our part of a state, but for the source's."""
        if not callable(self.schedule):
            self.schedule = ours["schedule"]
        self._length, self.horizon = ours["length"], ours["horizon"]
        self._begin, self._height = int(ours["begin"]), float(ours["height"])
        self.warmup_steps = ours["warmup_steps"]
        self._alone, self._stride = int(ours["alone"]), int(ours["stride"])
        self._clock.restore(ours["clock"])
        self._ramp_end = int(ours["ramp_end"])
        self._record.restore(ours)
        self._rates, self._wrote = HostRates(), math.nan
        self._rates.restore(self._groups(), ours)

    def load_state_dict(
        self, state_dict: dict[str, Any], *, lr: float | Sequence[float] | None = None
    ) -> None:
        """Go on where `state_dict` was taken: settings, memory and the groups' rates.

        The rates are written into the groups, so it does not matter whether the optimizer's
        state is loaded before or after; but with `lr` load the optimizer's before, which would
        bring the old rates back. Nothing changes if the state is refused.

        An argument that the constructor was given, and that differs from the saved one, holds, and
        a `SettingsDifferWarning` names both; one that was left out, or None, takes what was saved.

        Args:
            state_dict: what `state_dict` returned.
            lr: go on at this rate instead, one number or one a scheduled group: it becomes the
                base rate, with a scale of 1; what was learned of the loss stays.

        Raises:
            InvalidState: not a state of this scheduler, unknown or missing keys in our part,
                another format, another number of parameter groups, or an argument that was given
                and cannot be another than it was.
            InvalidArgument: `lr` is not a finite number > 0, or outside bounds that were given.
        """
        self._prepare_to_write()
        resume.load(self, state_dict, lr)

    def _holding(self, saved: dict[str, Any]) -> Set[str]:
        """Return the names of the arguments that hold against our part of a state."""
        return self._given

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        """Let the rest of a state follow from arguments that hold against it.

        Args:
            ours: our part of the state, with the arguments in place; it may be changed.
            saved: the same as it was saved.
            changed: the arguments' names.
        """
        if not resume.annealing(saved) and changed & {"total_steps", "schedule"}:
            ours["horizon"] = ours["length"]
