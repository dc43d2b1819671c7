"""Settings and bounds of the GreedyLR rule, checked once, with their defaults in one place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, NamedTuple

from ratewise.errors import invalid, wrong_type
from ratewise.rules.checks import check_amount, check_choices, check_count, is_number
from ratewise.rules.fixed import STABLE_DECAY

#: The default bounds of a rate, as multiples of the group's own initial rate.
RELATIVE_BOUNDS = (0.1, 10.0)
#: A scale is at its lower bound if it is above it by no more than so many units of rounding. Each
#: decision rounds once, and after dozens that lead to the bound in theory a scale lies beside it.
ROUNDINGS = 16

#: Settings whose default follows from `criterion`; where none is named, that of counts.
DEFAULTS: dict[str, dict[str, Any]] = {
    "count": {"factor": 0.9, "patience": 3, "window": 20, "plateau": "bad"},
    "significance": {"factor": 0.9, "patience": 0, "window": 100, "plateau": "neutral"},
}
#: Of these, what says how to count: a config that has one of them is of ``"count"``, unless it
#: names another criterion. So is one with a `reference` or `first` that is not the default.
_OF_COUNTS = ("patience", "window", "plateau")
#: How a run of known length ends where no schedule is named, by criterion: with a fall to 0 over
#: its last 70%.
END_SHARE = 0.7
END = {"significance": f"{STABLE_DECAY}:{END_SHARE:g}"}
#: No fewer losses can show a trend: 6 in a row are 2.8 standard errors.
LEAST_WINDOW = 6
#: What a loss that lies above its best stretch multiplies the rate by, unless F is smaller.
RETREAT = 0.5
_FOLLOWS: Any = None  #: from `criterion`

_CRITERIA = ("count", "significance")
_CHOICES = {
    "threshold_mode": ("rel", "abs"),
    "reference": ("best", "previous"),
    "plateau": ("bad", "neutral"),
    "stage": ("extend", "ignore", "hold"),
    "mode": ("min", "max"),
    "eps_mode": ("rel", "abs"),
    "first": ("none", "good"),
    "on_nonfinite": ("bad", "skip", "raise"),
}


@dataclass(frozen=True)
class GreedyConfig:
    """Settings of the rule, and which readings of the literature are meant.

    Where papers and libraries differ, the default is the reading that did best here; see
    `ratewise.rules.greedy` for the formulas.

    Args:
        criterion: what makes a good or a bad step. ``"count"``: each metric is one, by how its
            rolling mean compares with the reference. ``"significance"``: each verdict of a test is
            one, of whether the losses since the last verdict show a trend, or lie above the best
            stretch before it (`ratewise.rules.significance`); `reference` and `first` have no part
            in it. None is decided by the run's length (`ratewise.rules.criterion`); where nobody
            does that, as here, it counts. To name `patience`, `window`, `plateau`, `reference` or
            `first`, which say how to count, is to name ``"count"``, if no criterion is named.
        factor: F in (0, 1), the change of one decision, 0.9; under significance a loss that lies
            above the best stretch halves the rate, and 0.8 is better where there are but 10 to 30
            metrics, one an epoch.
        patience: consecutive good (bad) steps that must be exceeded before a decision; 3, and 0
            under significance.
        window: length of the rolling mean, 1 is no smoothing; 20. Under significance the most
            losses that are kept, after which the lack of a trend is a verdict, too; 100.
        threshold: how much better than the reference counts as better; under significance the
            smallest change that matters.
        threshold_mode: ``"rel"`` to the reference's absolute value, or ``"abs"``.
        reference: ``"best"``, or ``"previous"``, the last smoothed value.
        plateau: what a change inside the threshold is, or the lack of a trend: ``"bad"``, or
            ``"neutral"``, as under significance.
        warmup: length of the stage after an increase.
        cooldown: length of the stage after a decrease.
        stage: ``"extend"`` (the stage goes on in the same direction, a factor a step),
            ``"ignore"`` (a warmup ignores good steps, a cooldown bad ones) or ``"hold"``
            (nothing is counted).
        mode: ``"min"`` for losses, ``"max"`` for rewards and accuracies.
        reset_after: after so many decreases that found every group at its lower bound, start
            again at the initial rates; None is never.
        eps: the smallest change that is made.
        eps_mode: `eps` is relative to the rate (``"rel"``) or absolute (``"abs"``).
        first: what the first metric counts as: ``"none"`` or ``"good"``.
        on_nonfinite: a NaN or an infinity is a bad step (``"bad"``), is passed over (``"skip"``)
            or raises `NonFiniteLoss` (``"raise"``). It never enters a mean.

    Raises:
        InvalidArgument, UnknownName: a setting outside its range.

    >>> GreedyConfig(factor=1.5)
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidArgument: factor must be a number in (0, 1), got 1.5: pass e.g. 0.95
    """

    criterion: str | None = None
    factor: float = _FOLLOWS
    patience: int = _FOLLOWS
    window: int = _FOLLOWS
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    reference: str = "best"
    plateau: str = _FOLLOWS
    warmup: int = 0
    cooldown: int = 0
    stage: str = "extend"
    mode: str = "min"
    reset_after: int | None = None
    eps: float = 1e-8
    eps_mode: str = "rel"
    first: str = "none"
    on_nonfinite: str = "bad"
    _chosen: ClassVar[frozenset[str]]  # criterion and what follows from it; each config has its own

    def stated(self) -> dict[str, Any]:
        """Return the settings that are not the defaults, and `criterion` and its own if given.

        A value that is the default of one criterion is none of another.

        >>> GreedyConfig(plateau="bad").stated()
        {'plateau': 'bad'}
        """
        usual = {"criterion": self.criterion} | self._defaults()
        settings = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        return {
            k: x
            for k, (x, default) in settings.items()
            if x != usual.get(k, default) or k in self._chosen
        }

    def plain(self) -> dict[str, Any]:
        """Return all settings by name; `GreedyConfig` makes the same one of them.

        What follows from a criterion that is not decided yet is None.

        >>> GreedyConfig().plain()["window"], GreedyConfig("count").plain()["window"]
        (None, 20)
        """
        open_yet = self._defaults().keys() - self._chosen if self.criterion is None else ()
        return asdict(self) | dict.fromkeys(open_yet, _FOLLOWS)

    def under(self, criterion: str) -> GreedyConfig:
        """Return the same settings under the criterion that was decided on, with its defaults.

        >>> GreedyConfig(factor=0.8).under("significance").window
        100
        """
        return GreedyConfig(**self.plain() | {"criterion": criterion})

    def identity(self) -> dict[str, Any]:
        """Return what tells the rule from others, whatever the defaults are.

        Criterion, factor, patience and window are always in it; of the rest what is unusual.

        >>> GreedyConfig(criterion="significance", mode="max").identity()
        {'criterion': 'significance', 'factor': 0.9, 'patience': 0, 'window': 100, \
'plateau': 'neutral', 'mode': 'max'}
        """
        named = ("criterion", "factor", "patience", "window")
        settings = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        settings["plateau"] = self.plateau, "bad"
        return {k: x for k, (x, usual) in settings.items() if k in named or x != usual}

    @property
    def smoothing(self) -> int:
        """Length of the rolling mean; a test of significance takes losses as they are."""
        return 1 if self.criterion == "significance" else self.window

    def _defaults(self) -> dict[str, Any]:
        """Return what follows from the criterion."""
        return DEFAULTS[self.criterion or "count"]

    def __post_init__(self) -> None:
        named = {"criterion": self.criterion} | {k: getattr(self, k) for k in DEFAULTS["count"]}
        chosen = frozenset(name for name, value in named.items() if value is not _FOLLOWS)
        object.__setattr__(self, "_chosen", chosen)
        counts = not chosen.isdisjoint(_OF_COUNTS)
        if self.criterion is None and (counts or self.reference != "best" or self.first != "none"):
            object.__setattr__(self, "criterion", "count")
        if self.criterion is not None:
            check_choices(self, {"criterion": _CRITERIA})
        for name, value in self._defaults().items():
            if name not in chosen:
                object.__setattr__(self, name, value)
        check_choices(self, _CHOICES)
        if not (is_number(self.factor) and 0.0 < self.factor < 1.0):
            raise invalid("factor", "a number in (0, 1)", self.factor, "pass e.g. 0.95")
        least = LEAST_WINDOW if self.criterion == "significance" else 1
        for name, low in (("patience", 0), ("window", least), ("warmup", 0), ("cooldown", 0)):
            check_count(name, getattr(self, name), low)
        if self.reset_after is not None:
            check_count("reset_after", self.reset_after, 1)
        for name in ("threshold", "eps"):
            check_amount(name, getattr(self, name))


def merged(config: GreedyConfig | None, **arguments: Any) -> GreedyConfig:
    """Return a config with the settings that were given beside it put in.

    Args:
        config: the other settings; None is the defaults.
        arguments: settings by name; None means not given.

    Raises:
        WrongType: `config` is not a GreedyConfig.
        InvalidArgument: `config` has the setting, too, with a value that is neither this one nor
            the default.

    >>> merged(GreedyConfig(reference="previous"), factor=0.5, patience=None).factor
    0.5
    >>> merged(GreedyConfig(factor=0.8), factor=0.5)
    Traceback (most recent call last):
    ...
    ratewise.errors.InvalidArgument: factor must be what config has, 0.8, got 0.5: pass it once
    """
    config = GreedyConfig() if config is None else config
    if not isinstance(config, GreedyConfig):
        raise wrong_type("config", "a GreedyConfig", config, "pass GreedyConfig(stage='hold')")
    given = {name: value for name, value in arguments.items() if value is not None}
    stated = config.stated()
    for name, value in given.items():
        if name in stated and value != stated[name]:
            raise invalid(name, f"what config has, {stated[name]!r}", value, "pass it once")
    return GreedyConfig(**{**stated, **given})  # what follows from `criterion` follows anew


def bounded(
    base: Sequence[float], scale: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> list[float]:
    """Return each group's rate: its base rate times its scale, within its bounds.

    >>> bounded([0.1, 0.1], [2.0, 0.5], low=[0.08, 0.08], high=[1.0, 1.0])
    [0.2, 0.08]
    """
    rates = [rate * times for rate, times in zip(base, scale, strict=True)]
    return list(map(min, map(max, rates, low), high))


class GreedyLimits(NamedTuple):
    """Bounds of each group's scale, one entry a group.

    ``lower[g] = min_lr[g] / base[g]``, ``upper[g] = max_lr[g] / base[g]``, and ``eps[g]``, the
    smallest change of the scale that is applied when ``eps_mode="abs"``: ``eps / base[g]``.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    eps: tuple[float, ...]

    @classmethod
    def relative(cls, groups: int = 1) -> GreedyLimits:
        """Return the default bounds, 0.1 and 10 times each group's own initial rate."""
        low, high = RELATIVE_BOUNDS
        return cls((low,) * groups, (high,) * groups, (0.0,) * groups)

    @classmethod
    def absolute(
        cls, base: Sequence[float], low: Sequence[float], high: Sequence[float], eps: float
    ) -> GreedyLimits:
        """Return bounds on the rate as bounds on the scale; a base rate of 0 cannot move."""
        return cls(
            tuple(x / b if b else 1.0 for x, b in zip(low, base, strict=True)),
            tuple(x / b if b else 1.0 for x, b in zip(high, base, strict=True)),
            tuple(eps / b if b else 0.0 for b in base),
        )

    def reached(self, scale: Sequence[float]) -> bool:
        """Return whether every group's scale is at its lower bound, roundings aside.

        >>> GreedyLimits.relative().reached([0.1 * (1 + 2**-52)])
        True
        """
        almost = 1.0 + ROUNDINGS * sys.float_info.epsilon
        return all(s <= low * almost for s, low in zip(scale, self.lower, strict=True))
