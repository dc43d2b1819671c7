"""Schedules by name: torch's, ours, and transformers' GreedyLR for comparison.

A schedule is stepped after every optimizer step with the training loss, or once an epoch (one
interval between validations) with the validation loss: `Driver` hides which.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from ratewise.errors import unknown
from ratewise.rules.fixed import DECAY_SHARE, STABLE_DECAY, fixed_scale
from ratewise.rules.greedy_config import END, GreedyConfig, merged
from ratewise.rules.learned import load
from ratewise.rules.ratio_law import DEFAULT
from ratewise.schedulers.base import ScheduledLR
from ratewise.schedulers.greedy import GreedyLR
from ratewise.schedulers.learned import LearnedLR
from ratewise.schedulers.update_ratio import UpdateRatioLR

#: (optimizer, total steps, **options) -> a scheduler
_Build = Callable[..., Any]
_PEER = "transformers-greedy"
_EVERY_STEP, _TRAINING_LOSS, _VALIDATION_LOSS = "step", "training loss", "validation loss"
_NOTHING = "nothing"


@dataclass(frozen=True)
class Schedule:
    """A schedule in a comparison: its name in tables, how it is built, and its options.

    Args:
        name: what tables call it.
        kind: one of `kinds()`, or a function ``(optimizer, total_steps, **options)`` that
            returns a scheduler of your own; it is stepped after each optimizer step, and gets
            the training loss if it is a ratewise scheduler.
        options: keyword arguments of the scheduler; for "greedy" also the rule's other settings,
            by the names that they have in `GreedyConfig`.
    """

    name: str
    kind: str | Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.kind) and self.kind not in _KINDS:
            raise unknown("schedule", self.kind, kinds())

    @property
    def settings(self) -> dict[str, Any]:
        """The options, with defaults filled in: a run's identity changes with them."""
        own: dict[str, Any] = {}
        if self.kind in ("greedy", "greedy-article"):
            rule, rest = _rule_settings(self.options)
            both = {} if rule.criterion else {"or": asdict(rule.under("significance")), "end": END}
            return {**asdict(rule), **both, **rest}
        elif self.kind == "update-ratio":
            own = {**DEFAULT._asdict(), "schedule": "linear"}
        elif self.kind == "learned":
            own = {"weights": load(self.options.get("policy", "default")).digest}
        return {**own, **self.options}

    @property
    def identity(self) -> str:
        """The kind by name, for a run's identity."""
        if callable(self.kind):
            return f"{self.kind.__module__}.{self.kind.__qualname__}"
        return self.kind


class Driver:
    """Calls one scheduler's step at the right moments."""

    def __init__(self, scheduler: Any, feed: str) -> None:
        self.scheduler = scheduler
        self._feed = feed

    def after_step(self, loss: Tensor) -> None:
        """Call after each optimizer step with the training loss."""
        if self._feed == _TRAINING_LOSS:
            self.scheduler.step(loss.detach())
        elif self._feed == _EVERY_STEP:
            self.scheduler.step()

    def after_epoch(self, validation_loss: float) -> None:
        """Call after each validation."""
        if self._feed == _VALIDATION_LOSS:
            self.scheduler.step(validation_loss)


def _warmup_constant(optimizer: Optimizer, steps: int) -> Any:
    """A linear ramp over the first 5% of the steps, then constant."""
    ramp = max(1, steps // 20)
    return lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / ramp))


def _stable_decay(optimizer: Optimizer, steps: int, share: float = DECAY_SHARE) -> Any:
    """The same ramp, then constant, then a linear fall to 0 over the last `share` of the steps."""
    ramp, falls = max(1, steps // 20), partial(fixed_scale, f"{STABLE_DECAY}:{share}")
    return lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / ramp, falls(step, total_steps=steps))
    )


def _step(optimizer: Optimizer, steps: int) -> Any:
    return lr_scheduler.StepLR(optimizer, max(1, -(-steps // 3)), gamma=0.1)


def _linear(optimizer: Optimizer, steps: int) -> Any:
    return lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)


def _polynomial(optimizer: Optimizer, steps: int) -> Any:
    return lr_scheduler.PolynomialLR(optimizer, steps, power=2.0)


def _exponential(optimizer: Optimizer, steps: int) -> Any:
    return lr_scheduler.ExponentialLR(optimizer, 0.01 ** (1.0 / steps))


def _cosine(optimizer: Optimizer, steps: int) -> Any:
    return lr_scheduler.CosineAnnealingLR(optimizer, steps)


def _restarts(optimizer: Optimizer, steps: int) -> Any:
    """Three cosine periods, of 1, 2 and 4 sevenths of the run."""
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, max(1, -(-steps // 7)), 2)


def _plateau(optimizer: Optimizer, steps: int) -> Any:
    """Torch's defaults (patience 10, factor 0.1) never act within 20 epochs; these do."""
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)


def _greedy(optimizer: Optimizer, steps: int, **options: Any) -> Any:
    config, options = _rule_settings(options)
    return GreedyLR(optimizer, config=config, **{"total_steps": steps, **options})


def _rule_settings(options: Mapping[str, Any]) -> tuple[GreedyConfig, dict[str, Any]]:
    """Return the settings of GreedyLR's rule among its options, and the rest."""
    names = {setting.name for setting in fields(GreedyConfig)}
    rule = {name: value for name, value in options.items() if name in names}
    rest = {name: value for name, value in options.items() if name not in names}
    return merged(rest.pop("config", None), **rule), rest


def _update_ratio(optimizer: Optimizer, steps: int, **options: Any) -> Any:
    return UpdateRatioLR(optimizer, total_steps=steps, **options)


def _learned(optimizer: Optimizer, steps: int, **options: Any) -> Any:
    return LearnedLR(optimizer, total_steps=steps, **options)


def _transformers_greedy(optimizer: Optimizer, steps: int, **options: Any) -> Any:
    """With bounds of 0.1 and 10 times the rate: the default ones lie above most usual rates."""
    from transformers.optimization import GreedyLR as Peer

    rates = [float(group["lr"]) for group in optimizer.param_groups]
    low, high = [0.1 * rate for rate in rates], [10.0 * rate for rate in rates]
    return Peer(optimizer, min_lr=low, max_lr=high, **options)


def _none(optimizer: Optimizer, steps: int) -> Any:
    """Return no scheduler: for an optimizer that chooses its rate itself."""
    return None


#: kind -> (what it is fed, how it is built)
_KINDS: dict[str, tuple[str, _Build]] = {
    "none": (_NOTHING, _none),
    "constant": (_EVERY_STEP, _warmup_constant),
    STABLE_DECAY: (_EVERY_STEP, _stable_decay),
    "step": (_EVERY_STEP, _step),
    "linear": (_EVERY_STEP, _linear),
    "polynomial": (_EVERY_STEP, _polynomial),
    "exponential": (_EVERY_STEP, _exponential),
    "cosine": (_EVERY_STEP, _cosine),
    "restarts": (_EVERY_STEP, _restarts),
    "plateau": (_VALIDATION_LOSS, _plateau),
    "greedy": (_TRAINING_LOSS, _greedy),
    "greedy-article": (_VALIDATION_LOSS, _greedy),
    "update-ratio": (_EVERY_STEP, _update_ratio),
    "learned": (_TRAINING_LOSS, _learned),
    _PEER: (_TRAINING_LOSS, _transformers_greedy),
}

_UNNAMED = ("none", "greedy-article", _PEER)
#: The schedules that have a name, with the options that make them.
#: "greedy-article" follows the article: the rolling validation loss, once an epoch. It gives no
#: numbers; the paper's factor and reference are taken, and a patience and window of a few epochs,
#: since the paper's 10 and 50 would never act within the 20 epochs of a run here.
_NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in _KINDS if kind not in _UNNAMED},
    "greedy-cosine": ("greedy", {"schedule": "cosine"}),
    "greedy-article": (
        "greedy-article",
        {
            "criterion": "count",
            "factor": 0.95,
            "patience": 1,
            "window": 3,
            "reference": "best",
            "plateau": "neutral",
        },
    ),
    _PEER: (_PEER, {}),
}


def kinds() -> list[str]:
    """Return the kinds that a `Schedule` may name."""
    return list(_KINDS)


def names() -> list[str]:
    """Return the names of all schedules that can run here.

    >>> names()[:3]
    ['constant', 'stable-decay', 'step']
    """
    peer = importlib.util.find_spec("transformers") is not None
    return [name for name in _NAMED if peer or name != _PEER]


def named(schedule: str | Schedule) -> Schedule:
    """Return the schedule of that name; a `Schedule` is returned as it is.

    Raises:
        UnknownName: no such schedule, or its library is not installed.
    """
    if isinstance(schedule, Schedule):
        return schedule
    if schedule not in names():
        raise unknown("schedule", schedule, names())
    kind, options = _NAMED[schedule]
    return Schedule(schedule, kind, options)


def build(schedule: str | Schedule, optimizer: Optimizer, total_steps: int) -> Driver:
    """Return the driver of a new scheduler on `optimizer`.

    Args:
        schedule: a name of `names()`, or a `Schedule`.
        optimizer: its groups hold the base rates.
        total_steps: length of the run in optimizer steps.
    """
    schedule = named(schedule)
    if callable(schedule.kind):
        own = schedule.kind(optimizer, total_steps, **schedule.options)
        return Driver(own, _TRAINING_LOSS if isinstance(own, ScheduledLR) else _EVERY_STEP)
    feed, make = _KINDS[schedule.kind]
    return Driver(make(optimizer, total_steps, **schedule.options), feed)


def current_rate(optimizer: Optimizer) -> float:
    """Return the first group's rate."""
    rate = optimizer.param_groups[0]["lr"]
    return rate.item() if isinstance(rate, torch.Tensor) else float(rate)
