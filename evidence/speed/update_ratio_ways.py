"""Other ways to steer each tensor than the one that is released, for their cost to be compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from ratewise.schedulers import displacement


def factors(count: int) -> list[float]:
    """Return factors as such models have them: one is 1, the others lie below."""
    return [1.0, *torch.linspace(0.2, 0.95, max(0, count - 1)).tolist()][:count]


class Split:
    """For the length of a step, each tensor is a parameter group with a rate of its own."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.measuring = True
        self.factors: dict[int, float] = {}
        optimizer.register_step_pre_hook(self.before)
        optimizer.register_step_post_hook(self.after)

    @torch.no_grad()
    def before(self, optimizer: Optimizer, *_: Any) -> None:
        """Put the groups of one tensor in place, and copy the weights if they are measured."""
        self.groups = optimizer.param_groups
        self.params = [p for group in self.groups for p in group["params"]]
        if self.measuring:
            self.copies = [p.detach().clone() for p in self.params]
        optimizer.param_groups = [
            {**group, "params": [p], "lr": group["lr"] * self.factors.get(id(p), 1.0)}
            for group in self.groups
            for p in group["params"]
        ]

    @torch.no_grad()
    def after(self, optimizer: Optimizer, *_: Any) -> None:
        """Take them away again."""
        optimizer.param_groups = self.groups
        if self.measuring:
            now = [p.detach() for p in self.params]
            parts = displacement._differences(now, self.copies)
            moved = torch.stack([norm for _, some in parts for norm in displacement._norms(some)])
            unit = (moved / torch.stack(torch._foreach_norm(self.copies))).tolist()
            for p, value in zip(self.params, unit, strict=True):
                self.factors[id(p)] = min(1.0, 0.01 / max(value, 1e-9))
            del self.copies


class Rebuilt:
    """No copy between measurements: AdamW's state says afterwards where a step went.

    With m and v corrected for their bias, s the rate and w the decay, the weights before the step
    were (p + s m / (sqrt(v) + eps)) / (1 - s w); what is kept is f p + (1 - f) times those.
    """

    def __init__(self, optimizer: AdamW) -> None:
        self.factors: list[float] = []
        optimizer.register_step_post_hook(self.after)

    @torch.no_grad()
    def after(self, optimizer: Optimizer, *_: Any) -> None:
        """Scale the step."""
        for group in optimizer.param_groups:
            params = group["params"]
            self.factors = self.factors or factors(len(params))
            states = [optimizer.state[p] for p in params]
            (one, two), rate, steps = group["betas"], group["lr"], float(states[0]["step"])
            kept = 1.0 - rate * group["weight_decay"]
            roots = torch._foreach_sqrt([state["exp_avg_sq"] for state in states])
            torch._foreach_mul_(roots, (1.0 - two**steps) ** -0.5)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_mul_(params, [f + (1.0 - f) / kept for f in self.factors])
            back = [(1.0 - f) * rate / (1.0 - one**steps) / kept for f in self.factors]
            torch._foreach_addcdiv_(params, [state["exp_avg"] for state in states], roots, back)


class Stretched:
    """No copy: weights are divided by their factor before a step, and multiplied after it."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.factors: list[float] = []
        optimizer.register_step_pre_hook(self.before)
        optimizer.register_step_post_hook(self.after)

    @torch.no_grad()
    def before(self, optimizer: Optimizer, *_: Any) -> None:
        """Stretch the weights."""
        params = self._params(optimizer)
        self.factors = self.factors or factors(len(params))
        torch._foreach_mul_(params, [1.0 / f for f in self.factors])

    @torch.no_grad()
    def after(self, optimizer: Optimizer, *_: Any) -> None:
        """Bring them back."""
        torch._foreach_mul_(self._params(optimizer), self.factors)

    def _params(self, optimizer: Optimizer) -> list[Tensor]:
        return [p for group in optimizer.param_groups for p in group["params"]]


def keep_copies(ours: displacement.Displacement) -> Callable[[], None]:
    """Return what copies weights to the same place at every step."""
    copies: list[Tensor] = []

    def copy() -> None:
        now = [p.detach() for p in ours.parameters.params]
        if not copies:
            copies.extend(map(torch.empty_like, now))
        torch._foreach_copy_(copies, now)
        ours._copies = copies

    return copy
