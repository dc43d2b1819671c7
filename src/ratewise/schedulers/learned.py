"""LearnedLR for torch: the update-ratio rule, corrected by a policy that was learned."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor
from torch.optim import Optimizer

from ratewise.errors import OutsideTrainingWarning
from ratewise.rules import learned
from ratewise.rules.checks import check_count
from ratewise.rules.learned import Policy
from ratewise.rules.update_ratio import EVERY
from ratewise.schedulers.correction import Correction
from ratewise.schedulers.metric import on_device
from ratewise.schedulers.rates import accumulator
from ratewise.schedulers.steered_lr import SteeredLR


class LearnedLR(SteeredLR):
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
        total_steps: length of the run in optimizer steps, >= 1. Beyond it the final rate holds.
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
    >>> scheduler = LearnedLR(optimizer, total_steps=20)
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
        missing: str = "raise",
        keep_proportions: bool = True,
        groups: Sequence[int] | None = None,
        sync: str | None = "mean",
        process_group: Any = None,
    ) -> None:
        check_count("total_steps", total_steps, 1)
        self.policy = learned.load(policy)
        self._correction = Correction(self.policy)
        self._told = False
        super().__init__(
            optimizer,
            self.policy.config(total_steps),
            per="tensor",
            schedule=self.policy.schedule,
            total_steps=total_steps,
            every=self.policy.interval(total_steps),
            measure=EVERY,
            keep_proportions=keep_proportions,
            correction=self._correction,
            missing=missing,
            groups=groups,
            sync=sync,
            process_group=process_group,
        )

    def _follow_length(self, ours: dict[str, Any]) -> None:
        ours["every"] = self.policy.interval(ours["length"])
        ours["rule"]["config"]["ratio"] = self.policy.config(ours["length"]).ratio

    def correction(self) -> Tensor:
        """Return what the anchor's ratio is multiplied by now, (), a copy: nothing is read."""
        return self._correction.value.clone()

    @property
    def on_nonfinite(self) -> str:
        """What is done with a loss that is not finite."""
        return "skip"

    def _metric(self, loss: Any) -> Any:
        # Decisions are made where the weights are, and a loss from there is never waited for.
        device = self._steering.steered.device
        if isinstance(loss, Tensor) and loss.device.type != "cpu":
            return on_device(loss, device, accumulator(device))
        return super()._metric(loss)

    def _act(self, metric: Any) -> None:
        """Let the policy decide on the window's mean loss."""
        horizon = self.horizon or 1
        self._correction.decide(metric, self.last_epoch, horizon)
        if not self._told and self._steering.steered.device.type == "cpu":
            self._tell_outside()
        self._write()

    def _tell_outside(self) -> None:
        odd = self._correction.outside()
        if odd and self.last_epoch <= (self.horizon or 0):
            self._told = True
            warnings.warn(
                f"step {self.last_epoch}: {'; '.join(odd)} while policy {self.policy.name!r} was "
                "trained: its anchor, the update-ratio rule, decides there; explain() counts how "
                "often",
                OutsideTrainingWarning,
                stacklevel=5,
            )

    def explain(self, last: int = 10, file: TextIO | None = None) -> None:
        """Print what is wanted and why, and which tensors' factors lie furthest out.

        Args:
            last: how many tensors to name.
            file: where to; None is standard output. Waits for a device.
        """
        super().explain(last, file)
        print(*self._correction.words(), sep="\n", file=file)
