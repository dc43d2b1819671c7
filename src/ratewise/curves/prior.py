"""Where the best rate or ratio of a training lies, from other trainings: a hierarchical fit.

With r_j = ln(best value of task j) - ln(our default for its length),

    optimizer ~ N(0, t0^2),  family ~ N(optimizer, t1^2),  task ~ N(family, t2^2),
    one length of a task ~ N(task, t3^2),

and r_j is seen with the deviation of the parabola through its runs. A training is expected about
the mean of its task at other lengths, of its family, of its optimizer, or the default, as far as
there are trainings of each; means of few are shrunk to what lies above them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np

from ratewise.curves.advice import Prior, Tried, curvature, fitted
from ratewise.curves.curve import Curve
from ratewise.errors import InvalidArgument, invalid, unknown, wrong_type
from ratewise.rules.checks import check_amount, check_count
from ratewise.rules.ratio_law import default_ratio

UNITS = ("rate", "ratio")
LOSSES = ("held_out", "train")
#: t0 to t3; t2 follows from the tasks where there are many.
_DEFAULT, _OPTIMIZER, _FAMILY, _TASK = math.log(3.0), 0.4, 0.4, 0.25
#: Tasks that t2 counts for, and the least of it.
_COUNTS_FOR, _LEAST = 3, 0.15
#: Deviation of ln best value where only one value was tried.
_ONE_VALUE = math.log(2.0)
#: Rates that are usual at so many steps, by optimizer; with the length they fall as its root.
_RATES = {"sgd": 0.03, "adam": 1e-3, "adamw": 1e-3, "nadam": 1e-3, "radam": 1e-3}
_RATES |= {"adagrad": 1e-2, "rmsprop": 1e-3, "adafactor": 1e-2, "muon": 0.02, "lion": 1e-4}
_RATES_AT = 1000
#: Beginnings of names of schedules that choose the rate: their runs say nothing of it.
_NO_RATE = ("update-ratio", "learned", "greedy")


@dataclass(frozen=True)
class Key:
    """What a training is of: trainings that share a part of it tell of each other.

    Args:
        task: its name, model and data together.
        optimizer: "adamw", "sgd", ...; "" is not known.
        family: of models, in words of your own: "transformer".
        total_steps: its length in optimizer steps; 0 is not known.
        passes: over the training data in that length; 0 is not known.
        loss: which one is made small: "held_out" or "train".
        unit: what is tuned: "rate", or "ratio", that of UpdateRatioLR.

    Raises:
        InvalidArgument, UnknownName, WrongType: a field outside its range.
    """

    task: str
    optimizer: str = ""
    family: str = ""
    total_steps: int = 0
    passes: float = 0.0
    loss: str = "held_out"
    unit: str = "rate"

    def __post_init__(self) -> None:
        for name in ("task", "optimizer", "family"):
            if not isinstance(getattr(self, name), str):
                raise wrong_type(f"key.{name}", "a string", getattr(self, name), "pass its name")
        if not self.task:
            raise invalid("key.task", "a name", self.task, "pass e.g. Key('my-model')")
        check_count("key.total_steps", self.total_steps, 0)
        check_amount("key.passes", self.passes)
        for name, known in (("loss", LOSSES), ("unit", UNITS)):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)

    def at(self, steps: int) -> Key:
        """Return the key of a training of another length on the same data."""
        share = steps / self.total_steps if self.total_steps else 0.0
        return replace(self, total_steps=steps, passes=self.passes * share)

    @classmethod
    def of(cls, key: Any) -> Key:
        """Return a key, or that of a mapping or of a task's name."""
        if isinstance(key, Key):
            return key
        if isinstance(key, str):
            return cls(key)
        if not isinstance(key, Mapping):
            raise wrong_type("key", "a Key", key, "pass e.g. Key('my-model', optimizer='adamw')")
        names = [field.name for field in fields(cls)]
        for name in key:
            if name not in names:
                raise unknown("field of key", name, names)
        if "task" not in key:
            raise invalid("key", "with a task", dict(key), "pass e.g. {'task': 'my-model'}")
        return cls(**key)


class Past(NamedTuple):
    """A past task, and what was tried on it."""

    key: Key
    tried: tuple[Tried, ...]


def default_centre(key: Key) -> float:
    """Return our default for a training: `default_ratio`, or a rate that is usual.

    Raises:
        InvalidArgument: no rate is usual for this optimizer.

    >>> default_centre(Key("t", "adamw", total_steps=4000)), default_centre(Key("t", unit="ratio"))
    (0.0005, 0.01)
    """
    if key.unit == "ratio":
        return _level(key)
    usual = _RATES.get(key.optimizer.lower())
    if usual is None:
        raise InvalidArgument(
            f"no rate is usual for key.optimizer={key.optimizer!r}: pass centre=1e-3, or one of "
            f"{', '.join(_RATES)}"
        )
    return usual * _level(key)


def carried(key: Key, from_steps: int, to_steps: int) -> float:
    """Return what a good value is multiplied by from one length to another; 1 where not known.

    A ratio follows `default_ratio`; a rate the root of the length, as the convex bound has it
    (`ratewise.curves.convex`).
    """
    if not (from_steps and to_steps):
        return 1.0
    return _level(key.at(to_steps)) / _level(key.at(from_steps))


def _level(key: Key) -> float:
    """Return what good values of different lengths and passes are multiples of."""
    if key.unit == "rate":
        return math.sqrt(_RATES_AT / key.total_steps) if key.total_steps else 1.0
    passes = key.passes if key.total_steps else 0.0
    epoch = max(1, round(key.total_steps / passes)) if passes else None
    return default_ratio(key.total_steps or None, epoch)


def expected(key: Key, past: Iterable[Past], centre: float | None = None) -> Prior:
    """Return what past tasks say of the best value.

    Args:
        key: of the training to come.
        past: tasks; those in another unit, or for another loss, do not count.
        centre: where the user expects it; None is our default.

    Raises:
        InvalidArgument: no rate is usual for this optimizer, none was given, and no past task
            with it has a length.
    """
    alike = [
        one
        for one in past
        if (one.key.unit, one.key.loss, one.key.optimizer) == (key.unit, key.loss, key.optimizer)
        and one.tried
    ]
    middle = _middle(key, alike) if centre is None else centre
    seen = [(one.key, *_best(key, middle, one)) for one in alike]
    within = _within([r for _, r, _ in seen])
    levels = [
        (seen, _DEFAULT, math.hypot(_OPTIMIZER, within)),
        ([one for one in seen if one[0].family == key.family != ""], _OPTIMIZER, within),
        ([one for one in seen if one[0].task == key.task], within, _TASK),
    ]
    mean, variance, spread = 0.0, 0.0, _DEFAULT
    for members, above, below in levels:
        if members:
            mean, variance = _shrunk(mean, variance + above**2, members, below)
            spread = math.hypot(math.sqrt(variance), below)
        elif seen:
            variance += above**2
    bends = [bend for one in alike if (bend := curvature(one.tried)) is not None]
    prior = Prior(middle * math.exp(mean), min(spread, _DEFAULT), tasks=len(seen))
    if len(bends) < 3:
        return prior
    logs = np.log(bends)
    typical = float(np.exp(np.median(logs)))
    wide = typical * max(0.3, float(np.std(logs, ddof=1)))
    return prior._replace(curvature=typical, curvature_spread=wide)


def from_curves(curves: Iterable[Curve], loss: str = "held_out") -> list[Past]:
    """Return the past tasks among curves: runs of one task, optimizer and length, by peak rate.

    Args:
        curves: with rates; others, those without this loss, and those under a schedule that
            chooses its rate itself do not count.
        loss: which loss.
    """
    found: dict[Key, list[Tried]] = defaultdict(list)
    for curve in curves:
        series = curve.held_out_loss if loss == "held_out" else curve.train_loss
        lost = curve.diverged_at is not None
        if curve.facts.schedule.startswith(_NO_RATE):
            continue
        task = curve.facts.task or curve.name.rpartition("/")[0].partition("/")[0]
        if not task or not len(curve.lr) or curve.peak_lr <= 0 or not (lost or len(series)):
            continue
        end = math.inf if lost else float(series.value[-1])
        if end >= 0:
            steps = curve.facts.total_steps or curve.steps
            passes = float(f"{curve.facts.passes:.2g}")  # logs count them in their own ways
            known = (curve.facts.optimizer, curve.facts.family, steps, passes)
            key = Key(task, *known, loss)
            found[key].append(Tried(curve.peak_lr, end))
    return [Past(key, tuple(tried)) for key, tried in found.items()]


# -- parts ----------------------------------------------------------------------------------


def _middle(key: Key, alike: Sequence[Past]) -> float:
    """Return our default, or the middle of the best values of an optimizer that has none."""
    try:
        return default_centre(key)
    except InvalidArgument:
        if not alike:
            raise
        best = [
            min(one.tried, key=lambda run: run.loss).value * (_level(key) / _level(one.key))
            for one in alike
        ]
        return float(np.exp(np.median(np.log(best))))


def _best(key: Key, middle: float, past: Past) -> tuple[float, float]:
    """Return r of a past task, with its deviation."""
    finite = [one for one in past.tried if math.isfinite(one.loss)]
    scale = _level(key) / _level(past.key)
    if not finite:
        lowest = min(one.value for one in past.tried)
        return math.log(lowest / 3.0 * scale / middle), _DEFAULT
    best = min(finite, key=lambda one: one.loss)
    if len({one.value for one in finite}) < 2:
        return math.log(best.value * scale / middle), _ONE_VALUE
    fit = fitted(past.tried, Prior(best.value))
    return fit.minimum + math.log(scale / middle), fit.deviation


def _within(seen: Sequence[float]) -> float:
    """Return t2: the deviation of the tasks from their mean, drawn to `_FAMILY`."""
    if len(seen) < 2:
        return _FAMILY
    n = len(seen) - 1
    found = (n * float(np.var(seen, ddof=1)) + _COUNTS_FOR * _FAMILY**2) / (n + _COUNTS_FOR)
    return max(_LEAST, math.sqrt(found))


def _shrunk(
    mean: float, variance: float, seen: Sequence[tuple[Key, float, float]], apart: float
) -> tuple[float, float]:
    """Return the posterior of a mean, around which values lie with a deviation of `apart`."""
    weight, total = 1.0 / variance, mean / variance
    for _, value, deviation in seen:
        one = 1.0 / (deviation**2 + apart**2)
        weight, total = weight + one, total + one * value
    return total / weight, 1.0 / weight
