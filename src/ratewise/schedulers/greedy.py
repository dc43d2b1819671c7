"""GreedyLR for torch: the rate goes up while the loss improves and down while it does not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from ratewise.errors import invalid, wrong_type
from ratewise.rules import schema
from ratewise.rules.checks import is_number
from ratewise.rules.greedy import REASONS
from ratewise.rules.greedy_config import RELATIVE_BOUNDS, GreedyConfig, GreedyLimits
from ratewise.rules.greedy_float import MEMORY, FloatGreedy, check_memory
from ratewise.schedulers.anchor import Anchor
from ratewise.schedulers.greedy_tensor import TensorGreedy
from ratewise.schedulers.prevailing import Place, at
from ratewise.schedulers.reactive import ReactiveLR

Bound = float | Sequence[float] | None

_BOUNDS = schema.several(schema.number(0.0))


def _given_bound(name: str, value: Any) -> None:
    """Check a bound as the constructor takes it."""
    check = _BOUNDS if isinstance(value, list) else schema.optional(schema.number(0.0))
    check(name, value)


#: What `GreedyLR`'s own part of a state must look like; `_check_own` has what depends on several.
_STATE = schema.record(
    {
        "config": schema.settings(GreedyConfig),
        "base": schema.several(schema.rate),
        "bounds": schema.record({"min_lr": _given_bound, "max_lr": _given_bound}),
        "min_lr": _BOUNDS,
        "max_lr": _BOUNDS,
        "memory": schema.record(MEMORY),
    }
)


class GreedyLR(ReactiveLR):
    r"""Raise the rate while the (smoothed) loss improves, lower it while it does not.

    With :math:`m_t` the mean of the last `window` finite losses, :math:`r` the reference (the
    best or the previous :math:`m`) and :math:`d` the threshold, after more than `patience`
    consecutive steps with

    .. math:: m_t < r - d: \; s \leftarrow s / F, \qquad m_t > r + d: \; s \leftarrow s F,

    and the rate of group g is ``clamp(base[g] * s, min_lr[g], max_lr[g]) * anchor(step)``.
    Call ``step(loss)`` after each optimizer step, with the training loss, or once an epoch
    with the validation loss. All counts below but `total_steps` are in such steps.

    Args:
        optimizer: any torch optimizer; its groups keep the ratios of their rates.
        factor: F in (0, 1), the change of one decision.
        patience: consecutive good (bad) steps that must be exceeded before a decision.
        window: length of the rolling mean; 1 is no smoothing.
        threshold: how much better than the reference counts as better.
        threshold_mode: ``"rel"`` to the reference, or ``"abs"``.
        reference: ``"best"``, or ``"previous"``, the last smoothed value.
        plateau: what a change inside the threshold is: ``"bad"`` or ``"neutral"``.
        warmup: length of the stage after an increase.
        cooldown: length of the stage after a decrease.
        stage: ``"extend"`` (the stage goes on in the same direction, a factor a step),
            ``"ignore"`` (a warmup ignores good steps, a cooldown bad ones) or ``"hold"``
            (nothing is counted).
        min_lr: lower bound of the rate, a number or one a group; default 0.1 times the
            group's initial rate. What an anchor, another scheduler or a hand multiplies the rate
            by comes on top of the bounds.
        max_lr: upper bound, likewise; default 10 times the initial rate.
        mode: ``"min"`` for losses, ``"max"`` for rewards and accuracies.
        reset_after: after so many decreases that found every group at `min_lr`, start again
            at the initial rates; None is never.
        eps: the smallest change that is made.
        eps_mode: `eps` is relative to the rate (``"rel"``) or absolute (``"abs"``).
        first: what the first metric counts as: ``"none"`` or ``"good"``.
        on_nonfinite: a NaN or an infinity is a bad step (``"bad"``), is passed over
            (``"skip"``) or raises `NonFiniteLoss` (``"raise"``). It never enters a mean.
        missing: a bare ``step()`` before any loss raises (``"raise"``) or holds (``"hold"``).
        anchor: an open-loop schedule to ride on: a name (``"cosine"``, ``"linear"``, ...) with
            `total_steps`, or a function from the step to a scale.
        total_steps: length of the run, for a named anchor: in the optimizer's own steps, also
            where `step` is called once an epoch. Beyond it the anchor's end holds.
        every: decide once in so many steps, on the mean of the losses in between.
        warmup_steps: length of a linear ramp up to the initial rate, in which nothing is decided;
            a named anchor begins after it.
        groups: indices of the parameter groups to schedule; None is all, later ones included.
        sync: how processes that train together agree on the loss: ``"mean"`` (every rank must
            bring a loss to the same steps, or the others wait for it), ``"rank0"`` (the first
            rank's; the others need none), or None, each on its own. Nothing is sent where there
            is one process.
        process_group: of `torch.distributed`; None is the default group.

    Raises:
        InvalidArgument, UnknownName, WrongType: a setting outside its range.

    Sources: Subramanian & Ganapathiraman, "Zeroth Order GreedyLR" (2023); arXiv 2512.14527,
    Algorithms 1-3 and appendix A.7.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([weight], lr=0.1)
    >>> scheduler = GreedyLR(optimizer, factor=0.5, patience=1, window=1, reference="best")
    >>> for loss in (4.0, 3.0, 2.0):
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr(), scheduler.last_reason
    ([0.2], 'increase')
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        factor: float = GreedyConfig.factor,
        patience: int = GreedyConfig.patience,
        window: int = GreedyConfig.window,
        threshold: float = GreedyConfig.threshold,
        threshold_mode: str = GreedyConfig.threshold_mode,
        reference: str = GreedyConfig.reference,
        plateau: str = GreedyConfig.plateau,
        warmup: int = GreedyConfig.warmup,
        cooldown: int = GreedyConfig.cooldown,
        stage: str = GreedyConfig.stage,
        min_lr: Bound = None,
        max_lr: Bound = None,
        mode: str = GreedyConfig.mode,
        reset_after: int | None = GreedyConfig.reset_after,
        eps: float = GreedyConfig.eps,
        eps_mode: str = GreedyConfig.eps_mode,
        first: str = GreedyConfig.first,
        on_nonfinite: str = GreedyConfig.on_nonfinite,
        missing: str = "raise",
        anchor: Anchor = None,
        total_steps: int | None = None,
        every: int = 1,
        warmup_steps: int = 0,
        groups: Sequence[int] | None = None,
        sync: str | None = "mean",
        process_group: Any = None,
        _outside_bounds: str = "raise",
    ) -> None:
        config = GreedyConfig(
            factor=factor,
            patience=patience,
            window=window,
            threshold=threshold,
            threshold_mode=threshold_mode,
            reference=reference,
            plateau=plateau,
            warmup=warmup,
            cooldown=cooldown,
            stage=stage,
            mode=mode,
            reset_after=reset_after,
            eps=eps,
            eps_mode=eps_mode,
            first=first,
            on_nonfinite=on_nonfinite,
        )
        self._rule = FloatGreedy(config, GreedyLimits((), (), ()))
        self._bounds = (min_lr, max_lr)
        self._outside_bounds = _outside_bounds
        self._base: list[float] = []
        self._min_lr: list[float] = []
        self._max_lr: list[float] = []
        if isinstance(optimizer, Optimizer):  # anything else is named by the base class
            count = len(groups if isinstance(groups, Sequence) else optimizer.param_groups)
            for name, bound in (("min_lr", min_lr), ("max_lr", max_lr)):
                _check_bound(name, bound, count)
        super().__init__(
            optimizer,
            missing=missing,
            anchor=anchor,
            total_steps=total_steps,
            every=every,
            warmup_steps=warmup_steps,
            groups=groups,
            sync=sync,
            process_group=process_group,
        )

    _places: ClassVar[Mapping[str, Place]] = {
        **ReactiveLR._places,
        **{f.name: at(f"rule.config.{f.name}") for f in dataclasses.fields(GreedyConfig)},
        "window": at("rule.config.window", memory="the mean is over that many losses"),
        "mode": at("rule.config.mode", memory="the best so far is one of that kind"),
        "min_lr": at("rule.bounds.min_lr"),
        "max_lr": at("rule.bounds.max_lr"),
    }

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        super()._follow(ours, saved, changed)
        if changed & {"min_lr", "max_lr"}:
            rule = ours["rule"]
            given = (rule["bounds"]["min_lr"], rule["bounds"]["max_lr"])
            both = [_bounds(given, index, base) for index, base in enumerate(rule["base"])]
            rule["min_lr"], rule["max_lr"] = [min(x) for x in both], [max(x) for x in both]

    @classmethod
    def like_transformers(
        cls,
        optimizer: Optimizer,
        *,
        mode: str = "min",
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        threshold_mode: str = "abs",
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float | Sequence[float] = 1e-3,
        max_lr: float | Sequence[float] = 1.0,
        eps: float = 1e-8,
        verbose: bool = False,
        smooth: bool = False,
        window_size: int = 50,
        reset_start: int = 500,
    ) -> GreedyLR:
        """Return a GreedyLR that gives the rates of `transformers.GreedyLR` (>= 5.4).

        The arguments are theirs, with their defaults; `verbose` is taken and does nothing. Not
        the same on purpose: a NaN (theirs never recovers when smoothing), a negative metric
        with a relative threshold (theirs compares the wrong way round), a smoothed metric
        within a rounding of its threshold (theirs is a running sum, which drifts), and a rate
        that comes to lie a rounding above `min_lr` (theirs may never reset then; here it is
        at its bound).
        """
        del verbose
        return cls(
            optimizer,
            factor=factor,
            patience=patience,
            window=window_size if smooth else 1,
            threshold=threshold,
            threshold_mode=threshold_mode,
            reference="best",
            plateau="bad",
            warmup=warmup,
            cooldown=cooldown,
            stage="hold",
            min_lr=min_lr,
            max_lr=max_lr,
            mode=mode,
            reset_after=max(1, reset_start),
            eps=eps,
            eps_mode="abs",
            first="good",
            _outside_bounds="allow",
        )

    @property
    def last_reason(self) -> str:
        """Why the last decision did what it did: one of `ratewise.rules.greedy.REASONS`.

        Reads the device, if the rates are on one.
        """
        return REASONS[int(self._rule.reason)]

    @property
    def on_nonfinite(self) -> str:
        """What is done with a loss that is not finite: "bad", "skip" or "raise"."""
        return str(self._rule.config.on_nonfinite)

    def _rule_rates(self) -> list[Any]:
        rates = [base * scale for base, scale in zip(self._base, self._rule.scale, strict=True)]
        if self._outside_bounds != "raise":
            return rates
        if isinstance(self._rule, TensorGreedy):
            bounds = zip(rates, self._min_lr, self._max_lr, strict=True)
            return [torch.clamp(rate, low, high) for rate, low, high in bounds]
        # base * (bound / base) may miss by a rounding
        return list(map(min, map(max, rates, self._min_lr), self._max_lr))

    def _rule_on(self, device: torch.device | None, dtype: torch.dtype) -> Any:
        if device is None:
            rule = FloatGreedy(self._rule.config, self._rule.limits)
            rule.restore(self._rule.state())
            return rule
        return TensorGreedy(self._rule, device, dtype)

    def _add_group(self, base: float) -> None:
        low, high = self._bounds_of(len(self._base), base)
        self._base.append(base)
        self._min_lr.append(low)
        self._max_lr.append(high)
        self._rule.scale.append(1.0)
        self._set_limits()

    def _rebase(self, base: Sequence[float], *, restart: bool) -> None:
        bounds = [self._bounds_of(index, rate, hold=not restart) for index, rate in enumerate(base)]
        self._base = list(base)
        self._min_lr = [low for low, _ in bounds]
        self._max_lr = [high for _, high in bounds]
        if restart:
            self._rule.restart()
        self._set_limits()

    def _bounds_of(self, index: int, base: float, hold: bool = False) -> tuple[float, float]:
        """Return a group's bounds: those given, else multiples of its base rate.

        With `hold` a base rate outside given bounds is no error: the bounds hold its rate.
        """
        low, high = _bounds(self._bounds, index, base)
        if hold:
            return min(low, high), max(low, high)
        if low > high and None not in self._bounds:
            raise invalid("min_lr", f"at most max_lr={high:g}", low, "swap or widen the bounds")
        # A rate in float32 may miss the bound that it was set to by a rounding.
        low, high = (base if math.isclose(base, x, rel_tol=1e-6) else x for x in (low, high))
        if self._outside_bounds == "raise" and not low <= base <= high:
            fix = f"group {index} starts outside: widen the bounds or change the group's lr"
            raise invalid("lr", f"in [min_lr, max_lr] = [{low:g}, {high:g}]", base, fix)
        return low, high

    def _set_limits(self) -> None:
        self._rule.limits = GreedyLimits.absolute(
            self._base, self._min_lr, self._max_lr, self._rule.config.eps
        )

    def _own_state(self) -> dict[str, Any]:
        return {
            "config": dataclasses.asdict(self._rule.config),
            "base": list(self._base),
            "bounds": {
                name: list(bound) if isinstance(bound, Sequence) else bound
                for name, bound in zip(("min_lr", "max_lr"), self._bounds, strict=True)
            },
            "min_lr": list(self._min_lr),
            "max_lr": list(self._max_lr),
            "memory": self._rule.state(),
        }

    def _check_own(self, name: str, state: Any) -> None:
        _STATE(name, state)
        base, memory = state["base"], state["memory"]
        schema.same_length(name, state, "base", "min_lr", "max_lr")
        bounds = zip(state["min_lr"], state["max_lr"], strict=True)
        for index, (low, high) in enumerate(bounds):
            allowed = f"at most max_lr[{index}] = {high:g}"
            schema.require(low <= high, f"{name}['min_lr'][{index}]", allowed, low)
        check_memory(f"{name}['memory']", memory, state["config"]["window"], len(base))
        for index, (scale, rate) in enumerate(zip(memory["scale"], base, strict=True)):
            allowed = f"at most {schema.LARGEST_RATE:g} over its base rate"
            legal = scale * rate <= schema.LARGEST_RATE
            schema.require(legal, f"{name}['memory']['scale'][{index}]", allowed, scale)

    def _restore_own(self, state: dict[str, Any]) -> None:
        rule = FloatGreedy(GreedyConfig(**state["config"]), self._rule.limits)
        rule.restore(state["memory"])
        self._rule = rule
        self._bounds = (state["bounds"]["min_lr"], state["bounds"]["max_lr"])
        self._base, self._min_lr, self._max_lr = (
            list(map(float, state[key])) for key in ("base", "min_lr", "max_lr")
        )
        self._set_limits()


def _check_bound(name: str, bound: Bound, groups: int) -> None:
    """Raise unless `bound` is None, a finite number >= 0, or one such number a group."""
    if bound is None:
        return
    if isinstance(bound, str) or not isinstance(bound, int | float | Sequence):
        raise wrong_type(name, "a number or a list, one a parameter group", bound, "pass 1e-5")
    values = list(bound) if isinstance(bound, Sequence) else [bound]
    if isinstance(bound, Sequence) and len(values) != groups:
        fix = "give one number a parameter group, or one number for all"
        raise invalid(name, f"a list of {groups} numbers", values, fix)
    for value in values:
        if not is_number(value):
            raise wrong_type(name, "a number", value, "pass a finite number >= 0")
        if not 0.0 <= value < math.inf:
            raise invalid(name, "a finite number >= 0", value, "pass e.g. 1e-5")


def _bounds(given: tuple[Bound, Bound], index: int, base: float) -> tuple[float, float]:
    """Return group `index`'s bounds as given, else multiples of its base rate."""
    low, high = (
        _bound(bound, index, base * multiple)
        for bound, multiple in zip(given, RELATIVE_BOUNDS, strict=True)
    )
    return low, high


def _bound(bound: Bound, index: int, default: float) -> float:
    """Return group `index`'s bound; a group added after the list was given gets the default."""
    if bound is None:
        return default
    if isinstance(bound, Sequence):
        return float(bound[index]) if index < len(bound) else default
    return float(bound)
