"""The torch side that every reactive scheduler shares: metrics in, rates out, hand-offs, state.

A subclass brings a rule and says what rates it makes; time, parameter groups, anchors, processes,
devices and checkpoints are here, so that they are right once.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ratewise.errors import MissingLoss, PastHorizonWarning
from ratewise.schedulers import saved
from ratewise.schedulers.agreement import Agreement
from ratewise.schedulers.anchor import Anchor, anchor_scale, check_anchor
from ratewise.schedulers.arguments import (
    check_capture,
    check_optimizer,
    check_rate,
    check_timing,
    chosen_groups,
)
from ratewise.schedulers.bases import BaseRates, copied, initial
from ratewise.schedulers.clock import OptimizerClock, capturing
from ratewise.schedulers.explained import Explained
from ratewise.schedulers.given import Given
from ratewise.schedulers.late import LateMetric, is_far
from ratewise.schedulers.metric import as_float, as_scalar, nonfinite, on_device
from ratewise.schedulers.period import Period
from ratewise.schedulers.rates import DeviceRates, HostRates, accumulator, own_tensors
from ratewise.schedulers.record import Record
from ratewise.schedulers.step_hooks import settle
from ratewise.schedulers.watched import Watched

#: On a device, what must read from it (listeners, ``on_nonfinite="raise"``) does so this often.
SYNC_EVERY = 100


class ReactiveLR(Given, BaseRates, Watched, Explained, LRScheduler, ABC):
    """A scheduler that decides on a metric; abstract.

    ``rate[g] = own[g] * outside[g]`` with ``own[g] = rule's rate[g] * anchor(step) * ramp(step)``
    and ``ramp(t) = min(1, (t + 1) / (warmup_steps + 1))``. `outside` is what others have
    multiplied the group's rate by; it is 1 unless somebody does. One step is one call of `step`,
    however many optimizer steps lie between two; an anchor with a name counts those.

    It works in one of two runtimes. With Python rates, or losses on the host, it decides on
    Python floats. With tensor rates and a loss tensor on their device, everything stays there.
    """

    _rule: Any  #: the subclass's rule: before, update, changed, smoothed, restart, state
    _base: list[float]  #: its groups' base rates
    last_reason: Any

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        missing: str,
        anchor: Anchor,
        total_steps: int | None,
        every: int = 1,
        warmup_steps: int = 0,
        groups: Sequence[int] | None = None,
        sync: str | None = "mean",
        process_group: Any = None,
    ) -> None:
        check_optimizer(optimizer)
        check_timing(missing, every, warmup_steps)
        check_anchor(anchor, total_steps, warmup_steps)
        #: "raise" or "hold": what a bare `step()` does before any metric was given.
        self.missing = missing
        #: Steps between two decisions, and steps of the linear ramp at the start.
        self.every, self.warmup_steps = every, warmup_steps
        #: Length of the run in optimizer steps, or None. Not `total_steps`: Accelerate stops there.
        self.horizon = total_steps
        self._length = total_steps  # as constructed; the end may have been moved since
        self._anchor = anchor
        self._chosen = chosen_groups(groups, len(optimizer.param_groups))
        self._agreement = Agreement(sync, process_group)
        self._clock = OptimizerClock(optimizer)
        self._period = Period(self._agreement)
        self._record = Record()
        self._rates: Any = HostRates()
        self._group_count = 0
        self._device: torch.device | None = None
        self._seen = False
        self._synced_at = self._ramp_end = 0  #: the latter in optimizer steps
        self._told_past = False
        self._read_policy()
        super().__init__(optimizer)

    # -- what a subclass says ---------------------------------------------------------------

    @abstractmethod
    def _rule_rates(self) -> list[Any]:
        """Return each group's rate before anchor, ramp and outside factor."""

    @abstractmethod
    def _add_group(self, base: float) -> None:
        """Take in one more parameter group with this base rate."""

    @abstractmethod
    def _rebase(self, base: Sequence[float], *, restart: bool) -> None:
        """Put other base rates in place; `restart` puts the scales back to 1."""

    @abstractmethod
    def _rule_on(self, device: torch.device | None, dtype: torch.dtype) -> Any:
        """Return the rule on a device, or on Python floats for None, with all it remembers."""

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return the subclass's state as plain data."""

    @abstractmethod
    def _check_own(self, name: str, state: Any) -> None:
        """Raise `InvalidState` unless `_own_state` might have returned this; `name` says where."""

    @abstractmethod
    def _restore_own(self, state: dict[str, Any]) -> None:
        """Take over what `_own_state` returned, onto Python floats."""

    @property
    def on_nonfinite(self) -> str:
        """What is done with a metric that is not finite: "bad", "skip" or "raise"."""
        return "bad"

    def _read_policy(self) -> None:
        """Keep what every step asks for where it costs least."""
        self._raises = self.on_nonfinite == "raise"
        self._period.skip = self.on_nonfinite == "skip"
        #: Whether a Python float needs no check.
        self._plain = self._device is None and not self._raises

    # -- stepping ---------------------------------------------------------------------------

    def observe(self, loss: float | Tensor) -> None:
        """Store a metric, at hardly any cost; the next decision takes the mean of those stored.

        Raises:
            WrongType, InvalidArgument: `loss` is not one number, or on another device.
        """
        self._period.take(self._metric(loss))
        self._seen = True

    def step(self, loss: float | Tensor | None = None) -> None:
        """Advance by one step: decide, if it is time and there is a metric, and set the rates.

        A call is not counted where the optimizer has made no step since the last one: a step
        that a GradScaler skipped, a micro-batch, a second call by another layer.

        Args:
            loss: this step's metric; None takes what `observe` stored, if anything.

        Raises:
            MissingLoss: nothing was ever passed or observed, and ``missing="raise"``.
            WrongType, InvalidArgument: `loss` is not one number, or on another device.
            NonFiniteLoss: it is not finite, and ``on_nonfinite="raise"``.
        """
        self._prepare_to_write()
        self._meet_new_groups()
        plain = self._plain and type(loss) is float  # what costs nothing to check
        value = loss if plain or loss is None else self._metric(loss)
        if value is None and not self._seen:
            self._demand_a_loss()
        steps = self._clock.advance()
        if not steps:
            return
        if self._device is not None and capturing():
            ramp = max(0, self.warmup_steps - self.last_epoch)
            check_capture(self.every, ramp, self._anchor)
        self._step_count += 1
        since = self._count(steps)
        if value is not None:
            self._seen = True
        past = self.last_epoch - self.warmup_steps
        before = max(0, past - since)
        metric = None
        if past <= 0:
            self._period.forget()
        elif past // self.every > before // self.every:
            metric = self._period.close(value, self._device)
        elif value is not None:
            self._period.take(value)
        if metric is not None:
            self._act(metric)
        elif self._anchor is not None or past < since:
            self._write()
        elif self._rates.looking:
            self._look()
        self._tell_past_horizon()

    def _count(self, steps: int) -> int:
        """Move on by a call that brings so many optimizer steps; return how far."""
        self._move_on(1)
        return 1

    def _move_on(self, count: int) -> None:
        self.last_epoch += count
        if self._device is not None:
            self._ticks.add_(count)
        if self.last_epoch <= self.warmup_steps:
            self._ramp_end = self._clock.elapsed

    def _tell_past_horizon(self) -> None:
        """Warn once where the optimizer has made more steps than the run was to have."""
        step, last = self._clock.elapsed, self.horizon
        if last is None or step <= last or self._told_past or not isinstance(self._anchor, str):
            return
        self._told_past = True
        warnings.warn(
            f"step {step} is beyond total_steps={last}: the final rate holds, "
            f"{self._anchor_height():.3g} of the full one; pass the run's whole length in "
            "optimizer steps, however often step() is called",
            PastHorizonWarning,
            stacklevel=4,
        )

    def _demand_a_loss(self) -> None:
        if self.missing == "raise" and not self._agreement.always:
            raise MissingLoss(
                f"{type(self).__name__}.step() has no loss to decide on: call step(loss), or "
                "observe(loss) before step(); missing='hold' keeps the rate until one comes"
            )

    def _metric(self, loss: Any) -> float | Tensor:
        """Return the metric as this runtime takes it, checked before anything is changed."""
        if self._device is None and isinstance(loss, Tensor):
            if loss.device == self._rates_device():
                as_scalar(loss)
                self._to_device(loss.device)
            elif is_far(loss):
                self._period.late = self._period.late or LateMetric()
                return as_scalar(loss).to(accumulator(loss.device))
        if self._device is not None:
            return on_device(loss, self._device, accumulator(self._device))
        value = as_float(loss)
        # With other ranks beside us all of them are told, after the reduction.
        if self._raises and not self._agreement.active and not math.isfinite(value):
            raise nonfinite(value, self.last_epoch + 1)
        return value

    def _act(self, metric: Any) -> None:
        """Decide on a metric, write the rates, and note why."""
        if self._device is not None:
            self._act_on_device(metric)
            return
        if self._raises and not math.isfinite(metric):
            raise nonfinite(metric, self.last_epoch)
        rule, rates = self._rule, self._rates
        before = rule.before()
        rule.update(metric)
        if rule.changed():
            old = rates.current(self._groups())
            self._write()
            why = (metric, rule.smoothed(metric), *before, self.last_reason)
            self._record.note(self.last_epoch, why, old, rates.current(self._groups()))
        elif self._anchor is not None:
            self._write()
        elif rates.looking:
            self._look()
        if self._record.trace.due():
            self._record.trace.add(self.last_epoch, metric, rates.current(self._groups())[0])

    def _act_on_device(self, metric: Tensor) -> None:
        rule, record = self._rule, self._record
        before = rule.before()
        rule.update(metric)
        old = self._rates.write(self._groups(), self._own_rates())
        new = self._rates.wrote
        fixed = [self._ticks, metric, rule.smoothed(metric), *before, rule.reason]
        record.note_on_device(rule.changed(), fixed, old, new)
        if self._raises:
            self._spoilt.logical_or_(~torch.isfinite(metric))
        if capturing():
            return  # what follows is the host's, and no replay will do it
        if record.trace.due():
            record.trace.add(self.last_epoch, metric.clone(), new[0].clone())
        if self.last_epoch - self._synced_at >= SYNC_EVERY:
            self._synced_at = self.last_epoch
            if record.log.wanted:
                self.flush()
            elif self._device is not None and self._device.type == "cpu":
                self._look_back()
            if self._raises and bool(self._spoilt):
                self._spoilt.zero_()
                raise nonfinite(math.nan, self.last_epoch, SYNC_EVERY)

    def _initial_step(self) -> None:
        """Torch's first, bare step at construction: the start of anchor and ramp, no decision."""
        self._prepare_to_write()
        again = self._group_count > 0  # SequentialLR makes it again, after it has reset the rates
        self._step_count = 1
        self.last_epoch += 1
        self._take_in_groups()
        if again:
            self._to_host()
            self._rates = HostRates.of(self._groups(), self._base)
            self._to_device(self._rates_device(), unless_cpu=True)
        self._write()

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
        self._period.forget()  # what was observed before belongs to another schedule
        self._rule.restart()
        self._rates.reset(self._groups(), self._own_rates())

    def get_last_lr(self) -> list[float | Tensor]:
        """Return every group's rate as it is now, tensors copied.

        Between a step of the optimizer and the call of `step` that is the rate it was made with.
        """
        settle(self.optimizer)
        return [copied(group["lr"]) for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float | Tensor]:
        """Return the same as `get_last_lr`: rates change in `step` alone."""
        return self.get_last_lr()

    # -- rates ------------------------------------------------------------------------------

    def _groups(self) -> list[dict[str, Any]]:
        groups = self.optimizer.param_groups
        return groups if self._chosen is None else [groups[index] for index in self._chosen]

    def _prepare_to_write(self) -> None:
        """Take back what was lent to a step that raised an error, before rates are changed."""
        settle(self.optimizer)

    def _write(self) -> None:
        if self._rates.looking:
            self._look()
        self._rates.write(self._groups(), self._own_rates())

    def _own_rates(self) -> list[Any]:
        step, ramp = self.last_epoch, self.warmup_steps
        factor = self._anchor_height()
        if step < ramp:
            factor *= (step + 1) / (ramp + 1)
        rates = self._rule_rates()
        return rates if factor == 1.0 else [rate * factor for rate in rates]

    def _anchor_height(self) -> float:
        """Return the anchor's height; one with a name counts the optimizer's steps."""
        named = isinstance(self._anchor, str)
        step = self._clock.elapsed if named else self.last_epoch
        return anchor_scale(self._anchor, step, self.horizon, self._ramp_end)

    def _meet_new_groups(self) -> None:
        """Begin to schedule the groups that the optimizer has got since."""
        if self._chosen is None and self._group_count != len(self.optimizer.param_groups):
            self._take_in_groups()
        elif len(self.base_lrs) != len(self.optimizer.param_groups):
            self._name_others()

    def _take_in_groups(self) -> None:
        self._to_host()
        own_tensors(self._groups(), self.optimizer.param_groups)
        for group in self._groups()[self._group_count :]:
            check_rate(len(self._base), float(initial(group)))
            base = float(group.setdefault("initial_lr", copied(group["lr"])))
            self._add_group(base)
            self._rates.add(group, base)
        self._group_count = len(self._groups())
        self._name_others()
        self._to_device(self._rates_device(), unless_cpu=True)

    # -- devices ----------------------------------------------------------------------------

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
        self._rule = self._rule_on(device, dtype)
        self._rates = DeviceRates(self._rates, self._groups(), device)
        self._record.use_device(self._group_count, device, dtype)
        self._ticks = torch.tensor(self.last_epoch, device=device)
        self._spoilt = torch.tensor(False, device=device)
        self._synced_at = self.last_epoch
        self._device = device
        self._plain = False

    def _to_host(self) -> None:
        """Go on with Python floats: waits for the device."""
        if self._device is None:
            return
        dtype = accumulator(self._device)
        self._now()
        self._record.use_device(self._group_count, None, dtype)
        self._period.restore(self._period.state())
        known = self._groups()[: self._group_count]
        state = self._rates.state(known)
        self._rule = self._rule_on(None, dtype)
        self._rates, self._device = HostRates(), None
        self._rates.restore(known, state)
        self._read_policy()

    def check_agreement(self) -> None:
        """Raise `RanksDisagree` unless all ranks have the same rates; call it on every rank."""
        settle(self.optimizer)
        rates = [float(group["lr"]) for group in self._groups()]
        self._agreement.check(rates, self._now())

    def _now(self) -> int:
        """Return the step; a CUDA graph's replays are counted on the device alone."""
        if self._device is not None:
            self.last_epoch = int(self._ticks)
        return self.last_epoch

    # -- checkpoints ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return plain data that ``torch.load(weights_only=True)`` reads; nothing is shared.

        Torch's own keys lie at the top; ours lie under ``"ratewise"`` with a format number. An
        anchor that is a function is not saved: construct the scheduler with it again.
        """
        settle(self.optimizer)
        self._meet_new_groups()
        self._look_back()
        return saved.state_of(self)

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
        saved.load(self, state_dict, lr)
