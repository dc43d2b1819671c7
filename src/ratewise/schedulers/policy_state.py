"""A policy's state during a training, on the parameters' device; no step reads it from there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ratewise.errors import InvalidState
from ratewise.rules import features, learned
from ratewise.rules.features import FEATURES, FeatureState
from ratewise.rules.learned import LearnedState, Policy
from ratewise.rules.network import MARGIN
from ratewise.rules.ratio_law import Outlook

_LARGEST = torch.finfo(torch.float32).max


class PolicyState:
    """The factor by which a policy corrects the wanted ratio, and what it has observed.

    Args:
        policy: what decides.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.to(torch.zeros(()))

    def to(self, zero: Tensor) -> None:
        """Begin, or go on, on the device of `zero`."""
        self._network = self.policy.on(zero, torch)
        if not hasattr(self, "state"):
            self.state, self.seen = learned.init(zero, xp=torch), zero.expand(len(FEATURES))
        elif self.seen.device != zero.device:
            inner = FeatureState(*(x.to(zero.device) for x in self.state.features))
            rest = (x.to(zero.device) for x in self.state[1:])
            self.state, self.seen = LearnedState(inner, *rest), self.seen.to(zero.device)

    @property
    def value(self) -> Tensor:
        """What the wanted ratio is multiplied by, ()."""
        return self.state.correction

    def look(
        self, *, gradient: Tensor, along: Tensor, moved: Tensor, before: Tensor, applied: Tensor
    ) -> None:
        """Take in a measured step; the arguments are those of `features.of_tensors`."""
        step = features.of_tensors(
            gradient=gradient, along=along, moved=moved, before=before, applied=applied, xp=torch
        )
        looked = features.look(self.state.features, **step, xp=torch)
        self.state = self.state._replace(features=looked)

    def decide(self, loss: float | Tensor, step: int, run: Outlook) -> None:
        """Correct the ratio for the next window.

        Args:
            loss: the mean over the window that ends.
            step: optimizer steps made.
            run: what is known of it; its length is.
        """
        zero = self.state.outside
        if not isinstance(loss, Tensor):  # a float64 may be too large for the state's type
            loss = torch.full_like(zero, loss if abs(loss) < _LARGEST else math.nan)
        loss = loss.to(zero)
        self.state, self.seen = learned.decide(
            self.state, loss, self._network, step=step, run=run, xp=torch
        )

    def outside(self) -> list[str]:
        """Return the features that were out of the policy's range at the last decision.

        Waits for a device.
        """
        low, high = self._network.low, self._network.high
        odd = ((self.seen < low - MARGIN) | (self.seen > high + MARGIN)).tolist()
        values = zip(FEATURES, self.seen.tolist(), low.tolist(), high.tolist(), odd, strict=True)
        return [f"{n} is {x:.3g}, seen {a:.3g} to {b:.3g}" for n, x, a, b, out in values if out]

    def words(self) -> list[str]:
        """Return the policy's features and correction as lines of text; waits for a device."""
        seen = [f"{name} {x:.2f}" for name, x in zip(FEATURES, self.seen.tolist(), strict=True)]
        lines = [f"policy {self.policy.name}: the wanted ratio is multiplied by {self.value:.3g}"]
        lines += ["  " + ", ".join(seen[i : i + 4]) for i in range(0, len(seen), 4)]
        if count := int(self.state.outside):
            lines.append(f"  {count} decisions fell back to the anchor: see OutsideTrainingWarning")
        return lines

    # -- checkpoints ----------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """Return plain data: waits for a device."""
        return {
            "policy": self.policy.digest,
            "features": {k: x.tolist() for k, x in self.state.features._asdict().items()},
            "correction": float(self.state.correction),
            "outside": float(self.state.outside),
            "seen": self.seen.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `to_state` returned.

        Raises:
            InvalidState: it is of another policy.
        """
        if state["policy"] != self.policy.digest:
            raise InvalidState(
                f"state_dict is of another policy than {self.policy.name!r}: "
                "construct the scheduler with the one it was saved under"
            )
        zero = self.state.outside
        inner = FeatureState(**{k: zero.new_tensor(x) for k, x in state["features"].items()})
        if inner.means.shape != (3,) or len(state["seen"]) != len(FEATURES):
            raise InvalidState("state_dict['ratewise'] is damaged: numbers of features differ")
        self.state = LearnedState(
            inner, zero.new_tensor(state["correction"]), zero.new_tensor(state["outside"])
        )
        self.seen = zero.new_tensor(state["seen"])
