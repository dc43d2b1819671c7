"""A scheduler that decides on a metric: periods, ranks, late metrics, metrics on a device."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import MissingLoss, unknown
from ratewise.rules import schema
from ratewise.rules.checks import check_count
from ratewise.rules.period import nonfinite
from ratewise.rules.schema import Check
from ratewise.schedulers import period
from ratewise.schedulers.agreement import Agreement
from ratewise.schedulers.async_metric import AsyncMetric, is_far
from ratewise.schedulers.base import ScheduledLR
from ratewise.schedulers.metric import as_float, on_device
from ratewise.schedulers.period import SharedPeriod
from ratewise.schedulers.rates import accumulator
from ratewise.schedulers.resume import Place, at
from ratewise.schedulers.source import RateSource

#: On a device, what must read from it (listeners, ``on_nonfinite="raise"``) does so this often.
SYNC_EVERY = 100


class MetricLR(ScheduledLR):
    """A scheduler that decides on a metric; abstract.

    One step is one call of `step`, however many optimizer steps lie between two. It works in one
    of two runtimes. With Python rates, or losses on the host, it decides on Python floats. With
    tensor rates and a loss tensor on their device, everything stays there.

    Args:
        optimizer: whose rates are scheduled.
        source: where the groups' rates come from.
        missing: ``"raise"`` or ``"hold"``: what a bare `step` does before any metric was given.
        decide_every: steps between two decisions.
        sync: how ranks come to one metric.
        process_group: of `torch.distributed`.
        rest: of `ScheduledLR`.
    """

    _places: ClassVar[Mapping[str, Place]] = {
        **ScheduledLR._places,
        "decide_every": at("decide_every"),
        "missing": at("missing"),
    }
    _table: ClassVar[Mapping[str, Check]] = {
        **ScheduledLR._table,
        "missing": schema.choice("raise", "hold"),
        "decide_every": schema.count(1),
        "seen": schema.flag,
        **period.TABLE,
    }

    def __init__(
        self,
        optimizer: Optimizer,
        source: RateSource,
        *,
        missing: str,
        decide_every: int = 1,
        sync: str | None = "mean",
        process_group: Any = None,
        **rest: Any,
    ) -> None:
        if missing not in ("raise", "hold"):
            raise unknown("missing", missing, ("raise", "hold"))
        check_count("decide_every", decide_every, 1)
        self.missing, self.decide_every = missing, decide_every
        self._seen = False  # a metric, ever
        self._open = False  # whether `_meet_first` is still to come
        agreement = Agreement(sync, process_group)
        self._period = SharedPeriod(agreement)
        self._read_policy()
        super().__init__(optimizer, source, agreement=agreement, **rest)

    @abstractmethod
    def _decide(self, metric: Any) -> None:
        """Decide on a metric, write the rates, and note why."""

    def _meet_first(self, every: int) -> None:
        """Settle what depends on how often metrics come: called once, before the first decision.

        Args:
            every: optimizer steps to a metric, as far as the first one tells.
        """
        return

    @property
    def on_nonfinite(self) -> str:
        """What is done with a metric that is not finite: "bad", "skip" or "raise"."""
        return "bad"

    # -- stepping -----------------------------------------------------------------------------

    def observe(self, loss: float | Tensor) -> None:
        """Store a metric, without deciding; the next decision takes the mean of those stored.

        Raises:
            WrongType, InvalidArgument: `loss` is not one number, or on another device.
        """
        metric = self._metric(loss)
        self._choose_runtime(metric)
        self._period.take(metric)
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
        value = loss
        if loss is None:
            if not self._seen:
                self._demand_a_loss()
        elif not (self._plain and type(loss) is float):  # which needs no check
            value = self._metric(loss)
            self._choose_runtime(value)
        since = self._advance()
        if not since:
            return
        if value is not None:
            self._seen = True
        metric = self._due(value, since)
        if metric is not None:
            self._decide(metric)
            if self.horizon is not None:
                self._tell_past_horizon()
        else:
            self._write_if_due(since)

    def _due(self, value: float | Tensor | None, since: int) -> Any:
        """Take in this step's metric; return the one to decide on, if a period ends here."""
        past, every = self.last_epoch - self.warmup_steps, self.decide_every
        if past <= 0:
            self._period.own.clear()
        elif every == 1 or past // every > max(0, past - since) // every:
            metric = self._period.close(value, self._device)
            if self._open and (metric is not None or self._period.late is not None):
                self._open = False
                self._meet_first(max(1, self._clock.elapsed - self._ramp_end))
            return metric
        elif value is not None:
            self._period.take(value)
        return None

    def _demand_a_loss(self) -> None:
        if self.missing == "raise" and not self._agreement.always:
            raise MissingLoss(
                f"{type(self).__name__}.step() has no loss to decide on: call step(loss), or "
                "observe(loss) before step(); under transformers' Trainer pass callbacks="
                "[ObserveCallback(scheduler)], under Lightning return configure(self, optimizer, "
                "scheduler), both of ratewise.integrations; missing='hold' keeps the rate until "
                "one comes"
            )

    def _read_policy(self) -> None:
        """Keep as attributes what every step looks up."""
        self._raises = self.on_nonfinite == "raise"
        self._period.own.skip = self.on_nonfinite == "skip"
        #: Whether a Python float needs no check.
        self._plain = self._device is None and not self._raises

    # -- where decisions are made ---------------------------------------------------------------

    def _decision_device(self, loss: Tensor) -> torch.device | None:
        """Return where a loss that is a tensor is decided on; None is on Python floats."""
        return loss.device if loss.device == self._rates_device() else None

    def _metric(self, loss: Any) -> float | Tensor:
        """Return the metric, checked: a tensor where it is not to be read, else a float."""
        device = self._device
        if isinstance(loss, Tensor) and device is None:
            device = self._decision_device(loss) or (loss.device if is_far(loss) else None)
        if device is not None:
            return on_device(loss, device, accumulator(device))
        value = as_float(loss)
        # With other ranks beside us all of them are told, after the reduction.
        if self._raises and not self._agreement.active:
            total = self._period.total_with(value)
            if not math.isfinite(total):
                raise nonfinite(value, f"step {self.last_epoch + 1}", total=total)
        return value

    def _choose_runtime(self, metric: float | Tensor) -> None:
        """Go on with tensors if this metric is on the rates' device; read others a period later."""
        if self._device is not None or not isinstance(metric, Tensor):
            return
        if metric.device == self._rates_device():
            self._to_device(metric.device)
        elif self._decision_device(metric) is None:
            self._period.late = self._period.late or AsyncMetric()

    def _to_device(self, device: torch.device | None, *, unless_cpu: bool = False) -> None:
        before = self._device
        super()._to_device(device, unless_cpu=unless_cpu)
        if self._device is not before:
            self._spoilt = torch.tensor(False, device=device)
            self._synced_at = self.last_epoch
            self._plain = False

    def _to_host(self) -> None:
        if self._device is None:
            return
        self._period.restore(self._period.state())
        super()._to_host()
        self._read_policy()

    def _update_lr(self, epoch: int | None = None) -> None:
        super()._update_lr(epoch)
        if epoch is not None:
            self._period.own.clear()  # what was observed before belongs to another schedule

    # -- checkpoints ----------------------------------------------------------------------------

    def _to_state(self) -> dict[str, Any]:
        return {
            **super()._to_state(),
            "missing": self.missing,
            "decide_every": self.decide_every,
            "seen": self._seen,
            **self._period.state(),
        }

    def _restore(self, ours: dict[str, Any]) -> None:
        super()._restore(ours)
        self.missing, self.decide_every = ours["missing"], ours["decide_every"]
        self._seen = ours["seen"]
        self._period.restore(ours)
        self._read_policy()
