"""The part of a scheduler that controls each tensor's ||dp|| / ||p||, in the optimizer's steps."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import InvalidArgument, InvalidState, RanksDisagree, invalid, wrong_type
from ratewise.rules.checks import check_count
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.schedulers import ratio_state
from ratewise.schedulers.base_lrs import (
    LEAST,
    MOST,
    check_base_lrs,
    check_range,
    proportions,
    range_factors,
)
from ratewise.schedulers.clock import capturing
from ratewise.schedulers.displacement import Displacement
from ratewise.schedulers.policy_state import PolicyState
from ratewise.schedulers.prescale import Scale, check_kind
from ratewise.schedulers.source import RateSource
from ratewise.schedulers.step_hooks import Closure, attach_hooks
from ratewise.schedulers.takeover import predecessors, replaced, take_over

if TYPE_CHECKING:
    from ratewise.schedulers.base import ScheduledLR


class RatioControl(RateSource):
    """Leaves base rates as they are, and scales what the optimizer's steps move of each tensor.

    The groups' rates follow the schedule, and the tensors' displacements are scaled besides:
    parameter groups stay as they are, and a step that a GradScaler skips is none.

    Args:
        optimizer: any torch optimizer but those that keep averages of the weights themselves.
        config: the rule's settings.
        per: one of `ratewise.schedulers.parameters.PER`.
        measure_every: measure one step in so many.
        keep_proportions: groups move in proportion to their base rates.
        policy: corrects the wanted ratio; None is none.
        online: let each gradient correct the ratios by the step before.
    """

    in_optimizer_steps = True

    def __init__(
        self,
        optimizer: Optimizer,
        config: UpdateRatioConfig,
        *,
        per: str,
        measure_every: int,
        keep_proportions: bool,
        policy: PolicyState | None = None,
        online: bool = False,
    ) -> None:
        check_kind(optimizer)
        check_count("measure_every", measure_every, 1)
        if not isinstance(keep_proportions, bool):
            raise wrong_type("keep_proportions", "True or False", keep_proportions, "pass True")
        self.base: list[float] = []
        self._full: list[float] = []  # what the groups' rates are at the schedule's full height
        #: Groups move in proportion to their base rates at construction, over the largest.
        self.keep_proportions = keep_proportions
        self._largest = 0.0
        self.proportions: list[float] = []
        self.displacement = Displacement(optimizer, config, per, measure_every, policy, online)
        self._runtime: tuple[torch.device | None, torch.dtype] = (None, torch.float64)
        #: What controls these groups now, if this does not any more.
        self._successor: str | None = None

    # -- belonging to a scheduler ---------------------------------------------------------------

    def attach(self, scheduler: ScheduledLR) -> None:
        """Belong to this scheduler; it is held weakly, so that it goes when it is dropped."""
        self._owner = weakref.ref(scheduler)

    @property
    def scheduler(self) -> ScheduledLR:
        """The scheduler that has this."""
        owner = self._owner()
        if owner is None:
            raise RuntimeError("this control outlived its scheduler")
        return owner

    def __getstate__(self) -> dict[str, Any]:
        """Without the scheduler: a copy's own calls `attach`."""
        return {name: value for name, value in self.__dict__.items() if name != "_owner"}

    def begin(self, first: bool) -> None:
        """Take over from what controls these groups, once nothing is left to refuse."""
        scheduler = self.scheduler
        groups = scheduler._groups()
        self.displacement.meet(groups)
        if first:
            check_base_lrs(scheduler.optimizer, groups, current=not predecessors(self))
            self._largest = max(float(group.get("initial_lr", group["lr"])) for group in groups)
            take_over(self, stacklevel=8)

    def listen(self) -> None:
        """Attach to the optimizer's steps, as the only one that scales them."""
        if self._successor is None:
            if take_over(self, stacklevel=4):  # a shallow copy has the same optimizer
                self.scheduler._write()
            attach_hooks(self, self.scheduler.optimizer)

    def check_groups(self, groups: Sequence[dict[str, Any]]) -> None:
        """Raise unless the groups' base rates can be started from."""
        check_base_lrs(self.scheduler.optimizer, groups, current=False)

    def hand_over(self, successor: str) -> None:
        """Put the groups' rates back as they are without a schedule, and do nothing from now on.

        Args:
            successor: what controls the groups from now on, in words.
        """
        self.undo_unfinished()
        scheduler = self.scheduler
        scheduler._rates.write(scheduler._groups(), self.rates())
        self._successor = successor

    def check_usable(self) -> None:
        """Raise `SchedulerReplaced` if another has taken over."""
        if self._successor is not None:
            raise replaced(self, self._successor)

    # -- the optimizer's steps ------------------------------------------------------------------

    @torch.no_grad()
    def before_step(self, closure: bool) -> None:
        """Prepare to scale a step of the optimizer; torch calls it.

        Args:
            closure: gradients come during the step.

        Raises:
            InvalidArgument: the step is being captured in a CUDA graph.
        """
        if capturing():
            raise InvalidArgument(
                "this scheduler counts steps in Python, which no replay of a CUDA graph runs: step "
                "the optimizer outside the captured graph"
            )
        self.undo_unfinished()
        scheduler = self.scheduler
        scheduler.advance_alone()
        scheduler._meet_new_groups()
        groups = scheduler._groups()
        self.displacement.meet(groups)
        memory = scheduler.optimizer.state
        self.displacement.before(groups, self._scales(groups), closure, memory)

    def around_closure(self, closure: Closure) -> Closure:
        """Return the closure, with the groups' own rates for as long as it runs."""
        return self.displacement.around(closure)

    def undo_unfinished(self) -> None:
        """Put the groups' rates back, if a step raised an error and never ended."""
        self.displacement.undo_unfinished()

    @torch.no_grad()
    def after_step(self) -> None:
        """Scale what the optimizer's step has moved; torch calls it."""
        scheduler = self.scheduler
        trace = scheduler._record.trace
        if self.displacement.after() and trace.due():
            ratios = self.displacement.ratios
            typical = torch.where(ratios > 0, ratios, torch.nan).nanmedian()
            rate = scheduler._groups()[0]["lr"]
            rate = rate.clone() if isinstance(rate, Tensor) else rate
            trace.add(scheduler.last_epoch + 1, typical, rate)

    def _scales(self, groups: Sequence[dict[str, Any]]) -> list[Scale]:
        """Return each group's rate over what it is at the schedule's full height."""
        device = self.displacement.parameters.device
        scales: list[Scale] = []
        for group, full in zip(groups, self._full, strict=True):
            rate = group["lr"]
            if not full:
                scales.append(0.0)
            elif isinstance(rate, Tensor) and rate.device == device:
                scales.append(rate.detach().reshape(()) / full)
            else:
                scales.append(float(rate) / full)
        return scales

    # -- what it reports ------------------------------------------------------------------------

    @property
    def ratio(self) -> float:
        """The relative displacement of a step at the schedule's full height."""
        return self.displacement.config.ratio

    @property
    def per(self) -> str:
        """What has a factor of its own: "tensor", "group" or "model"."""
        return self.displacement.parameters.per

    def lines(self, last: int) -> list[str]:
        """Return wanted and measured displacements, and `last` tensors' factors; reads a device."""
        scheduler = self.scheduler
        step, share, horizon = scheduler._now(), scheduler.share(), scheduler.horizon
        of = "" if horizon is None else f" of {horizon}"
        rates = ", ".join(f"{float(group['lr']):.4g}" for group in scheduler._groups())
        found = [
            f"step {step}{of}, lr {rates}: per {self.per}, ||dp|| / ||p|| is to be "
            f"{self.ratio * share:.4g}",
            f"  ({self.ratio:g} at full height, schedule at {share:.3g})",
        ]
        if self.keep_proportions and self.per != "model":
            found += [
                f"  group {index}: {own:.3g} of it, as its rate is of the largest "
                "(keep_proportions)"
                for index, own in enumerate(self.proportions)
                if own != 1.0
            ]
        if (online := self.displacement.online).on:
            found.append(f"  online: every ratio is multiplied by {float(online.multiplier()):.3g}")
        found += self.displacement.words(last)
        found += [event.words() for event in scheduler._record.events()[-last:]]
        policy = self.displacement.policy
        return found if policy is None else found + policy.words()

    def consequences(self, saved: dict[str, Any]) -> str:
        """Return, for a message, whether the ratio has changed."""
        ratio = saved["config"]["ratio"]
        return "" if self.ratio == ratio else f", the ratio {self.ratio:.4g} instead of {ratio:.4g}"

    def check_agreement(self) -> None:
        """Raise `RanksDisagree` unless all ranks have the same factors.

        Gradients that are the same on all ranks, as DistributedDataParallel leaves them, give the
        same factors, and nothing is sent; this compares.
        """
        factors, step = self.displacement.factors().double(), self.scheduler._now()
        summary = [float(x) for x in (factors.sum(), factors.square().sum(), factors.log1p().sum())]
        try:
            self.scheduler._agreement.check(summary, step)
        except RanksDisagree as error:
            raise RanksDisagree(
                f"at step {step} the ranks' tensors have different factors: give every rank "
                "the same weights and the same reduced gradients"
            ) from error

    # -- base rates -----------------------------------------------------------------------------

    def rates(self) -> list[Any]:
        """Return the base rates."""
        device, dtype = self._runtime
        if device is None:
            return list(self.base)
        return [torch.full((), base, dtype=dtype, device=device) for base in self.base]

    def move(self, device: torch.device | None, dtype: torch.dtype) -> None:
        """Return base rates there from now on; factors are where the parameters are."""
        self._runtime = device, dtype

    def add_group(self, base: float) -> None:
        """Take in one more parameter group with this base rate."""
        self.base.append(base)
        self._full.append(base)
        self.proportions += proportions([base], self._largest)
        self._relate()

    def _relate(self) -> None:
        """Hand the base rates' proportions on to the displacements."""
        alike = not self.keep_proportions or self.per == "model"
        wanted = [1.0] * len(self._full) if alike else self.proportions
        self.displacement.relate(range_factors(self._full, self.per), wanted)

    def rebase(self, base: Sequence[float], *, restart: bool) -> None:
        """Put other base rates in place; with `restart` the factors make up for them.

        `rescale` lowers the rate and with it what is wanted; another base rate alone does not.
        """
        for rate in base:
            if restart:
                check_range(self.scheduler.optimizer, rate)
            elif not LEAST <= rate <= MOST:
                allowed = f"one that leaves base rates in [{LEAST:g}, {MOST:g}]"
                raise invalid("factor", allowed, f"a rate of {rate:g}", "pass one nearer to 1")
        if restart:
            usual, now = range_factors(self._full, self.per), range_factors(base, self.per)
            all_of_them = zip(self._full, base, usual, now, strict=True)
            self.displacement.rescale([old / new * (u / n) for old, new, u, n in all_of_them])
            self._full = list(base)
            self._relate()
        self.base = list(base)

    # -- checkpoints ----------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """Return plain data: waits for a device."""
        self.displacement.meet(self.scheduler._groups())
        return {
            "config": dataclasses.asdict(self.displacement.config),
            "per": self.per,
            "base": list(self.base),
            "full": list(self._full),
            "keep_proportions": self.keep_proportions,
            "largest": self._largest,
            "proportions": list(self.proportions),
            "displacement": self.displacement.to_state(),
        }

    def check(self, name: str, state: Any) -> None:
        """Raise `InvalidState` unless `to_state` might have returned this."""
        ratio_state.check(name, state)

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `to_state` returned."""
        if state["per"] != self.per:
            raise InvalidState(
                f"state_dict is of per={state['per']!r}, this scheduler of per={self.per!r}: "
                "construct it with the same"
            )
        self.displacement.meet(self.scheduler._groups())
        self.base, self._full = (list(map(float, state[key])) for key in ("base", "full"))
        self.keep_proportions = bool(state["keep_proportions"])
        self._largest = float(state["largest"])
        self.proportions = list(map(float, state["proportions"]))
        self._relate()
        self.displacement.restore(state["displacement"])
        self.displacement.config = UpdateRatioConfig(**state["config"])
