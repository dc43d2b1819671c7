"""Rules that give each tensor a factor of its own: the update-ratio rule, and the learned one.

Beside `start` and `update` such a rule has `measures`, `steer` and `factors`: between an
optimizer's step and what is kept of it, it sees every tensor's displacement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ratewise.errors import invalid, unknown
from ratewise.rules import features, learned, online
from ratewise.rules import update_ratio as rule
from ratewise.rules.checks import check_count
from ratewise.rules.fixed import FIXED, fixed_scale
from ratewise.rules.learned import LearnedState, Policy
from ratewise.rules.ratio_law import UNKNOWN, Outlook, default_ratio
from ratewise.rules.update_ratio import UpdateRatioConfig, UpdateRatioState
from ratewise.simulate.rule import Signals
from ratewise.simulate.stack import Tensors


class StackedUpdateRatioState(NamedTuple):
    """State of the update-ratio rule over a stack of runs."""

    zero: Tensor  #: [runs]
    steps: int  #: of the runs
    inner: UpdateRatioState | None  #: factors [units, runs]; None before the first step
    decided: int  #: optimizer steps made before the one that was measured last
    correction: Tensor  #: [runs] c of `ratewise.rules.online`


@dataclass(frozen=True)
class UpdateRatio:
    """The rule of `ratewise.UpdateRatioLR`, over many runs.

    Args:
        config: the rule's settings; None takes its defaults and the horizon's ratio.
        per: what has a factor of its own: "tensor" or "model".
        schedule: a schedule of `ratewise.rules.fixed`.
        every: measure every so many steps, after the first `EARLY`.
        online: correct the ratio by `ratewise.rules.online`; "random" gives each correction a
            sign at random, the negative control.
        judge_every: correct at one step in so many.
    """

    config: UpdateRatioConfig | None = None
    per: str = "tensor"
    schedule: str = "linear"
    every: int = rule.EVERY
    online: bool | str = False
    judge_every: int = 1

    def __post_init__(self) -> None:
        if self.schedule not in FIXED:
            raise unknown("schedule", self.schedule, FIXED)
        if self.per not in ("tensor", "model"):
            raise unknown("per", self.per, ("tensor", "model"))
        if not (isinstance(self.online, bool) or self.online == "random"):
            raise invalid("online", "True, False or 'random'", self.online, "pass True")
        check_count("every", self.every, 1)
        check_count("judge_every", self.judge_every, 1)

    @property
    def keeps(self) -> bool:
        """Whether the last step's displacement is looked at."""
        return bool(self.online)

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, StackedUpdateRatioState]:
        """Return the schedule's first value and the state."""
        return zero + fixed_scale(self.schedule, 0, steps), StackedUpdateRatioState(
            zero, steps, None, 0, zero
        )

    def update(
        self, state: StackedUpdateRatioState, seen: Signals
    ) -> tuple[Tensor, StackedUpdateRatioState]:
        """Return the schedule's value after this step."""
        return state.zero + fixed_scale(self.schedule, seen.step, state.steps), state

    def measures(self, step: int) -> bool:
        """Return whether the step, from 1, is measured, or judges the one before."""
        return rule.measures(step - 1, self.every) or self._judges(step)

    def _judges(self, step: int) -> bool:
        return bool(self.online) and online.looks(step - 1, self.judge_every)

    def factors(self, state: StackedUpdateRatioState) -> Tensor:
        """Return the factors between measurements, [tensors or 1, runs]."""
        if state.inner is None:
            raise RuntimeError("the first step is always measured")
        return state.inner.factor * torch.exp(state.correction)

    def steer(
        self,
        state: StackedUpdateRatioState,
        seen: Tensors,
        step: int,
        lr: Tensor,
        scale: Tensor,
        correction: Tensor | float = 1.0,
    ) -> tuple[Tensor, StackedUpdateRatioState]:
        """Return the factors for this step, [tensors or 1, runs], and the state.

        Args:
            state: the last.
            seen: the step, measured.
            step: its number, from 1.
            lr: [runs] base rates.
            scale: [runs] the schedule's value.
            correction: [runs] what the ratio is multiplied by.
        """
        if self._judges(step):
            state = state._replace(correction=self._judged(state.correction, seen.again[0], step))
            if not rule.measures(step - 1, self.every):
                return self.factors(state), state
        config = self.config or UpdateRatioConfig(ratio=default_ratio(state.steps))
        units = 1 if self.per == "model" else len(seen.before)
        inner = state.inner or rule.init(units, zero=state.zero, xp=torch)
        typical = rule.typical_rms(seen.before, seen.sizes, seen.matrices, xp=torch)
        typical = torch.where(inner.typical > 0, inner.typical, typical)
        norms = rule.floored(seen.before, seen.sizes, typical, floor=config.floor, xp=torch)
        norms = torch.where((seen.before > 0) | (seen.moved > 0), norms, 0.0)
        moved = seen.moved * lr
        if self.per == "model":
            norms, moved = (torch.linalg.vector_norm(x, dim=0)[None] for x in (norms, moved))
        loud = (norms > 0) & (scale >= rule.QUIET)
        applied, inner = rule.update(
            inner._replace(typical=typical),
            unit=torch.where(loud, moved / norms, 0.0) / correction,
            config=config,
            steps=max(1, step - 1 - state.decided),
            early=step <= rule.EARLY,
            xp=torch,
        )
        state = state._replace(inner=inner, decided=step - 1)
        return applied * torch.exp(state.correction), state

    def _judged(self, correction: Tensor, cosine: Tensor, step: int) -> Tensor:
        if self.online == "random":
            signs = torch.Generator().manual_seed(step)
            drawn = torch.randint(2, cosine.shape, generator=signs).to(cosine)
            cosine = cosine * (2 * drawn - 1)
        return online.corrected(correction, cosine, every=self.judge_every, xp=torch)


class StackedLearnedState(NamedTuple):
    """State of the learned rule over a stack of runs."""

    anchor: StackedUpdateRatioState
    learned: LearnedState
    losses: Tensor  #: [runs] sum over the window


class Learned:
    """The rule of `ratewise.LearnedLR`, over many runs: a policy corrects the update-ratio rule.

    Args:
        policy: what decides, and what it decides on.
        run: what is known of the runs beside their length.
    """

    def __init__(self, policy: Policy, run: Outlook = UNKNOWN) -> None:
        self.policy = policy
        self._run = run
        self._anchor = UpdateRatio(schedule=policy.schedule)

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, StackedLearnedState]:
        """Return the schedule's first value and the state."""
        scale, anchor = self._for(steps).start(zero, steps)
        return scale, StackedLearnedState(anchor, learned.init(zero, xp=torch), zero)

    def update(
        self, state: StackedLearnedState, seen: Signals
    ) -> tuple[Tensor, StackedLearnedState]:
        """Record the step, decide at the end of a window, and return the schedule's value."""
        scale, anchor = self._anchor.update(state.anchor, seen)
        inner, losses = state.learned, state.losses + seen.loss
        interval = self.policy.interval(anchor.steps)
        if seen.step % interval == 0:
            inner = self.decide(inner, losses / interval, seen.step, anchor.steps)
            losses = torch.zeros_like(losses)
        return scale, StackedLearnedState(anchor, inner, losses)

    def decide(self, state: LearnedState, loss: Tensor, step: int, total: int) -> LearnedState:
        """Correct the anchor for the next window; `loss` is the mean of the one that ends."""
        network, run = self.policy.on(loss, torch), self._of(total)
        return learned.decide(state, loss, network, step=step, run=run, xp=torch)[0]

    def measures(self, step: int) -> bool:
        """Return whether the step, from 1, is measured."""
        return self._anchor.measures(step)

    def factors(self, state: StackedLearnedState) -> Tensor:
        """Return the factors between measurements, [tensors, runs]."""
        return self._anchor.factors(state.anchor)

    def steer(
        self, state: StackedLearnedState, seen: Tensors, step: int, lr: Tensor, scale: Tensor
    ) -> tuple[Tensor, StackedLearnedState]:
        """Return the factors for this step, [tensors, runs], and the state."""
        inner = state.learned
        applied, anchor = self._for(state.anchor.steps).steer(
            state.anchor, seen, step, lr, scale, inner.correction
        )
        looked = features.look(
            inner.features,
            **features.of_tensors(
                gradient=seen.gradient,
                along=seen.along,
                moved=seen.moved,
                before=seen.before,
                applied=applied * lr * scale,
                xp=torch,
            ),
            xp=torch,
        )
        return applied, state._replace(anchor=anchor, learned=inner._replace(features=looked))

    def _of(self, steps: int) -> Outlook:
        return self._run._replace(total_steps=steps)

    def _for(self, steps: int) -> UpdateRatio:
        return replace(self._anchor, config=self.policy.config(self._of(steps)))
