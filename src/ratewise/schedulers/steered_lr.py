"""What the schedulers share that give each tensor a factor of its own; abstract."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TextIO

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import (
    InvalidArgument,
    InvalidState,
    RanksDisagree,
    wrong_type,
)
from ratewise.rules.checks import check_count
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.schedulers import steered_state
from ratewise.schedulers.ahead import Scale, check_kind
from ratewise.schedulers.anchor import anchor_scale
from ratewise.schedulers.base_rates import check_bases, check_range, proportions, raised
from ratewise.schedulers.clock import capturing
from ratewise.schedulers.correction import Correction
from ratewise.schedulers.in_charge import predecessors, replaced, take_over
from ratewise.schedulers.prevailing import Place, at
from ratewise.schedulers.reactive import ReactiveLR
from ratewise.schedulers.steering import Steering
from ratewise.schedulers.step_hooks import Closure, hang_on, settle


class SteeredLR(ReactiveLR):
    """A scheduler that steers ||dp|| / ||p|| in the optimizer's step hooks; abstract.

    The groups' rates follow the schedule, and the tensors' displacements are scaled besides:
    parameter groups stay as they are, and a step that a GradScaler skips is none.

    Args:
        optimizer: any torch optimizer but those that keep the way of the weights themselves.
        config: the rule's settings.
        per: one of `ratewise.schedulers.steered.PER`.
        schedule: a name of `ratewise.rules.fixed.FIXED`.
        total_steps: length of the run in optimizer steps, or None.
        every: decide on losses once in so many steps.
        measure: measure one step in so many.
        keep_proportions: groups move in proportion to their base rates.
        correction: of the wanted ratio, by a policy.
        rest: of `ReactiveLR`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        config: UpdateRatioConfig,
        *,
        per: str,
        schedule: str,
        total_steps: int | None,
        every: int,
        measure: int,
        keep_proportions: bool,
        correction: Correction | None = None,
        **rest: Any,
    ) -> None:
        check_kind(optimizer)
        if not isinstance(keep_proportions, bool):
            raise wrong_type("keep_proportions", "True or False", keep_proportions, "pass True")
        self.schedule = schedule
        #: The step at which the schedule begins, and what it is multiplied by.
        self._begin, self._height = 0, 1.0
        self._base: list[float] = []
        self._full: list[float] = []  # what the groups' rates are at the schedule's full height
        #: Groups move in proportion to their base rates at construction, over the largest.
        self.keep_proportions = keep_proportions
        self._largest = 0.0
        self._proportions: list[float] = []
        self._rule = _Unhearing()
        self._steering = Steering(optimizer, config, per, measure, correction)
        #: Steps that were counted without a call of `step`, since the last one; and the most
        #: that ever lay between two calls, 0 before there were two.
        self._alone = self._stride = 0
        #: What steers these groups now, if this scheduler does not any more.
        self._successor: str | None = None
        super().__init__(
            optimizer,
            anchor=None if total_steps is None else schedule,
            total_steps=total_steps,
            every=every,
            **rest,
        )
        hang_on(self, self.optimizer)

    _places: ClassVar[Mapping[str, Place]] = {
        **ReactiveLR._places,
        "schedule": at("rule.schedule"),
        "keep_proportions": at("rule.keep_proportions"),
    }

    def _follow_length(self, ours: dict[str, Any]) -> None:
        """Let the settings in a state follow from another length of the run."""

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        rule = ours["rule"]
        if saved["rule"]["begin"] or saved["horizon"] != saved["length"]:
            return  # it is coming down: that stands
        if changed & {"total_steps", "schedule"}:
            ours["horizon"] = ours["length"]
            ours["anchor"] = None if ours["length"] is None else rule["schedule"]
        if "total_steps" in changed:
            self._follow_length(ours)

    def _consequences(self, saved: dict[str, Any]) -> str:
        words = super()._consequences(saved)
        ratio = saved["rule"]["config"]["ratio"]
        if self.ratio != ratio:
            words += f", the ratio {self.ratio:.4g} instead of {ratio:.4g}"
        if saved["rule"]["begin"] or saved["horizon"] != saved["length"]:
            words += f"; what was annealed ends at step {self.horizon} as before"
        return words

    def _height_of(self, saved: dict[str, Any]) -> float:
        rule, step = saved["rule"], saved["clock"]["elapsed"]
        begin = max(saved["warmup_steps"], rule["begin"])
        height = rule["height"] * anchor_scale(saved["anchor"], step, saved["horizon"], begin)
        return _ramped(height, step, saved["warmup_steps"])

    # -- the optimizer's steps ------------------------------------------------------------------

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copied optimizer has no hooks."""
        self.__dict__.update(state)
        if self._successor is None:
            if take_over(self, stacklevel=3):  # a shallow copy has the same optimizer
                self._write()
            hang_on(self, self.optimizer)

    def _initial_step(self) -> None:
        """Take over from a scheduler that steers these groups, once nothing is left to refuse."""
        groups = self._groups()
        self._steering.meet(groups)
        if not self._group_count:
            check_bases(self.optimizer, groups, current=not predecessors(self))
            self._largest = max(float(group.get("initial_lr", group["lr"])) for group in groups)
            take_over(self, stacklevel=8)
        super()._initial_step()

    def _take_in_groups(self) -> None:
        check_bases(self.optimizer, self._groups()[self._group_count :], current=False)
        super()._take_in_groups()

    def give_up(self, successor: str) -> None:
        """Put the groups' rates back as they are without a schedule, and do nothing from now on.

        Args:
            successor: what steers the groups from now on, in words.
        """
        self._steering.settle()
        self._rates.write(self._groups(), self._rule_rates())
        self._successor = successor

    def _prepare_to_write(self) -> None:
        super()._prepare_to_write()
        if self._successor is not None:
            raise replaced(self, self._successor)

    @torch.no_grad()
    def before_step(self, closure: bool) -> None:
        """Make ready to steer a step of the optimizer; torch calls it.

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
        self._steering.settle()
        self._go_on_alone()
        self._meet_new_groups()
        self._steering.meet(self._groups())
        self._steering.before(self._groups(), self._scales(), closure)

    def around_closure(self, closure: Closure) -> Closure:
        """Return the closure, with the groups' own rates for as long as it runs."""
        return self._steering.around(closure)

    def settle(self) -> None:
        """Give the groups their rates back, if a step raised an error and never ended."""
        self._steering.settle()

    @torch.no_grad()
    def after_step(self) -> None:
        """Steer what the optimizer's step has moved; torch calls it."""
        if self._steering.after() and self._record.trace.due():
            ratios = self._steering.ratios
            typical = torch.where(ratios > 0, ratios, torch.nan).nanmedian()
            rate = self._groups()[0]["lr"]
            self._record.trace.add(
                self.last_epoch + 1, typical, rate.clone() if isinstance(rate, Tensor) else rate
            )

    def _scales(self) -> list[Scale]:
        """Return each group's rate over what it is at the schedule's full height."""
        device = self._steering.steered.device
        scales: list[Scale] = []
        for index, group in enumerate(self._groups()):
            rate = group["lr"]
            full = self._full[index]
            if not full:
                scales.append(0.0)
            elif isinstance(rate, Tensor) and rate.device == device:
                scales.append(rate.detach().reshape(()) / full)
            else:
                scales.append(float(rate) / full)
        return scales

    # -- the schedule's steps ---------------------------------------------------------------------

    def _go_on_alone(self) -> None:
        """Count the last step where no call of `step` has: the rate moves at each step.

        As many steps as lay between two calls before; then this waits for the next one, as after
        a `SequentialLR` has handed the optimizer over. In its turn before that it counts nothing.
        """
        if self.last_epoch < 0 or 0 < self._stride <= self._alone + 1:
            return
        steps = self._clock.take()
        if steps:
            self._alone += steps
            self._move_on(steps)
            self._write()
            self._tell_past_horizon()

    def _count(self, steps: int) -> int:
        since, self._alone = self._alone + steps, 0
        if self._clock.heard:
            self._stride = max(self._stride, since)
        self._move_on(steps)
        return since

    def _anchor_height(self) -> float:
        return self._share()

    def _share(self, ramp: bool = True) -> float:
        """Return the schedule's height at this step, in [0, 1], with the ramp or without."""
        step, length = self.last_epoch, self.warmup_steps
        share = self._height * anchor_scale(
            self._anchor, step, self.horizon, max(length, self._begin)
        )
        return _ramped(share, step, length) if ramp else share

    @property
    def ratio(self) -> float:
        """The relative displacement of a step at the schedule's full height."""
        return self._steering.config.ratio

    @property
    def per(self) -> str:
        """What has a factor of its own: "tensor", "group" or "model"."""
        return self._steering.steered.per

    def factors(self) -> Tensor:
        """Return what each tensor's displacement is multiplied by, a copy: nothing is read.

        One number a tensor, in the order of the steered groups; 0 before its first measurement.
        """
        return self._steering.factors()

    def ratios(self) -> Tensor:
        """Return each tensor's ||dp|| / ||p|| on the last measured step, a copy; 0 if none."""
        return self._steering.ratios.clone()

    def explain(self, last: int = 10, file: TextIO | None = None) -> None:
        """Print what is wanted and what is, and which tensors' factors lie furthest out.

        Args:
            last: how many tensors to name.
            file: where to; None is standard output. Waits for a device.
        """
        check_count("last", last, 1)
        settle(self.optimizer)
        self.flush()
        step, share = self._now(), self._share()
        of = "" if self.horizon is None else f" of {self.horizon}"
        rates = ", ".join(f"{float(group['lr']):.4g}" for group in self._groups())
        print(
            f"step {step}{of}, lr {rates}: per {self.per}, ||dp|| / ||p|| is to be "
            f"{self.ratio * share:.4g}\n  ({self.ratio:g} at full height, schedule at {share:.3g})",
            file=file,
        )
        if self.keep_proportions and self.per != "model":
            for index, own in enumerate(self._proportions):
                if own != 1.0:
                    print(
                        f"  group {index}: {own:.3g} of it, as its rate is of the largest "
                        "(keep_proportions)",
                        file=file,
                    )
        print(*self._steering.words(last), sep="\n", file=file)
        for event in self._record.events()[-last:]:
            print(event.words(), file=file)

    def check_agreement(self) -> None:
        """Raise `RanksDisagree` unless all ranks have the same rates and factors.

        Gradients that are the same on all ranks, as DistributedDataParallel leaves them, give the
        same factors, and nothing is sent; this compares. Call it on every rank.
        """
        super().check_agreement()
        factors = self.factors().double()
        summary = [float(x) for x in (factors.sum(), factors.square().sum(), factors.log1p().sum())]
        try:
            self._agreement.check(summary, self._now())
        except RanksDisagree as error:
            raise RanksDisagree(
                f"at step {self._now()} the ranks' tensors have different factors: give every rank "
                "the same weights and the same reduced gradients"
            ) from error

    # -- what `ReactiveLR` asks for ---------------------------------------------------------------

    def _own_rates(self) -> list[Any]:
        share = self._share()
        rates = self._rule_rates()
        return rates if share == 1.0 else [rate * share for rate in rates]

    def _rule_rates(self) -> list[Any]:
        if self._device is None:
            return list(self._base)
        dtype = self._rates.own.dtype
        return [torch.full((), base, dtype=dtype, device=self._device) for base in self._base]

    def _add_group(self, base: float) -> None:
        self._base.append(base)
        self._full.append(base)
        self._proportions += proportions([base], self._largest)
        self._relate()

    def _relate(self) -> None:
        """Tell the steering what the base rates say."""
        alike = not self.keep_proportions or self.per == "model"
        wanted = [1.0] * len(self._full) if alike else self._proportions
        self._steering.relate(raised(self._full, self.per), wanted)

    def _rebase(self, base: Sequence[float], *, restart: bool) -> None:
        # `rescale` lowers the rate and with it what is wanted; another base rate alone does not.
        if restart:
            for rate in base:
                check_range(self.optimizer, rate)
            usual, now = raised(self._full, self.per), raised(base, self.per)
            all_of_them = zip(self._full, base, usual, now, strict=True)
            self._steering.rescale([old / new * (u / n) for old, new, u, n in all_of_them])
            self._full = list(base)
            self._relate()
        self._base = list(base)

    def _rule_on(self, device: torch.device | None, dtype: torch.dtype) -> Any:
        return self._rule

    def _own_state(self) -> dict[str, Any]:
        self._steering.meet(self._groups())
        return {
            "config": dataclasses.asdict(self._steering.config),
            "per": self.per,
            "schedule": self.schedule,
            "begin": self._begin,
            "height": self._height,
            "base": list(self._base),
            "full": list(self._full),
            "keep_proportions": self.keep_proportions,
            "largest": self._largest,
            "proportions": list(self._proportions),
            "alone": self._alone,
            "stride": self._stride,
            "steering": self._steering.to_state(),
        }

    def _check_own(self, name: str, state: Any) -> None:
        steered_state.check(name, state)

    def _restore_own(self, state: dict[str, Any]) -> None:
        if state["per"] != self.per:
            raise InvalidState(
                f"state_dict is of per={state['per']!r}, this scheduler of per={self.per!r}: "
                "construct it with the same"
            )
        self._steering.meet(self._groups())
        self._base, self._full = (list(map(float, state[key])) for key in ("base", "full"))
        self.keep_proportions = bool(state["keep_proportions"])
        self._largest = float(state["largest"])
        self._proportions = list(map(float, state["proportions"]))
        self._relate()
        self._steering.restore(state["steering"])
        self._steering.config = UpdateRatioConfig(**state["config"])
        self.schedule = state["schedule"]
        self._begin, self._height = int(state["begin"]), float(state["height"])
        self._alone, self._stride = int(state["alone"]), int(state["stride"])


def _ramped(height: float, step: int, length: int) -> float:
    return height * (step + 1) / (length + 1) if step < length else height


class _Unhearing:
    """Stands where `ReactiveLR` has a rule that hears losses: there is nothing to tell."""

    def before(self) -> tuple[float, int, int]:
        """Return no reference and no counts."""
        return math.nan, 0, 0

    def restart(self) -> None:
        """Keep the factors: they are the tensors', not the schedule's."""
