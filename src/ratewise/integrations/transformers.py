"""Ratewise schedulers under the transformers Trainer: a callback passes losses on."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import (
    InvalidArgument,
    MissingLoss,
    extra_named,
    invalid,
    unknown,
    wrong_type,
)
from ratewise.schedulers.base import ScheduledLR
from ratewise.schedulers.composition import ratewise_parts
from ratewise.schedulers.metric_lr import MetricLR
from ratewise.schedulers.rates import accumulator

with extra_named("ratewise.integrations.transformers", "transformers"):
    from transformers import TrainerCallback


class ObserveCallback(TrainerCallback):
    """Passes the training loss, or an evaluation metric, to a scheduler that Trainer steps.

    ``Trainer(..., optimizers=(optimizer, scheduler), callbacks=[ObserveCallback(scheduler)])``.
    The scheduler must go in as Trainer's: Trainer makes a linear schedule of its own otherwise,
    which writes the rate after every step, whatever a callback has written. With the optimizer
    that Trainer would make: call ``trainer.create_optimizer()``, construct the scheduler on
    ``trainer.optimizer``, set ``trainer.lr_scheduler`` to it and add the callback.

    **The training loss** needs no evaluation set. While `train` runs, a forward hook on the model
    takes ``output.loss`` of every micro-batch as it is, on its device, without waiting for it;
    before each optimizer step the scheduler gets one value: their mean, or their sum if Trainer
    passes ``num_items_in_batch`` and so has each divided by the items of the whole step. That is
    the loss that Trainer logs (with W processes and tokens counted across them, 1/W of it). An
    epoch's last step may have fewer micro-batches; with ``num_items_in_batch`` it is not looked
    at, as models that ignore that argument give it another scale. Gradients are not affected.

    If no output has a loss (label smoothing, ``compute_loss_func``), or on `DataParallel`, the
    loss that Trainer logs is taken instead, a decision every ``logging_steps``; a warning says so,
    and only a checkpoint at such a step resumes exactly: Trainer forgets the losses in between.
    A `compute_loss` of your own beside a model that has a loss too is not seen: leave this
    callback out, construct the scheduler with ``missing="hold"`` and call
    ``scheduler.observe(loss)`` there.

    **An evaluation metric** is decided on at the first step after each evaluation; patience and
    window then count evaluations. An evaluation that is called outside `train` does not count.

    ``TrainingArguments.warmup_steps``, a number or a share of the run, becomes the scheduler's
    ramp if it has none: rate = base * (t + 1) / (W + 1) at steps t = 0..W. When a run resumes,
    what the checkpoint says holds. The run's length goes to a `GreedyLR` that was given neither a
    length nor a schedule: it decides the criterion where none was named, and ends the run under
    ``"significance"``. The steps in an epoch are `steps_per_epoch` of `UpdateRatioLR` and
    `LearnedLR` where none were given, and the rows in a step `LearnedLR`'s `batch_size`.

    Checkpoints need nothing from here: all memory is the scheduler's, in Trainer's scheduler.pt.

    Args:
        scheduler: a ratewise scheduler, the one that Trainer has, be it wrapped by Accelerate or
            a part of torch's SequentialLR or ChainedScheduler. Its `missing` becomes "hold".
        metric: ``"loss"``, or the name of an evaluation metric, ``"eval_loss"``; the prefix
            ``eval_`` may be left out of others. For accuracies the scheduler has ``mode="max"``.

    Raises:
        WrongType: at construction, `scheduler` or `metric` is of another kind.
        InvalidArgument: when `train` begins, Trainer has another scheduler, never evaluates, or
            has another `warmup_steps` than the scheduler.
        UnknownName: after the first evaluation, `metric` is not among its metrics.
        MissingLoss: at the first step, there is no loss in the output, and none is logged.
    """

    def __init__(self, scheduler: ScheduledLR, metric: str = "loss") -> None:
        if not isinstance(scheduler, ScheduledLR):
            fix = "pass the one in Trainer's optimizers=(optimizer, scheduler)"
            raise wrong_type("scheduler", "a ratewise scheduler", scheduler, fix)
        if not isinstance(metric, str):
            raise wrong_type("metric", "a name", metric, "pass 'loss' or e.g. 'eval_loss'")
        self.scheduler, self.metric = scheduler, metric
        self._hook: Any = None
        self._training = self._heard = self._falls_back = False
        self._found: set[str] = set()  # names of metrics that were not the one looked for
        self._full = 1  # micro-batches of a whole step
        self._forget()

    def _forget(self) -> None:
        self._total: Tensor | None = None
        self._count = 0
        self._normalised = False

    # -- Trainer's calls --------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check that Trainer steps our scheduler, set its ramp, and attach the hook."""
        self._release()  # left over if the last training was interrupted
        theirs = kwargs.get("lr_scheduler")
        parts = ratewise_parts(_unwrapped(theirs))
        if not any(part is self.scheduler for part in parts):
            raise InvalidArgument(
                "Trainer's scheduler must be the one that ObserveCallback has, got "
                f"{type(theirs).__name__}: pass Trainer(..., optimizers=(optimizer, scheduler)), "
                "else Trainer overwrites the rate"
            )
        if self.metric != "loss" and args.eval_strategy == "no":
            fix = f"metric={self.metric!r} needs evaluations; pass 'steps' or 'epoch'"
            raise invalid("eval_strategy", "'steps' or 'epoch'", "no", fix)
        if state.global_step == 0 and self.scheduler.last_epoch <= 0:
            self._set_ramp(args.get_warmup_steps(state.max_steps), _unwrapped(theirs))
        if _unwrapped(theirs) is self.scheduler:
            self.scheduler.hear_length(state.max_steps)
            batches = _length(kwargs.get("train_dataloader"))
            if batches is not None:
                accumulated = args.gradient_accumulation_steps
                rows = args.train_batch_size * accumulated * args.world_size
                self.scheduler.hear_data(-(-batches // accumulated), rows)
        if isinstance(self.scheduler, MetricLR):
            self.scheduler.missing = "hold"
        self._training, self._heard, self._falls_back = True, False, False
        self._found.clear()
        self._forget()
        if self.metric == "loss" and args.n_gpu <= 1:
            self._full = _at_most(args.gradient_accumulation_steps, kwargs["train_dataloader"])
            self._hook = kwargs["model"].register_forward_hook(self._hear, with_kwargs=True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin a new sum."""
        self._check_found()
        self._forget()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Pass this step's loss to the scheduler."""
        if self.metric != "loss":
            return
        if self._total is not None:
            if not self._normalised:
                self.scheduler.observe(self._total / self._count)
            elif self._count >= self._full:
                self.scheduler.observe(self._total)
        elif not (self._heard or self._falls_back):
            self._fall_back(args, state)
        self._forget()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Pass the logged loss on, if the model has none."""
        logs = kwargs.get("logs") or {}
        if self._training and self.metric == "loss" and not self._heard and "loss" in logs:
            self.scheduler.observe(logs["loss"])

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Pass the evaluation's metric on, if `metric` names it."""
        metrics = kwargs.get("metrics") or {}
        if not self._training or self.metric == "loss":
            return
        for name in (self.metric, f"eval_{self.metric}"):
            if name in metrics:
                self._heard = True
                self.scheduler.observe(metrics[name])
                return
        self._found |= set(metrics)  # one of several data sets, perhaps: the others come first

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the hook."""
        self._release()
        self._check_found()

    # -- what they do -----------------------------------------------------------------------

    @torch.compiler.disable
    def _hear(self, module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Add up a micro-batch's loss: a forward hook, outside any compiled graph."""
        if not module.training:
            return
        if isinstance(output, dict):
            loss = output.get("loss")
        else:  # a tuple begins with the loss, if there is one
            loss = output[0] if isinstance(output, tuple) and output else None
        if not isinstance(loss, Tensor) or loss.dim() > 0:
            return
        # A copy: Trainer may multiply the loss in place, and a compiled model reuse its memory.
        loss = loss.detach().to(accumulator(loss.device), copy=True)
        self._total = loss if self._total is None else self._total + loss
        self._count += 1
        self._normalised = kwargs.get("num_items_in_batch") is not None
        self._heard = True

    def _fall_back(self, args: Any, state: Any) -> None:
        """Say that the logged loss is taken, at the first step without another."""
        self._falls_back = True
        where = "the model's output has no loss that can be read"
        fix = "pass logging_strategy='steps', logging_steps=1 for a decision every step"
        if args.logging_strategy == "no":
            raise MissingLoss(f"{where}, and Trainer logs none: {fix}")
        if args.logging_strategy != "steps" or state.logging_steps != 1:
            often = "epoch" if args.logging_strategy == "epoch" else f"{state.logging_steps} steps"
            warnings.warn(f"{where}: taking Trainer's, every {often}; {fix}", stacklevel=2)

    def _set_ramp(self, steps: int, theirs: Any) -> None:
        """Give the scheduler the training arguments' ramp, from the first step on."""
        scheduler = self.scheduler
        if steps in (0, scheduler.warmup_steps):
            return
        if scheduler.warmup_steps or theirs is not scheduler:
            others = scheduler.warmup_steps or f"that of {type(theirs).__name__}"
            fix = "leave one of the two out"
            raise invalid("warmup_steps", f"the scheduler's own, {others}, or 0", steps, fix)
        if scheduler.horizon is not None and steps >= scheduler.horizon:
            fix = "pass a shorter ramp"
            allowed = f"below the scheduler's total_steps={scheduler.horizon}"
            raise invalid("warmup_steps", allowed, steps, fix)
        scheduler.warmup_steps = steps
        scheduler._update_lr(0)  # torch's way back to the initial rates, now those of the ramp

    def _check_found(self) -> None:
        """Raise if an evaluation has ended and the metric was not in it."""
        if self._found and not self._heard:
            raise unknown("metric", self.metric, self._found)

    def _release(self) -> None:
        self._training = False
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _unwrapped(scheduler: Any) -> Any:
    """Return what Accelerate's wrapper holds."""
    return getattr(scheduler, "scheduler", scheduler)


def _at_most(steps: int, loader: Any) -> int:
    """Return how many micro-batches a whole step has: `steps`, or an epoch's if it has fewer."""
    batches = _length(loader)
    return steps if batches is None else min(steps, batches)


def _length(loader: Any) -> int | None:
    """Return an epoch's micro-batches, or None where they are not known."""
    try:
        return len(loader)
    except TypeError:
        return None
