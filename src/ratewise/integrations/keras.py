"""GreedyLR as a Keras 3 callback: the rate follows the loss of each batch, or an epoch's metric."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterable
from typing import Any

from ratewise.errors import (
    InvalidState,
    MissingExtra,
    WrongType,
    invalid,
    missing_extra,
    unknown,
    wrong_type,
)
from ratewise.files import writing
from ratewise.rules import schema
from ratewise.rules.checks import check_count
from ratewise.rules.fixed import ramped
from ratewise.rules.greedy import REASONS
from ratewise.rules.greedy_config import (
    RELATIVE_BOUNDS,
    GreedyConfig,
    GreedyLimits,
    bounded,
    merged,
)
from ratewise.rules.greedy_float import MEMORY, FloatGreedy, check_memory
from ratewise.rules.period import Period, nonfinite
from ratewise.schedulers.events import Event

try:
    import keras
except ModuleNotFoundError as error:
    name = (error.name or "?").split(".")[0]
    if name != "keras":  # Keras is there, what it is set to run on is not
        raise MissingExtra(
            f"Keras is set to run on {name!r}, which is not installed: set the environment "
            "variable KERAS_BACKEND, e.g. to torch, before anything imports Keras"
        ) from error
    raise missing_extra("ratewise.integrations.keras", "keras", name) from error

#: Format of `GreedyLR.state_dict` and of its file; a newer one is refused.
FORMAT = 1
#: How many of the last events are kept.
CAPACITY = 1000
_CALLBACK = "ratewise.integrations.keras.GreedyLR"

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
        min_lr: lower bound of the rate before the ramp, default 0.1 times the base.
        max_lr: upper bound, default 10 times the base.
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
        state_file: str | os.PathLike[str] | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        self._config = merged(
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
        self._settings: dict[str, Any] = {
            "monitor": monitor,
            "interval": interval,
            "decide_every": decide_every,
            "warmup_steps": warmup_steps,
            "min_lr": min_lr,
            "max_lr": max_lr,
            **dataclasses.asdict(self._config),
        }
        _check(self._settings, state_file)
        self.monitor, self.interval, self.decide_every = monitor, interval, decide_every
        self.warmup_steps, self.state_file, self.verbose = warmup_steps, state_file, verbose
        self._events: deque[Event] = deque(maxlen=CAPACITY)
        self._optimizer: Any = None  # whose state this is; None: whichever comes next
        self._begun = self._handed = self._warned = False
        self._saved: list[dict[str, Any]] = []  # what the file holds, the newest last
        self._held: list[tuple[Any, Any]] = []  # variables of the metric, and their past
        self._forget()

    @property
    def events(self) -> list[Event]:
        """The last 1000 changes of the rate, oldest first; they are not part of the state."""
        return list(self._events)

    @property
    def last_reason(self) -> str:
        """The reason of the last decision: one of `ratewise.rules.greedy.REASONS`."""
        return REASONS[self._rule.reason]

    # -- the state --------------------------------------------------------------------------

    def _forget(self) -> None:
        self._base: list[float] = []
        self._rule = FloatGreedy(self._config, GreedyLimits((), (), ()))
        self._period = Period(skip=True)  # but `_take` may let one spoil them all
        self._step = self._iterations = 0

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next decision depends on, as plain copied data fit for JSON."""
        if self._begun:
            self._iterations = _iterations(self.model.optimizer)
        period = self._period
        return {
            "format": FORMAT,
            "callback": _CALLBACK,
            "settings": dict(self._settings),
            "iterations": self._iterations,
            "base": list(self._base),
            "step": self._step,
            "period": {"seen": period.seen, "finite": period.count, "total": period.total},
            "memory": self._rule.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, at the next `fit`, whatever a `state_file` says.

        Raises:
            InvalidState: a foreign, newer or damaged state, or one of other settings. Nothing has
                changed then.
        """
        self._adopt(self._checked(state, "state_dict"))
        self._optimizer, self._handed, self._begun = None, True, False

    def _adopt(self, state: dict[str, Any]) -> None:
        self._forget()
        self._base = list(map(float, state["base"]))
        self._step, self._iterations = state["step"], state["iterations"]
        self._period.seen, self._period.count = state["period"]["seen"], state["period"]["finite"]
        self._period.total = float(state["period"]["total"])
        self._rule = FloatGreedy(self._config, GreedyLimits.relative(len(self._base)))
        self._rule.restore(state["memory"])

    def _checked(self, state: Any, where: str) -> dict[str, Any]:
        """Return `state` if it is sound in every part."""
        if not isinstance(state, dict) or state.get("callback") != _CALLBACK:
            raise InvalidState(f"{where} is not of a {_CALLBACK}: pass what state_dict() returned")
        version, settings = state.get("format"), state.get("settings")
        if type(version) is not int or not 1 <= version <= FORMAT:
            raise InvalidState(
                f"{where}: format must be in 1..{FORMAT}, got {version!r}: a newer one needs a "
                "newer ratewise"
            )
        if settings != self._settings:
            got = settings if isinstance(settings, dict) else {}
            other = [key for key, value in self._settings.items() if got.get(key, ()) != value]
            raise InvalidState(
                f"{where} was saved with other settings ({', '.join(other)}): construct GreedyLR "
                "with the same ones"
            )
        schema.record(_STATE)(where, state)
        check_memory(f"{where}['memory']", state["memory"], self._config, len(state["base"]))
        seen, finite = state["period"]["seen"], state["period"]["finite"]
        allowed = f"below decide_every={self.decide_every}"
        schema.require(seen < self.decide_every, f"{where}['period']['seen']", allowed, seen)
        schema.require(finite <= seen, f"{where}['period']['finite']", f"at most {seen}", finite)
        return state

    def _read(self) -> list[dict[str, Any]]:
        """Return what the file holds; nothing if there is none."""
        if self.state_file is None or not os.path.exists(self.state_file):
            return []
        where = os.fspath(self.state_file)
        try:
            with open(where, encoding="utf-8") as file:
                states = list(json.load(file)["states"])
        except (ValueError, KeyError, TypeError) as error:
            fix = "restore it, or move it away to begin anew"
            raise InvalidState(f"{where} is damaged ({error}): {fix}") from error
        return [self._checked(state, where) for state in states]

    def _save(self, path: str | os.PathLike[str]) -> None:
        """Put this epoch's state and the last one's into the file, in one piece."""
        state = self.state_dict()
        older = [other for other in self._saved if other["iterations"] < state["iterations"]]
        self._saved = [*older[-1:], state]
        writing.write(os.fspath(path), json.dumps({"states": self._saved}))

    # -- Keras's calls ----------------------------------------------------------------------

    def on_train_begin(self, logs: Logs = None) -> None:
        """Refuse a rate that cannot be set; the rest waits, other callbacks may load weights."""
        self._begun = False
        _rates_of(self.model.optimizer)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begin with the model's optimizer, at the first epoch of a fit."""
        if not self._begun:
            self._begin(self.model)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Zero the metric, so that it will hold this batch alone."""
        if self.interval == "batch" and self.model:  # on jax, `model` brings the variables here
            self._thread = threading.get_ident()
            variables = [v for metric in self._metrics for v in metric.variables]
            self._held = [(variable, keras.ops.copy(variable)) for variable in variables]
            for variable in variables:
                variable.assign(0.0)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Put the metric's earlier batches back, and decide on this batch's own value."""
        logs = {} if logs is None else logs
        value = logs.get(self.monitor)
        if self.interval == "batch" and self.model:
            if self._thread != threading.get_ident():
                fix = "Keras runs a callback without a list in threads: write callbacks=[...]"
                raise wrong_type("callbacks", "a list", self, fix)
            used = [metric for metric in self._metrics if _number(metric.count)]
            for variable, past in self._held:
                variable.assign_add(past)
            for metric in used:
                logs[self.monitor] = _number(metric.result())
        self._check_monitor(logs)
        if self.interval == "batch":
            self._take(value)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Log the rate, decide on the epoch's value, and save."""
        logs = {} if logs is None else logs
        if len(self._variables) == 1:
            logs["learning_rate"] = _number(self._variables[0])
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
            self._save(self.state_file)

    # -- decisions --------------------------------------------------------------------------

    def _begin(self, model: Any) -> None:
        """Find the state of the model's optimizer and set its rate, before the first batch."""
        variables, iterations = _rates_of(model.optimizer), _iterations(model.optimizer)
        named = [m for m in _flat(model.metrics) if m.name == self.monitor]
        self._metrics = [m for m in named if isinstance(m, keras.metrics.Mean)]
        plain = ((getattr(type(model), x), getattr(keras.Model, x)) for x in _OVERRIDABLE)
        if all(ours is theirs for ours, theirs in plain):  # else the first batch's logs will tell
            self._check_monitor(model.get_metrics_result())
            if self.interval == "batch" and not self._metrics:
                fix = "pass monitor='loss', or interval='epoch'"
                raise invalid("monitor", "a mean over batches", self.monitor, fix)

        same = self._optimizer is model.optimizer
        self._saved = self._read()
        matching = [state for state in self._saved if state["iterations"] == iterations]
        if self._saved and not (matching or same or self._handed):
            steps = " and ".join(str(state["iterations"]) for state in self._saved)
            raise InvalidState(
                f"{self.state_file} is of optimizer step {steps}, the model is at {iterations}: "
                "load the checkpoint of that moment, or move the file away to begin anew"
            )
        if matching and not self._handed:
            self._adopt(matching[-1])
        elif not (same or self._handed):
            self._forget()

        self._rates = [_number(variable) for variable in variables]
        base = self._base or list(self._rates)
        if len(base) != len(variables):
            raise InvalidState(
                f"the state is of {len(base)} learning rates, the optimizer has {len(variables)}: "
                "compile with the optimizer that it was saved with"
            )
        bounds = [self._bound(*pair) for pair in zip(base, variables, strict=True)]
        self._low, self._high = zip(*bounds, strict=True)
        limits = GreedyLimits.absolute(base, self._low, self._high, self._config.eps)
        if not self._base:
            self._base, self._rule = base, FloatGreedy(self._config, limits)
        self._rule.limits = limits
        self._optimizer, self._variables = model.optimizer, variables
        self._handed, self._begun = False, True
        self._write()

    def _bound(self, base: float, variable: Any) -> tuple[float, float]:
        """Return a rate's bounds, rounded as the variable would: 0.1 is not below float32's 0.1."""
        given = (self._settings["min_lr"], self._settings["max_lr"])
        low, high = (
            base * multiple
            if bound is None
            else _number(keras.ops.convert_to_tensor(bound, dtype=variable.dtype))
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
        """Count a step and, if it ends a period, decide; steps of the ramp are not decided on."""
        period, policy = self._period, self._config.on_nonfinite
        if value is None or self._step < self.warmup_steps:
            self._step += 1
            self._write()
            return
        total = period.total + value
        if policy == "raise" and not math.isfinite(total):
            where = f"{self.interval} {self._step + 1}"
            raise nonfinite(value, where, name=self.monitor, total=total)
        self._step += 1
        period.add(value)
        if period.seen < self.decide_every:
            self._write()
            return
        whole = policy == "skip" or period.count == period.seen
        metric = period.mean() if whole else math.nan
        period.clear()
        self._decide(metric)

    def _decide(self, metric: float) -> None:
        rule, old = self._rule, tuple(self._rates)
        before = rule.before()
        rule.update(metric)
        self._write()
        if not rule.changed():
            return
        compared, reference, errors = rule.told(metric, before[0])
        met = (self._step, metric, compared, reference, *before[1:])
        event = Event(*met, self.last_reason, old, tuple(self._rates), errors)
        self._events.append(event)
        if self.verbose:
            print(f"\n{event.words()}")

    def _write(self) -> None:
        """Set the rates of the next step, where they differ from what was set last."""
        own_rates = bounded(self._base, self._rule.scale, self._low, self._high)
        for index, own in enumerate(own_rates):
            rate = ramped(own, self._step, self.warmup_steps)
            if rate != self._rates[index]:
                self._rates[index] = rate
                self._variables[index].assign(rate)


#: What `state_dict` must look like; settings are compared one by one.
_STATE = {
    "format": schema.count(1, FORMAT),
    "callback": schema.text,
    "settings": lambda name, value: None,
    "iterations": schema.count(),
    "base": schema.several(schema.rate),
    "step": schema.count(),
    "period": schema.record(
        {"seen": schema.count(), "finite": schema.count(), "total": schema.real}
    ),
    "memory": schema.record(MEMORY),
}
#: Methods of a model that decide what its logs hold.
_OVERRIDABLE = ("train_step", "compute_metrics", "get_metrics_result")


def _number(value: Any) -> float:
    return float(keras.ops.convert_to_numpy(value))


def _iterations(optimizer: Any) -> int:
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def _flat(metrics: Iterable[Any]) -> Iterable[Any]:
    """Yield the metrics, and those that a container such as Keras's compiled ones holds."""
    for metric in metrics:
        yield metric
        yield from _flat(getattr(metric, "metrics", ()))


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


def _check(settings: dict[str, Any], state_file: Any) -> None:
    """Raise for a setting of our own that is outside its range."""
    monitor, interval = settings["monitor"], settings["interval"]
    if not isinstance(monitor, str):
        raise wrong_type("monitor", "a metric's name", monitor, "pass e.g. 'loss'")
    if interval not in ("batch", "epoch"):
        raise unknown("interval", interval, ("batch", "epoch"))
    if monitor.startswith("val_") and interval == "batch":
        raise invalid("interval", f"'epoch' for monitor={monitor!r}", interval, "pass 'epoch'")
    check_count("decide_every", settings["decide_every"], 1)
    check_count("warmup_steps", settings["warmup_steps"], 0)
    low, high = settings["min_lr"], settings["max_lr"]
    for name, value in (("min_lr", low), ("max_lr", high)):
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise wrong_type(name, "a number", value, "pass a finite number >= 0")
        if value is not None and not 0.0 <= value < math.inf:
            raise invalid(name, "a finite number >= 0", value, "pass e.g. 1e-5")
    if low is not None and high is not None and low > high:
        raise invalid("min_lr", f"at most max_lr={high:g}", low, "swap or widen the bounds")
    if not (state_file is None or isinstance(state_file, str | os.PathLike)):
        raise wrong_type("state_file", "a path", state_file, "pass e.g. 'greedy.json'")
