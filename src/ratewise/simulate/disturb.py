"""Noise applied to the runs of a stack at each step, in each of three places."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ratewise.simulate.noise import PLACES, Noise, offsets, signals
from ratewise.simulate.order import DataOrder

#: Directions of gradient noise begin anywhere in the first so many entries of one pool.
_DIRECTIONS = 4096


class Disturbance:
    """Applies each run's noise; a place where no run has any costs nothing.

    Args:
        noises: one a run.
        seeds: one a run.
        steps: the runs' length.
        like: the stack, [runs, parameters]: the type, device and width of the gradient's noise.
    """

    def __init__(
        self, noises: Sequence[Noise], seeds: Sequence[int], steps: int, like: Tensor
    ) -> None:
        self._places = {
            place: _Place(noises, seeds, rows, steps, like.device)
            for place in PLACES
            if (rows := [i for i, n in enumerate(noises) if n.place == place and n.kind != "none"])
        }
        self._trend = torch.zeros(len(noises), dtype=torch.float64, device=like.device)
        self._first: Tensor | None = None
        self._last: Tensor | None = None
        if "gradient" in self._places:
            width, rows = like.shape[1], self._places["gradient"].rows.tolist()
            chosen = offsets([seeds[i] for i in rows], steps, _DIRECTIONS)
            self._offset = torch.from_numpy(chosen).to(like.device)
            draw = torch.Generator().manual_seed(width)
            pool = torch.randn(width + _DIRECTIONS, generator=draw)
            self._pool = pool.to(like.device, like.dtype).unfold(0, width, 1)

    def batch(self, step: int, order: DataOrder, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows whose inputs, and those whose targets, the step sees, [runs, batch]."""
        place = self._places.get("data")
        if place is None:
            return rows, rows
        rows, at = rows.clone(), place.at_on_cpu
        rows[at] = place.hold(step, rows[at])
        # an adversary spoils the batch after an improvement, and leaves it alone otherwise
        size = place.random(step, self._trend, adversary=1.0)
        size = torch.where(place.against, size.clamp(min=0.0), size.abs()).cpu()
        chance, stranger = order.strangers()
        targets = rows.clone()
        targets[at] = torch.where(chance[at] < size[:, None], stranger[at], rows[at])
        return rows, targets

    def hear(self, loss: Tensor) -> None:
        """Record the step's loss, [runs], float64: it sets the scale of noise, and the trend."""
        if not self._places:
            return
        if self._first is None or self._last is None:
            self._first = loss.abs()
        else:
            self._trend = torch.nan_to_num(torch.sign(loss - self._last))
        self._last = loss

    def gradient(self, step: int, gradient: Tensor) -> None:
        """Disturb the gradient, [runs, parameters], in place; call `hear` before."""
        place = self._places.get("gradient")
        if place is None:
            return
        own = gradient[place.at]
        norm = torch.linalg.vector_norm(own, dim=1, keepdim=True)
        size = place.random(step, self._trend).to(own.dtype)[:, None]
        direction = self._pool[self._offset[:, step]]
        direction.div_(torch.linalg.vector_norm(direction, dim=1, keepdim=True))
        own = own + torch.where(size != 0, size * norm, 0.0) * direction  # 0 * inf is NaN
        if place.has_against:  # an adversary pushes along the gradient itself
            against = place.random(step, self._trend, adversary=1.0).to(own.dtype)[:, None]
            own = torch.where(place.against[:, None], own * (1.0 - against), own)
        gradient[place.at] = place.hold(step, own)

    def seen(self, step: int, loss: Tensor) -> Tensor:
        """Return the loss as the rules see it, [runs], float64; call `hear` before."""
        place = self._places.get("loss")
        if place is None or self._first is None:
            return loss
        size = place.random(step, self._trend, adversary=1.0)
        own, first = loss[place.at], self._first[place.at]
        noisy = torch.where(size != 0, own + first * size, own)
        seen = loss.clone()
        seen[place.at] = place.hold(step, noisy)
        return seen


class _Place:
    """The runs that have noise in one place, R of them: their signals, and what they last had."""

    def __init__(
        self,
        noises: Sequence[Noise],
        seeds: Sequence[int],
        rows: list[int],
        steps: int,
        device: torch.device,
    ) -> None:
        own = [noises[i] for i in rows]
        self.rows = torch.tensor(rows, device=device)
        whole = len(rows) == len(noises)
        self.at = slice(None) if whole else self.rows
        self.at_on_cpu = slice(None) if whole else self.rows.cpu()  # batches are drawn there
        self.against = torch.tensor([n.kind == "adversarial" for n in own], device=device)
        self._still = torch.tensor([n.kind == "plateau" for n in own], device=device)
        self.has_against = any(n.kind == "adversarial" for n in own)
        self._has_still = any(n.kind == "plateau" for n in own)
        self._size = torch.from_numpy(signals(own, [seeds[i] for i in rows], steps)).to(device)
        self._held: Tensor | None = None

    def random(self, step: int, trend: Tensor, adversary: float = 0.0) -> Tensor:
        """Return s * n[t], [R]; an adversary's has the sign of an improvement, times `adversary`.

        What stands still has no other noise.
        """
        size = torch.where(self._still, 0.0, self._size[:, step])
        if self.has_against:
            size = torch.where(self.against, -adversary * trend[self.at] * size, size)
        return size

    def hold(self, step: int, fresh: Tensor) -> Tensor:
        """Return what is fresh, [R, ...], and where a run stands still what it had last."""
        if not self._has_still:
            return fresh
        if self._held is not None:
            still = self._still & (self._size[:, step] > 0)
            shape = (-1,) + (1,) * (fresh.ndim - 1)
            fresh = torch.where(still.to(fresh.device).view(shape), self._held, fresh)
        self._held = fresh.clone()
        return fresh
