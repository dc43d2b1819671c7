"""PlannedLR: the rates of a plan, which past trainings have suggested, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.optim import Optimizer

from ratewise.errors import InvalidArgument, unknown
from ratewise.rules import schema
from ratewise.rules.checks import check_count
from ratewise.rules.plan import OTHER_LENGTH, Height, Plan, opened
from ratewise.schedulers.base import ScheduledLR
from ratewise.schedulers.rates import initial, own_tensors
from ratewise.schedulers.resume import Place, at
from ratewise.schedulers.source import RateSource

#: Whose highest rate a run has.
PEAKS = ("plan", "optimizer")
_STATE = schema.record(
    {
        "plan": schema.text,
        "peak": schema.choice(*PEAKS),
        "other_length": schema.choice(*OTHER_LENGTH),
        "largest": schema.rate,
        "base": schema.several(schema.rate),
    }
)


class PlannedLR(ScheduledLR):
    """Set the rates that a plan has.

    The group with the largest rate gets the plan's rates as they are, the others theirs in
    proportion; so the optimizer's rates matter only against each other. Time is the optimizer's
    steps: call ``step()`` after each of them. A loss is taken and ignored.

    Args:
        optimizer: any torch optimizer; one group at least has a rate above 0.
        plan: the file, or a `ratewise.rules.plan.Plan`.
        total_steps: the run's length in optimizer steps; None is the plan's. Trainer and
            Lightning, with our callbacks, say it themselves.
        other_length: what to do where that is not the plan's length: ``"refuse"``, ``"stretch"``
            the plan over the run, or ``"keep"`` its steps: what lies beyond the run is left out,
            and after the plan's end its last rate holds.
        peak: ``"plan"``, or ``"optimizer"``: the plan gives the shape alone, and the groups'
            rates are its full height.
        groups: indices of the parameter groups to schedule; None is all.

    Raises:
        CorruptPlan: the file is no plan, or is damaged.
        InvalidArgument: the plan is for another length; all rates are 0.
        UnknownName, WrongType: an argument outside its range.

    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    >>> scheduler = PlannedLR(optimizer, Plan(((1, 0.0), (3, 0.2), (5, 0.0))))
    >>> seen = scheduler.get_last_lr()
    >>> for _ in range(4):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     seen += scheduler.get_last_lr()
    >>> seen
    [0.0, 0.1, 0.2, 0.1, 0.0]
    """

    _places: ClassVar[Mapping[str, Place]] = {
        "total_steps": at("length"),
        "plan": at("rule.plan"),
        "other_length": at("rule.other_length"),
        "peak": at("rule.peak", memory="the saved base rates follow from it"),
    }
    _ends = True

    def __init__(
        self,
        optimizer: Optimizer,
        plan: str | Path | Plan,
        *,
        total_steps: int | None = None,
        other_length: str = "refuse",
        peak: str = "plan",
        groups: Sequence[int] | None = None,
    ) -> None:
        if other_length not in OTHER_LENGTH:
            raise unknown("other_length", other_length, OTHER_LENGTH)
        if peak not in PEAKS:
            raise unknown("peak", peak, PEAKS)
        if total_steps is not None:
            check_count("total_steps", total_steps, 1)
        #: What is followed.
        self.plan = opened(plan)
        self._given |= {"plan"}  # which is rarely given by name
        length = self.plan.total_steps if total_steps is None else total_steps
        self._planned = _PlanRates(self.plan, other_length, peak)
        super().__init__(
            optimizer,
            self._planned,
            schedule=Height(self.plan, length, other_length),
            total_steps=length,
            groups=groups,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._planned = self._source  # type: ignore[assignment]  # a copy has one of its own

    def _take_in_groups(self) -> None:
        own_tensors(self._groups(), self.optimizer.param_groups)
        self._planned.prepare(self._groups()[self._group_count :])
        super()._take_in_groups()
        self._name_base()

    def observe(self, loss: Any) -> None:
        """Take a loss and ignore it: this schedule is fixed."""

    def step(self, loss: Any = None) -> None:
        """Advance to where the optimizer is; call it after each of its steps.

        Args:
            loss: ignored.
        """
        self._prepare_to_write()
        self._meet_new_groups()
        since = self._advance()
        if since:
            self._write_if_due(since)

    def hear_length(self, steps: int) -> None:
        """Take the run's length from a trainer, unless one was given.

        Raises:
            InvalidArgument: the plan is for another one, and `other_length` is "refuse".
        """
        if "total_steps" not in self._given and steps != self.horizon:
            self.schedule = Height(self.plan, steps, self._planned.other_length)
            self._length = self.horizon = steps
            self._write()

    def _restore(self, ours: dict[str, Any]) -> None:
        super()._restore(ours)
        length = self.plan.total_steps if self.horizon is None else self.horizon
        self.schedule = Height(self.plan, length, self._planned.other_length)

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        super()._follow(ours, saved, changed)
        if "plan" in changed and "total_steps" not in self._given:
            ours["length"] = ours["horizon"] = self.horizon


class _PlanRates(RateSource):
    """Base rates: what the groups have at the plan's full height."""

    in_optimizer_steps = True

    def __init__(self, plan: Plan, other_length: str, peak: str) -> None:
        self.plan, self.other_length, self.peak = plan, other_length, peak
        self.base: list[float] = []
        self._largest = 0.0  # of the optimizer's rates, as they were
        self._runtime: tuple[torch.device | None, torch.dtype] = (None, torch.float64)

    def prepare(self, groups: Sequence[dict[str, Any]]) -> None:
        """Bring groups that are to be taken in to the plan's rates, in proportion.

        Raises:
            InvalidArgument: all rates are 0.
        """
        if self.peak != "plan" or not groups:
            return
        rates = [float(initial(group)) for group in groups]
        if not self.base:
            self._largest = max(rates)
        if not 0.0 < self._largest <= schema.LARGEST_RATE:
            raise InvalidArgument(
                f"lr must be above 0 in one parameter group, and finite, got {rates}: pass any "
                "rate, the plan has its own"
            )
        factor = self.plan.peak_lr / self._largest
        for group in groups:
            for name in {"lr", "initial_lr"} & set(group):
                rate = group[name]
                if isinstance(rate, torch.Tensor):
                    rate.mul_(factor)
                else:
                    group[name] = rate * factor

    def rates(self) -> list[Any]:
        """Return the base rates."""
        device, dtype = self._runtime
        if device is None:
            return list(self.base)
        return [torch.full((), base, dtype=dtype, device=device) for base in self.base]

    def add_group(self, base: float) -> None:
        """Take in one more parameter group with this base rate."""
        self.base.append(base)

    def rebase(self, base: Sequence[float], *, restart: bool) -> None:
        """Put other base rates in place."""
        self.base = list(base)

    def move(self, device: torch.device | None, dtype: torch.dtype) -> None:
        """Return base rates there from now on."""
        self._runtime = device, dtype

    def to_state(self) -> dict[str, Any]:
        """Return plain data; of the plan, its digest."""
        return {
            "plan": self.plan.digest,
            "peak": self.peak,
            "other_length": self.other_length,
            "largest": self._largest,
            "base": list(self.base),
        }

    def check(self, name: str, state: Any) -> None:
        """Raise `InvalidState` unless `to_state` might have returned this."""
        _STATE(name, state)

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `to_state` returned; the plan itself is the constructor's."""
        self.peak, self.other_length = state["peak"], state["other_length"]
        self._largest = float(state["largest"])
        self.base = list(map(float, state["base"]))
