"""The Keras callback: which value the rule gets, and when, and where the rates are written."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterable
from typing import Any

import keras

from ratewise.errors import InvalidState, WrongType, invalid, unknown, wrong_type
from ratewise.integrations.keras import state as states
from ratewise.integrations.keras.batch_metric import BatchMetric, number
from ratewise.integrations.keras.decider import Decider
from ratewise.integrations.keras.schedule import FitSchedule
from ratewise.integrations.keras.settings import CallbackSettings
from ratewise.rules.greedy_config import RELATIVE_BOUNDS, GreedyConfig, merged
from ratewise.schedulers.events import Event, logger

#: How many of the last events are kept.
CAPACITY = 1000
#: Methods of a model that decide what its logs hold.
_OVERRIDABLE = ("train_step", "compute_metrics", "get_metrics_result")

Logs = dict[str, Any] | None


class GreedyLR(keras.callbacks.Callback):
    r"""Raise the rate while the (smoothed) loss improves, lower it while it does not.

    The rule is `ratewise.GreedyLR`'s: rate = clamp(base * scale, min_lr, max_lr) * ramp(t), with
    base the optimizer's rate when the first fit begins and t = 0, 1, ... the step, a batch or an
    epoch (`interval`). With W = `warmup_steps`, ramp(t) = min(1, (t + 1) / (W + 1)).

    **The batch's own loss.** After a batch Keras reports the epoch's running mean. A difference
    of running totals (float32) loses digits as the epoch grows, and after one NaN is NaN until
    its end. So the metric is set to zero before the batch, and its earlier value is added back
    afterwards: the rule gets this batch alone, to a rounding, whatever its size and sample
    weights, and the epoch's mean is the same to the bit. Callbacks before this one in the list see
    the batch's own value, those after it the running mean. With `steps_per_execution` a "batch" is
    one call of the compiled function. Reading the value costs no wait: Keras logs it anyway.

    **Going on after an interruption.** Keras's checkpoints hold the model, the optimizer and its
    rate, but no callbacks. So the rule's memory is kept in a small JSON file, `state_file`. It is
    replaced in one piece after each epoch, read when `fit` begins, and must be of the model's
    optimizer step. It holds the last two epochs: put this callback before the one that saves the
    model (`BackupAndRestore`, `ModelCheckpoint`), and a run that is killed between writing the two
    files goes on.

    **The end of a fit.** A schedule with a name multiplies the rate, after the bounds, over the
    epochs times the steps of the fit, those before `initial_epoch` included. Under significance it
    is ``"stable-decay:0.7"`` unless another is named, so that a fit ends annealed. Each fit has an
    end of its own; where several are one run, pass `total_steps`. Where no criterion is named, it
    is decided at the first metric, as for `ratewise.GreedyLR`, and for the fits that follow.

    The state belongs to the optimizer: a further `fit` goes on, a new `compile` begins anew. A
    `MultiOptimizer` keeps the ratios of its rates. Nothing else may set the rate. Pass callbacks
    as a list. The epoch's logs get ``learning_rate``.

    Args:
        monitor: a metric that the model reports (what other callbacks put into logs is not seen).
        interval: ``"batch"`` decides on each batch's own value, ``"epoch"`` on the epoch's, such
            as ``"val_loss"``; an epoch without validation counts for the ramp alone.
        decide_every: steps a decision; the rule gets the mean of their finite values. A period
            with a non-finite value is non-finite as a whole, under ``"skip"`` only if all its
            values are.
        warmup_steps: W, steps of a linear ramp to the base rate; the rule gets none of them.
        criterion, factor, patience, window, threshold, warmup, cooldown, mode: as for
            `ratewise.GreedyLR`.
        on_nonfinite: a NaN or infinity counts as ``"bad"``, or ``"skip"`` it, or ``"raise"``.
        config: all settings of the rule.
        min_lr: lower bound of the rate before ramp and schedule, default 0.1 times the base.
        max_lr: upper bound, default 10 times the base.
        schedule: a name such as ``"cosine"``; None is ``"stable-decay:0.7"`` under significance,
            else none. ``"constant"`` is none.
        total_steps: the run's length in optimizer steps, where it is another than the fit's.
        state_file: path of the memory's file, or None.
        verbose: 1 prints each change of the rate.

    Raises:
        InvalidArgument, UnknownName, WrongType: a setting outside its range; when `fit` begins, an
            unknown `monitor` (after its first batch if the model has its own train step), a rate
            outside its bounds, or one that cannot be set, such as a schedule.
        InvalidState: `state_file` is damaged or of other settings or steps. It stays as it is.
        NonFiniteLoss: what `on_nonfinite` asked for.

    >>> import numpy as np
    >>> model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    >>> model.compile(keras.optimizers.SGD(0.01), loss="mse")
    >>> greedy = GreedyLR(factor=0.5, patience=1, window=1)
    >>> _ = model.fit(np.ones((8, 1)), np.ones(8), batch_size=2, verbose=0, callbacks=[greedy])
    >>> greedy.events[0].words()
    'step 3: increase 0.01 -> 0.02; loss 0.8493 (mean 0.8493) was better than 0.9216, run of 2'
    """

    def __init__(
        self,
        monitor: str = "loss",
        *,
        interval: str = "batch",
        decide_every: int = 1,
        warmup_steps: int = 0,
        criterion: str | None = None,
        factor: float | None = None,
        patience: int | None = None,
        window: int | None = None,
        threshold: float | None = None,
        warmup: int | None = None,
        cooldown: int | None = None,
        mode: str | None = None,
        on_nonfinite: str | None = None,
        config: GreedyConfig | None = None,
        min_lr: float | None = None,
        max_lr: float | None = None,
        schedule: str | None = None,
        total_steps: int | None = None,
        state_file: str | os.PathLike[str] | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        rule = merged(
            config,
            criterion=criterion,
            factor=factor,
            patience=patience,
            window=window,
            threshold=threshold,
            warmup=warmup,
            cooldown=cooldown,
            mode=mode,
            on_nonfinite=on_nonfinite,
        )
        self._settings = CallbackSettings(
            monitor,
            interval,
            decide_every,
            warmup_steps,
            min_lr,
            max_lr,
            rule,
            schedule,
            total_steps,
        )
        self.monitor, self.interval, self.decide_every = monitor, interval, decide_every
        self.warmup_steps, self.state_file, self.verbose = warmup_steps, state_file, verbose
        self._file = states.StateFile(state_file, self._settings)
        self._decider = Decider(self._settings)
        self._schedule = FitSchedule(self._settings.schedule, total_steps)
        self._events: deque[Event] = deque(maxlen=CAPACITY)
        self._optimizer: Any = None  # whose state this is; None: whichever comes next
        self._iterations = 0  # of the optimizer, when it was last looked at
        self._begun = self._handed = self._warned = False

    @property
    def events(self) -> list[Event]:
        """The last 1000 changes of the rate, oldest first; they are not part of the state."""
        return list(self._events)

    @property
    def last_reason(self) -> str:
        """The reason of the last decision: one of `ratewise.rules.greedy.REASONS`."""
        return self._decider.last_reason

    # -- the state --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next decision depends on, as plain copied data fit for JSON."""
        if self._begun:
            self._iterations = _iterations(self.model.optimizer)
        return {
            "format": states.FORMAT,
            "callback": states.CALLBACK,
            "settings": self._decider.settings.plain(),
            "iterations": self._iterations,
            **self._decider.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, at the next `fit`, whatever a `state_file` says.

        Raises:
            InvalidState: a foreign, newer or damaged state, or one of other settings. Nothing has
                changed then.
        """
        self._adopt(states.checked(state, "state_dict", self._settings))
        self._optimizer, self._handed, self._begun = None, True, False

    def _adopt(self, state: dict[str, Any]) -> None:
        self._decider.restore(state, self._settings.as_saved(state["settings"]))
        self._schedule.name = self._decider.settings.schedule
        self._iterations = state["iterations"]

    @property
    def criterion(self) -> str | None:
        """What makes a good or a bad step; None before the first metric, if none was named."""
        return self._decider.settings.config.criterion

    def _meet_first(self) -> None:
        """Decide by which criterion the run goes on, where none was named."""
        model, every = self.model, self._decider.step + 1
        whole = self._schedule.length(
            self.params,
            self.interval,
            batches=_accumulated(model.optimizer),
            at_once=getattr(model, "steps_per_execution", None) or 1,
        )
        settings, why = self._settings.decided(None if whole is None else whole / every)
        self._decider.decide_by(settings)
        self._schedule.name = settings.schedule
        logger.info("criterion: %s, as %s", self.criterion, why)

    # -- Keras's calls ----------------------------------------------------------------------

    def on_train_begin(self, logs: Logs = None) -> None:
        """Refuse a rate that cannot be set; the rest waits, other callbacks may load weights."""
        self._begun = False
        self._schedule.begin_fit()
        _rates_of(self.model.optimizer)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begin with the model's optimizer, at the first epoch of a fit; follow the schedule."""
        optimizer = self.model.optimizer
        batches, made = _accumulated(optimizer), _iterations(optimizer)
        if not self._begun:
            self._begin(self.model)
        self._schedule.begin_epoch(epoch, self.params, iterations=made, batches=batches)
        self._decider.height = self._schedule.height
        self._write()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Zero the metric, so that it will hold this batch alone."""
        if self.interval == "batch" and self.model:  # on jax, `model` brings the variables here
            self._metric.hold()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Put the metric's earlier batches back, and decide on this batch's own value."""
        logs = {} if logs is None else logs
        value = logs.get(self.monitor)
        if self.interval == "batch" and self.model:
            if self._metric.elsewhere:
                fix = "Keras runs a callback without a list in threads: write callbacks=[...]"
                raise wrong_type("callbacks", "a list", self, fix)
            mean = self._metric.put_back()
            if mean is not None:
                logs[self.monitor] = mean
        self._check_monitor(logs)
        before, self._decider.height = self._decider.height, self._schedule.after(batch)
        if self.interval == "batch":
            self._take(value)
        elif self._decider.height != before and self.model:
            self._write()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Log the rate, decide on the epoch's value, and save."""
        logs = {} if logs is None else logs
        if len(self._variables) == 1:
            logs["learning_rate"] = number(self._variables[0])
        if self.interval == "epoch":
            value = logs.get(self.monitor)
            if value is None and not self._warned:
                self._warned = True
                warnings.warn(
                    f"no {self.monitor!r} after epoch {epoch + 1}, nothing to decide on: pass "
                    "validation_data to fit, or monitor='loss' to GreedyLR",
                    stacklevel=2,
                )
            self._take(value)
        if self.state_file is not None:
            self._file.save(self.state_dict())

    # -- decisions --------------------------------------------------------------------------

    def _begin(self, model: Any) -> None:
        """Find the state of the model's optimizer and set its rate, before the first batch."""
        variables, iterations = _rates_of(model.optimizer), _iterations(model.optimizer)
        self._metric = BatchMetric(model, self.monitor)
        plain = ((getattr(type(model), x), getattr(keras.Model, x)) for x in _OVERRIDABLE)
        if all(ours is theirs for ours, theirs in plain):  # else the first batch's logs will tell
            self._check_monitor(model.get_metrics_result())
            if self.interval == "batch" and not self._metric.means:
                fix = "pass monitor='loss', or interval='epoch'"
                raise invalid("monitor", "a mean over batches", self.monitor, fix)

        same = self._optimizer is model.optimizer
        saved = self._file.read()
        matching = [state for state in saved if state["iterations"] == iterations]
        if saved and not (matching or same or self._handed):
            steps = " and ".join(str(state["iterations"]) for state in saved)
            raise InvalidState(
                f"{self.state_file} is of optimizer step {steps}, the model is at {iterations}: "
                "load the checkpoint of that moment, or move the file away to begin anew"
            )
        if matching and not self._handed:
            self._adopt(matching[-1])
        elif not (same or self._handed):
            self._decider.forget(self._settings)
            self._schedule.name = self._settings.schedule

        self._rates = [number(variable) for variable in variables]
        base = self._decider.base or list(self._rates)
        if len(base) != len(variables):
            raise InvalidState(
                f"the state is of {len(base)} learning rates, the optimizer has {len(variables)}: "
                "compile with the optimizer that it was saved with"
            )
        bounds = [self._bound(*pair) for pair in zip(base, variables, strict=True)]
        self._decider.begin(base, *zip(*bounds, strict=True))
        self._optimizer, self._variables = model.optimizer, variables
        self._handed, self._begun = False, True

    def _bound(self, base: float, variable: Any) -> tuple[float, float]:
        """Return a rate's bounds, rounded as the variable would: 0.1 is not below float32's 0.1."""
        given = (self._settings.min_lr, self._settings.max_lr)
        low, high = (
            base * multiple
            if bound is None
            else number(keras.ops.convert_to_tensor(bound, dtype=variable.dtype))
            for bound, multiple in zip(given, RELATIVE_BOUNDS, strict=True)
        )
        if not low <= base <= high:
            fix = "widen the bounds, or compile with another learning rate"
            raise invalid("learning_rate", f"in [min_lr, max_lr] = [{low:g}, {high:g}]", base, fix)
        return low, high

    def _check_monitor(self, logs: Iterable[str]) -> None:
        names = {*logs, *(f"val_{name}" for name in logs if self.interval == "epoch")}
        if self.monitor not in names:
            raise unknown("monitor", self.monitor, names - {"learning_rate"})

    def _take(self, value: float | None) -> None:
        """Count a step, and set the rates of the next one."""
        if value is not None and self.criterion is None:
            self._meet_first()
        event = self._decider.take(value)
        self._write()
        if event is not None:
            self._events.append(event)
            if self.verbose:
                print(f"\n{event.words()}")

    def _write(self) -> None:
        """Set the rates of the next step, where they differ from what was set last."""
        for index, rate in enumerate(self._decider.rates()):
            if rate != self._rates[index]:
                self._rates[index] = rate
                self._variables[index].assign(rate)


def _iterations(optimizer: Any) -> int:
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def _accumulated(optimizer: Any) -> int:
    """Return of how many batches the optimizer makes a step."""
    return getattr(optimizer, "gradient_accumulation_steps", None) or 1


def _rates_of(optimizer: Any) -> list[Any]:
    """Return the variables of the optimizer's learning rates, several for a MultiOptimizer."""
    rates = []
    for each in getattr(optimizer, "optimizers", [optimizer]):
        rates.append(each.learning_rate)
        if not isinstance(rates[-1], keras.Variable):  # what a schedule gives is a mere tensor
            inner = getattr(each, "inner_optimizer", each)
            kind = type(getattr(inner, "_learning_rate", rates[-1])).__name__
            fix = "a schedule cannot be set; compile with e.g. keras.optimizers.Adam(1e-3)"
            raise WrongType(f"optimizer.learning_rate must be a number, got {kind}: {fix}")
    return rates
