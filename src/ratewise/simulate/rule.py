"""Rules over many runs: what a simulated run's learning rate follows.

A rule is data with two methods. `start` gives the scale of the first step and a state,
`update` takes what the step showed and gives the next scale: rate = lr * scale. All is one entry
a run, in float64; a rule never sees another run. Whatever has these two methods will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ratewise.errors import UnknownName, invalid, unknown, wrong_type
from ratewise.rules import greedy, plateau
from ratewise.rules.checks import check_count
from ratewise.rules.criterion import decide
from ratewise.rules.fixed import FIXED, fixed_rule, fixed_scale, ramped
from ratewise.rules.greedy_config import RELATIVE_BOUNDS, GreedyConfig, GreedyLimits
from ratewise.rules.greedy_float import FloatGreedy
from ratewise.rules.plateau import PlateauConfig
from ratewise.simulate.stack import Steer, Tensors


class Signals(NamedTuple):
    """What a rule sees after an optimizer step, one entry a run, float64."""

    step: int  #: optimizer steps made, the one just made included
    loss: Tensor  #: [runs] of the step's batch, noise on the loss included
    grad_norm: Tensor  #: [runs] |g|
    update_ratio: Tensor  #: [runs] |dp| / |p|


class Rule(Protocol):
    """What schedules the rate of the runs that share it."""

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return the first scale, [runs], and the state.

        Args:
            zero: zeros, one a run: the shape, type and device of what is returned.
            steps: the runs' length in optimizer steps.
        """
        ...

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the next step's scale, [runs], and the state."""
        ...


@dataclass(frozen=True)
class Fixed:
    """An open-loop schedule, by a name that `ratewise.rules.fixed.fixed_rule` takes."""

    name: str = "constant"

    def __post_init__(self) -> None:
        try:
            fixed_rule(self.name)
        except UnknownName:
            raise unknown("rule", self.name, _BY_NAME) from None

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return 1 and what the later scales follow from."""
        return zero + fixed_scale(self.name, 0, steps), (zero, steps)

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the scale after this step."""
        zero, steps = state
        return zero + fixed_scale(self.name, seen.step, steps), state


@dataclass(frozen=True)
class Greedy:
    """GreedyLR, alone or multiplied by a fixed schedule; one run per element of a tensor.

    Args:
        config: the rule's settings. Where they name no criterion the runs' length decides, as for
            the scheduler, and how they end (`ratewise.rules.criterion`).
        anchor: a schedule that multiplies the scale, by a name that
            `ratewise.rules.fixed.fixed_rule` takes, or None. Unlike the scheduler's, a criterion
            of significance that is named has no end here unless one is: ``"stable-decay"``.
        bounds: least and greatest scale.
    """

    config: GreedyConfig = field(default_factory=GreedyConfig)
    anchor: str | None = None
    bounds: tuple[float, float] = RELATIVE_BOUNDS

    def __post_init__(self) -> None:
        if self.anchor is not None:
            Fixed(self.anchor)
        low, high = self.bounds
        if not 0.0 <= low <= 1.0 <= high < float("inf"):
            fix = "pass multiples of the initial rate, e.g. (0.1, 10.0)"
            raise invalid("bounds", "0 <= least <= 1 <= greatest", self.bounds, fix)

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return the first scale and the rule's state."""
        config, end, _ = decide(self.config, steps, scheduled=self.anchor is not None)
        name = self.anchor or end or "constant"
        anchor = [fixed_scale(name, t, steps) for t in range(steps + 1)]
        first = zero + anchor[0]
        if zero.numel() == 1 and zero.device.type == "cpu":  # the float runtime, equal to the bit
            return first, (anchor, config, FloatGreedy(config, self._limits))
        if zero.device.type == "cpu":  # NumPy's small calls cost half of torch's
            return first, (anchor, config, greedy.init(config, zero=zero.numpy(), xp=np))
        return first, (anchor, config, greedy.init(config, zero=zero, xp=torch))

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the next scale and the rule's state."""
        anchor, config, inner = state
        now = anchor[seen.step]
        if isinstance(inner, FloatGreedy):
            inner.update(float(seen.loss))
            return torch.full_like(seen.loss, inner.scale[0] * now), state
        rule: dict[str, Any] = {"config": config, "limits": self._limits}
        if isinstance(inner.reference, np.ndarray):
            with np.errstate(all="ignore"):  # a run may well have diverged
                inner = greedy.update(inner, loss=seen.loss.numpy(), xp=np, **rule)
            return torch.from_numpy(inner.scale[0] * now), (anchor, config, inner)
        inner = greedy.update(inner, loss=seen.loss, xp=torch, **rule)
        return inner.scale[0] * now, (anchor, config, inner)

    @property
    def _limits(self) -> GreedyLimits:
        low, high = self.bounds
        return GreedyLimits((low,), (high,), (0.0,))


@dataclass(frozen=True)
class Warmup:
    """Another rule after a linear ramp, in which it decides nothing; it sees a run without it.

    As `warmup_steps` of a scheduler: the scale of step t <= `steps` is t / (steps + 1).

    Args:
        rule: what follows.
        steps: length of the ramp in optimizer steps.
    """

    rule: Rule
    steps: int

    def __post_init__(self) -> None:
        check_count("steps", self.steps, 1)

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return the ramp's first scale, and the rule's first with its state."""
        first, state = self.rule.start(zero, max(1, steps - self.steps))
        return first * ramped(1.0, 0, self.steps), (first, state)

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the ramp's next scale, or the rule's."""
        first, inner = state
        if seen.step <= self.steps:
            return first * ramped(1.0, seen.step, self.steps), state
        past = seen._replace(step=seen.step - self.steps)
        scale, inner = self.rule.update(inner, past)
        return scale, (first, inner)


@dataclass(frozen=True)
class Plateau:
    """ReduceLROnPlateau on the loss of every step."""

    config: PlateauConfig = field(default_factory=PlateauConfig)

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return 1 and the rule's state."""
        return zero + 1.0, plateau.init(self.config, zero=zero, xp=torch)

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the next scale and the rule's state."""
        state = plateau.update(state, loss=seen.loss, config=self.config, xp=torch)
        return state.scale, state


_BY_NAME: dict[str, Any] = {
    **{name: lambda name=name: Fixed(name) for name in FIXED},
    "greedy": Greedy,
    "greedy-cosine": lambda: Greedy(anchor="cosine"),
    "plateau": Plateau,
}


def as_rule(choice: Any) -> Rule:
    """Return the rule that a name or a configuration stands for.

    >>> as_rule("greedy-cosine").anchor
    'cosine'
    """
    if isinstance(choice, str):
        return _BY_NAME[choice]() if choice in _BY_NAME else Fixed(choice)
    if isinstance(choice, GreedyConfig):
        return Greedy(choice)
    if isinstance(choice, PlateauConfig):
        return Plateau(choice)
    if callable(getattr(choice, "start", None)) and callable(getattr(choice, "update", None)):
        return choice
    fix = "pass 'cosine', 'greedy', a GreedyConfig, or an object with start and update"
    raise wrong_type("rule", "a rule", choice, fix)


class Mixture:
    """Several rules over one stack: each run follows its own.

    Args:
        rules: one a run; equal ones (or the same object) decide together.
        zero: zeros, one a run, float64.
        steps: the runs' length.
    """

    def __init__(self, rules: list[Rule], zero: Tensor, steps: int) -> None:
        members: dict[Any, list[int]] = {}
        for run, rule in enumerate(rules):
            try:
                members.setdefault(rule, []).append(run)
            except TypeError:  # it, or a field of it, cannot be hashed
                members.setdefault(id(rule), []).append(run)
        self._parts = []
        self.scale = zero + 1.0
        for runs in members.values():
            rule = rules[runs[0]]
            where: Any = slice(None)
            if len(runs) < len(rules):
                step = runs[1] - runs[0] if len(runs) > 1 else 1
                even = runs == list(range(runs[0], runs[-1] + 1, step))
                where = slice(runs[0], runs[-1] + 1, step) if even else runs
            if isinstance(where, list):
                where = torch.tensor(where, device=zero.device)
            scale, state = rule.start(zero[where].contiguous(), steps)
            self.scale[where] = scale
            self._parts.append([rule, where, state])

    @property
    def keeps(self) -> bool:
        """Whether any rule looks at the last step's displacement."""
        return any(getattr(rule, "keeps", False) for rule, _, _ in self._parts)

    def steering(self, step: int, lr: Tensor, tensors: int) -> Steer | None:
        """Return what gives the tensors' factors of a step, if any rule steers tensors.

        Args:
            step: the step to be made, from 1.
            lr: [runs] base rates.
            tensors: how many a run has.
        """
        steered = [part for part in self._parts if hasattr(part[0], "steer")]
        return partial(self._steer, steered, step, lr, tensors) if steered else None

    def _steer(
        self,
        steered: list[Any],
        step: int,
        lr: Tensor,
        tensors: int,
        measure: Callable[[], Tensors],
    ) -> Tensor:
        factors = (lr * self.scale).expand(tensors, -1).clone()
        seen = measure() if any(rule.measures(step) for rule, _, _ in steered) else None
        for part in steered:
            rule, where, state = part
            if seen is not None and rule.measures(step):
                own = Tensors(*seen[:2], *(x[:, where] for x in seen[2:]))
                applied, part[2] = rule.steer(state, own, step, lr[where], self.scale[where])
            else:
                applied = rule.factors(state)
            factors[:, where] *= applied
        return factors

    def update(self, seen: Signals) -> None:
        """Update every rule with the signals of its own runs."""
        if len(self._parts) == 1:
            rule, _, state = self._parts[0]
            self.scale, self._parts[0][2] = rule.update(state, seen)
            return
        for part in self._parts:
            rule, where, state = part
            own = Signals(seen.step, *(x[where].contiguous() for x in seen[1:]))
            scale, part[2] = rule.update(state, own)
            self.scale[where] = scale
