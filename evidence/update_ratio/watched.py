"""A stack of runs that also says how a gradient lies to other last steps than the whole one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ratewise.rules import online
from ratewise.rules import update_ratio as rule
from ratewise.simulate import UpdateRatio
from ratewise.simulate.rule import Signals
from ratewise.simulate.stack import Movement, Stack, Steer, Tensors
from ratewise.simulate.task import Data

#: Of what gradient with what last step the cosine is.
WHOLE, FREE = "whole", "momentum-free"
APART, APART_FREE = "held-out, whole", "held-out, momentum-free"
KINDS = (WHOLE, FREE, APART, APART_FREE)


class Watched:
    """A stack that fills `Tensors.again` with a row for each of `KINDS`.

    The momentum-free step is what each tensor's factor makes of the negative gradient alone.

    Args:
        stack: of the runs.
        apart: the next batch of rows that are not trained on, each part [runs, rows, ...].
        every: at one step in so many such a batch is looked at, from `online.FIRST` on.
    """

    def __init__(self, stack: Stack, apart: Callable[[], Data], every: int) -> None:
        self._stack, self._draw, self._every = stack, apart, every
        self._steps = 0
        self._last: dict[str, Tensor] = {}
        self._apart: Tensor | None = None  # the gradient of rows held out, now
        self.cosines = torch.zeros(len(KINDS), stack.runs, dtype=torch.float64)

    def __getattr__(self, name: str) -> Any:
        """Return what the stack has."""
        return getattr(self._stack, name)

    def losses(self, batch: Data) -> Tensor:
        """Return the losses of a batch; before them rows held out are looked at, where due."""
        self._apart = None
        if online.looks(self._steps, self._every):
            self._apart = self._stack.backward(self._stack.losses(self._draw())).clone()
        return self._stack.losses(batch)

    def backward(self, losses: Tensor) -> Tensor:
        """Return the gradient of every run, and see how it lies to the last steps."""
        gradient = self._stack.backward(losses)
        nothing = torch.zeros_like(gradient)
        other = nothing if self._apart is None else self._apart
        pairs = [(g, kind) for g in (gradient, other) for kind in (WHOLE, FREE)]
        found = [_cosine(g, self._last.get(kind, nothing)) for g, kind in pairs]
        self.cosines = torch.stack(found)
        self._gradient = gradient.clone()
        return gradient

    def step(self, lr: Tensor, steer: Steer | None = None, keep: bool = False) -> Movement:
        """Move every run, and keep where it went."""
        assert steer is not None
        before, factors = self._stack.flat.detach().clone(), []

        def watched(measure: Callable[[], Tensors]) -> Tensor:
            factors.append(steer(lambda: measure()._replace(again=self.cosines)))
            return factors[-1]

        moved = self._stack.step(lr, watched)
        self._last[WHOLE] = self._stack.flat.detach() - before
        pieces = zip(self._stack._split(self._gradient), factors[0], strict=True)
        self._last[FREE] = torch.cat([-f.to(g.dtype)[:, None] * g for g, f in pieces], 1)
        self._steps += 1
        return moved


def _cosine(gradient: Tensor, step: Tensor) -> Tensor:
    """Return the cosine between -g and a step, [runs]; 0 where there is none."""
    norms = [torch.linalg.vector_norm(x, dim=1).double() for x in (gradient, step)]
    along = torch.linalg.vecdot(gradient, step).double()
    return torch.where(norms[0] * norms[1] > 0, -along / (norms[0] * norms[1]), 0.0)


@dataclass(frozen=True)
class Corrected:
    """The update-ratio rule, its ratios multiplied by e^c; c follows a cosine of `Watched`.

    Args:
        rule: what gives the ratios.
        by: one of `KINDS`; None corrects nothing.
        gain: what is added to c of a cosine.
        target: the cosine at which c stays.
        every: one step in so many is judged, and counts for all of them.
        random: the sign of what is added is drawn, the negative control.
    """

    rule: UpdateRatio
    by: str | None = None
    gain: float = online.GAIN
    target: float = 0.0
    every: int = 1
    random: bool = False

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return the schedule's first value, and the rule's state with c."""
        scale, inner = self.rule.start(zero, steps)
        return scale, (inner, zero)

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Return the schedule's value after this step."""
        scale, inner = self.rule.update(state[0], seen)
        return scale, (inner, state[1])

    def _judges(self, step: int) -> bool:
        return self.by is not None and online.looks(step - 1, self.every)

    def measures(self, step: int) -> bool:
        """Return whether the step, from 1, is measured, or judges the one before."""
        return self.rule.measures(step) or self._judges(step)

    def factors(self, state: Any) -> Tensor:
        """Return the factors between measurements."""
        return self.rule.factors(state[0]) * torch.exp(state[1])

    def steer(
        self, state: Any, seen: Tensors, step: int, lr: Tensor, scale: Tensor
    ) -> tuple[Tensor, Any]:
        """Return the factors for this step, and the state."""
        inner, c = state
        if self._judges(step):
            c = self._moved(c, seen.again[KINDS.index(self.by or WHOLE)], step)
        if rule.measures(step - 1, self.rule.every):
            applied, inner = self.rule.steer(inner, seen, step, lr, scale)
        else:
            applied = self.rule.factors(inner)
        return applied * torch.exp(c), (inner, c)

    def _moved(self, c: Tensor, cosine: Tensor, step: int) -> Tensor:
        more = (cosine - self.target) * (self.gain / online.GAIN)
        if self.random:
            drawn = torch.Generator().manual_seed(step)
            more = more * (2 * torch.randint(2, more.shape, generator=drawn).to(more) - 1)
        return online.corrected(c, more, every=self.every, xp=torch)
