"""LearnedLR for torch: the update-ratio rule, corrected by a policy that was learned."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import OutsideTrainingWarning
from ratewise.rules import learned, schema
from ratewise.rules.checks import check_count
from ratewise.rules.learned import Policy
from ratewise.rules.ratio_law import Outlook
from ratewise.rules.schema import Check
from ratewise.rules.update_ratio import EVERY, UpdateRatioConfig
from ratewise.schedulers import resume
from ratewise.schedulers.metric_lr import MetricLR
from ratewise.schedulers.policy_state import PolicyState
from ratewise.schedulers.ratio_control import RatioControl
from ratewise.schedulers.ratio_lr import RATIO_PLACES, RATIO_TABLE, RatioLR
from ratewise.schedulers.resume import Place, at


class LearnedLR(RatioLR, MetricLR):
    r"""A schedule that was learned from other trainings, from any starting rate.

    Each tensor's ||dp|| / ||p|| follows :math:`c \cdot \mathrm{ratio} \cdot \mathrm{schedule}`, as
    under `UpdateRatioLR`; every few steps a small network looks at how the training goes
    (`ratewise.rules.features`) and sets the correction c, within bounds, for all tensors. Where it
    sees what it never saw while it was trained, c is 1 and a warning says so.

    Call ``step(loss)`` after each optimizer step. It decides the same from the same losses; ranks
    that train together decide on the mean of theirs. A loss that is not finite is left out. Where
    it is called less often, say once an epoch, the rate moves at each optimizer step nevertheless,
    and the policy decides at the first call in each of its windows.

    Args:
        optimizer: any torch optimizer, all parameters on one device.
        policy: a name of `ratewise.rules.learned.names()`, a file of `ratewise learn`, or a
            `Policy`.
        total_steps: length of the run in optimizer steps, >= 1. Beyond it the final rate holds. A
            length that the policy has not seen gets a warning here: the rule decides alone then.
        steps_per_epoch: optimizer steps in a pass over the data; the anchor and the policy take
            account of it. None is not known, and the integrations fill it in.
        batch_size: rows (pictures, sentences, windows of a text) in an optimizer step, over all
            ranks and micro-batches; the policy takes account of it. None is not known, as before.
        pretrained: the weights were trained before, as under `UpdateRatioLR`.
        ratio: the anchor's relative displacement at the schedule's full height, in (0, 1], which
            the policy corrects; None is the policy's, for the run's length.
        missing: ``"raise"`` or ``"hold"``: what a bare ``step()`` does before any loss came.
        keep_proportions: groups move in proportion to their rates, as under `UpdateRatioLR`.
        groups: indices of the parameter groups to steer and schedule; None is all.
        sync: ``"mean"`` over the ranks' losses, ``"rank0"``, or None.
        process_group: of `torch.distributed`.

    Raises:
        UnknownName: no such policy.
        CorruptPolicy: its file is damaged, or for other features.
        InvalidArgument, WrongType: a setting outside its range; parameters as at `UpdateRatioLR`.

    Sources: Xu et al. 2019 (arXiv 1909.09712); Subramanian et al. 2023 (ICLR Tiny Papers);
    `ratewise.rules.learned` lists what differs.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.full((4, 4), 0.5))
    >>> optimizer = torch.optim.SGD([weight], lr=1000.0)
    >>> scheduler = LearnedLR(optimizer, total_steps=100)
    >>> for _ in range(20):
    ...     optimizer.zero_grad()
    ...     loss = weight.square().sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> bool(weight.norm() < 2), 0.1 < float(scheduler.correction()) < 10
    (True, True)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        policy: str | Path | Policy = "default",
        total_steps: int,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        pretrained: bool = False,
        ratio: float | None = None,
        missing: str = "raise",
        keep_proportions: bool = True,
        groups: Sequence[int] | None = None,
        sync: str | None = "mean",
        process_group: Any = None,
    ) -> None:
        check_count("total_steps", total_steps, 1)
        if batch_size is not None:
            check_count("batch_size", batch_size, 1)
        self._batch_size = batch_size
        self.policy = learned.load(policy)
        self._policy = PolicyState(self.policy)
        self._told = False
        known = Outlook(total_steps, steps_per_epoch, pretrained)
        self._control = RatioControl(
            optimizer,
            UpdateRatioConfig(ratio=self._know(known, ratio)),
            per="tensor",
            measure_every=EVERY,
            keep_proportions=keep_proportions,
            policy=self._policy,
        )
        super().__init__(
            optimizer,
            self._control,
            schedule=self.policy.schedule,
            total_steps=total_steps,
            decide_every=self.policy.interval(total_steps),
            missing=missing,
            groups=groups,
            sync=sync,
            process_group=process_group,
        )
        self._tell_length(total_steps)

    _places: ClassVar[Mapping[str, Place]] = {
        **MetricLR._places,
        **RATIO_PLACES,
        "batch_size": at("batch_size"),
    }
    _table: ClassVar[Mapping[str, Check]] = {
        **MetricLR._table,
        **RATIO_TABLE,
        "batch_size": schema.optional(schema.count(1)),
    }

    def _ratio_of(self, run: Outlook) -> float:
        return self.policy.law.ratio(run)

    def _follow(self, ours: dict[str, Any], saved: dict[str, Any], changed: set[str]) -> None:
        super()._follow(ours, saved, changed)
        if "total_steps" in changed and not resume.annealing(saved):
            ours["decide_every"] = self.policy.interval(ours["length"])

    def _to_state(self) -> dict[str, Any]:
        return {**super()._to_state(), "batch_size": self._batch_size}

    def _restore(self, ours: dict[str, Any]) -> None:
        super()._restore(ours)
        self._batch_size = ours["batch_size"]

    @property
    def batch_size(self) -> int | None:
        """Rows in an optimizer step; None where they are not known."""
        return self._batch_size

    def hear_data(self, steps_per_epoch: int, batch_size: int | None = None) -> None:
        """Take from a trainer, before the first step, what was not given.

        Args:
            steps_per_epoch: of the optimizer, in a pass over the data.
            batch_size: rows in one of them, or None.
        """
        super().hear_data(steps_per_epoch)
        if self._batch_size is None and self.last_epoch <= 0 and batch_size:
            self._batch_size = batch_size

    def correction(self) -> Tensor:
        """Return what the anchor's ratio is multiplied by now, (), a copy: nothing is read."""
        return self._policy.value.clone()

    @property
    def on_nonfinite(self) -> str:
        """What is done with a loss that is not finite."""
        return "skip"

    def _decision_device(self, loss: Tensor) -> torch.device | None:
        # Decisions are made where the weights are, and a loss from there is never waited for.
        if loss.device.type != "cpu":
            return self._control.displacement.parameters.device
        return super()._decision_device(loss)

    def _decide(self, metric: Any) -> None:
        """Let the policy decide on the window's mean loss; its last word stands once annealing."""
        if self._annealing:
            self._write()
            return
        known = Outlook(
            self.horizon or 1, self._steps_per_epoch, self._pretrained, self._batch_size
        )
        self._policy.decide(metric, self.last_epoch, known)
        if not self._told and self._control.displacement.parameters.device.type == "cpu":
            self._tell_outside()
        self._write()

    def _tell_length(self, total_steps: int) -> None:
        if not self.policy.knows(total_steps):
            self._told = True
            least, most = self.policy.lengths
            warnings.warn(
                f"LearnedLR's policy {self.policy.name!r} was learned on {least:,} to {most:,} "
                f"steps; at {total_steps:,} the rule decides alone, as under UpdateRatioLR",
                OutsideTrainingWarning,
                stacklevel=3,
            )

    def _tell_outside(self) -> None:
        odd = self._policy.outside()
        if odd and self.last_epoch <= (self.horizon or 0):
            self._told = True
            warnings.warn(
                f"step {self.last_epoch}: {'; '.join(odd)} while policy {self.policy.name!r} was "
                "trained: its anchor, the update-ratio rule, decides there; explain() counts how "
                "often",
                OutsideTrainingWarning,
                stacklevel=5,
            )
