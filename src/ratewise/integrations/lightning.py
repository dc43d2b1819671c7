"""Ratewise schedulers under Lightning, by one line in `configure_optimizers`."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ratewise.errors import extra_named, invalid, unknown, wrong_type
from ratewise.schedulers.base import ScheduledLR
from ratewise.schedulers.composition import ratewise_parts
from ratewise.schedulers.metric_lr import MetricLR
from ratewise.schedulers.rates import accumulator

with extra_named("ratewise.integrations.lightning", "lightning"):
    from lightning.pytorch import Callback, LightningModule, Trainer

INTERVALS = ("step", "epoch")


def configure(
    module: LightningModule,
    optimizer: Optimizer,
    scheduler: LRScheduler,
    monitor: str | None = None,
    *,
    interval: str | None = None,
) -> dict[str, Any]:
    """Return what `configure_optimizers` is to return, and pass the run's losses to the scheduler.

    .. code-block:: python

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
            scheduler = ratewise.GreedyLR(optimizer)
            return ratewise.integrations.lightning.configure(self, optimizer, scheduler)

    Lightning steps its schedulers without a loss; an `ObserveCallback`, added here to the front
    of the trainer's callbacks, brings the loss or metric before that. What a step is:

    ============  ===========  =================================================================
    monitor       interval     the schedule
    ============  ===========  =================================================================
    None          ``"step"``   steps with each optimizer step, on that step's training loss
    a metric      ``"epoch"``  steps once at the end of each validation, on the metric
    a metric      ``"step"``   steps with each optimizer step, for ramp, schedule and horizon; the
                               metric is decided on at the first step after each validation
    ============  ===========  =================================================================

    **The loss** is what `training_step` returned, undivided: with `accumulate_grad_batches` the
    mean of the micro-batches since the last decision. It is taken before the backward pass, on
    its device, and not waited for. Of a step that a GradScaler skipped it counts for the next.

    **A metric** is one that `validation_step` logs; in a run without validation, one that
    `training_step` logs for the epoch, taken at the end of each epoch. Sanity checking and
    `trainer.validate` do not count.

    **Checkpoints** hold the scheduler: it decides before `ModelCheckpoint` saves, and a metric
    that waits for its decision is part of the state. Lightning's own way of passing a metric
    (``reduce_on_plateau``) decides after that, and a resumed run lacks that epoch's decision. Of
    a checkpoint between a batch and its validation (`every_n_train_steps`) Lightning goes on
    without that validation, and so without its metric.

    The run's length goes to a `GreedyLR` that was given neither a length nor a schedule: it decides
    the criterion where none was named, and ends the run under ``"significance"``. The steps in an
    epoch are `steps_per_epoch` of `UpdateRatioLR` and `LearnedLR` where none were given, and a
    loader's rows `LearnedLR`'s `batch_size`.

    To decide less often give the scheduler ``decide_every=k``. Its `missing` becomes ``"hold"``, as
    there are steps without a loss. Without a trainer (a loop of your own) only the dict is made.

    Args:
        module: the LightningModule, `self` in `configure_optimizers`.
        optimizer: its only optimizer; Lightning has but one in automatic optimization.
        scheduler: a ratewise scheduler, or torch's SequentialLR or ChainedScheduler with one.
        monitor: None for the training loss, or the name of a metric that is logged. For
            accuracies the scheduler has ``mode="max"``.
        interval: as above; None is ``"epoch"`` with a monitor and ``"step"`` without.

    Raises:
        WrongType: an argument of another kind, a scheduler with no ratewise one in it.
        UnknownName: another `interval`; after the first validation, a `monitor` that is not logged.
        InvalidArgument: ``"epoch"`` without a monitor; manual optimization.

    >>> layer = torch.nn.Linear(1, 1)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> from ratewise import GreedyLR
    >>> configured = configure(LightningModule(), optimizer, GreedyLR(optimizer))
    >>> configured["lr_scheduler"]["interval"], configured["lr_scheduler"]["frequency"]
    ('step', 1)
    """
    if not isinstance(module, LightningModule):
        raise wrong_type("module", "a lightning.pytorch.LightningModule", module, "pass self first")
    if not isinstance(optimizer, Optimizer):
        raise wrong_type("optimizer", "a torch.optim.Optimizer", optimizer, "pass it second")
    if not isinstance(scheduler, LRScheduler) or not (found := ratewise_parts(scheduler)):
        fix = "pass e.g. ratewise.GreedyLR(optimizer) third"
        allowed = "a ratewise scheduler, or a torch one that contains one"
        raise wrong_type("scheduler", allowed, scheduler, fix)
    if monitor is not None and not isinstance(monitor, str):
        fix = "pass None for the training loss, or e.g. 'val_loss'"
        raise wrong_type("monitor", "a metric's name", monitor, fix)
    interval = interval or ("step" if monitor is None else "epoch")
    if interval not in INTERVALS:
        raise unknown("interval", interval, INTERVALS)
    if interval == "epoch" and monitor is None:
        fix = "pass monitor='val_loss'; for the training loss, decide_every=k of the scheduler"
        raise invalid("monitor", "a metric's name where interval='epoch'", monitor, fix)
    if not module.automatic_optimization:
        fix = "in manual optimization call scheduler.step(loss) after optimizer.step() yourself"
        raise invalid("automatic_optimization", "True", False, fix)
    for part in found:
        if isinstance(part, MetricLR):
            part.missing = "hold"
    _attach(module, ObserveCallback(scheduler, found, monitor, interval))
    # Lightning would step an epoch's schedule before its validation: the callback does it after.
    frequency = 1 if interval == "step" else sys.maxsize
    settings = {"scheduler": scheduler, "interval": interval, "frequency": frequency}
    return {"optimizer": optimizer, "lr_scheduler": settings}


class ObserveCallback(Callback):
    """Passes the training loss, or a metric, to a scheduler; `configure` makes and attaches it."""

    def __init__(
        self,
        outer: LRScheduler,
        schedulers: list[ScheduledLR],
        monitor: str | None,
        interval: str,
    ) -> None:
        self.outer, self.schedulers = outer, schedulers
        self.monitor, self.interval = monitor, interval

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Pass the run's length on, where it is known and the scheduler is not part of another."""
        steps = trainer.estimated_stepping_batches
        if self.schedulers == [self.outer] and isinstance(steps, int) and steps > 0:
            self.schedulers[0].hear_length(steps)
            batches = trainer.num_training_batches
            if isinstance(batches, int) and batches > 0:
                accumulated = trainer.accumulate_grad_batches
                rows = getattr(trainer.train_dataloader, "batch_size", None)
                whole = rows * accumulated * trainer.world_size if isinstance(rows, int) else None
                self.schedulers[0].hear_data(-(-batches // accumulated), whole)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Take a micro-batch's loss, as `training_step` returned it."""
        if self.monitor is not None:
            return
        loss = loss.detach()
        count = trainer.accumulate_grad_batches
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None or count > 1:
            loss = loss.to(accumulator(loss.device)) * count
        if scaler is not None:  # its factor is on the device, and is not read
            loss = loss / scaler.scale(torch.ones_like(loss))
        for scheduler in self.schedulers:
            scheduler.observe(loss)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the metric: before `ModelCheckpoint`, which Lightning keeps at the end."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._take_metric(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the metric, if there is no validation."""
        if not trainer.enable_validation:
            self._take_metric(trainer)

    def _take_metric(self, trainer: Any) -> None:
        if self.monitor is None:
            return
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise unknown("monitor", self.monitor, metrics)
        for scheduler in self.schedulers:
            # Read once a validation: a metric on a device would be decided on a period late.
            scheduler.observe(float(metrics[self.monitor]))
        if self.interval == "epoch":
            self.outer.step()


def _attach(module: LightningModule, callback: ObserveCallback) -> None:
    """Put the callback in front of the trainer's, in place of an earlier fit's."""
    try:
        trainer = module.trainer
    except RuntimeError:  # there is none
        return
    if isinstance(trainer, Trainer):
        others = [other for other in trainer.callbacks if not isinstance(other, ObserveCallback)]
        trainer.callbacks = [callback, *others]
