"""Projected gradient descent on many noisy factorisations at once, stacked by shape.

Each problem is min f(W, H) = |W H - V|^2 / 2 over W, H >= 0. A step moves W by c / L_W along a
noisy gradient, cuts at 0, does the same with H, and balances the components' norms, which leaves
W H as it is: without that, noise and projection pump one factor up until any rate is too large
(docs/theory/nmf-stability.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ratewise.nmf.learned import LEAST, MOST
from ratewise.nmf.stability import balance, largest_eigenvalue

#: Shares of the first loss outside of these are no better, or no worse.
FLOOR, CAP = 1e-5, 10.0
#: Power iterations a step, each from the last vector.
_ITERATIONS = 2


@dataclass(frozen=True)
class Problems:
    """A stack of problems of one shape, with their starting points and noise.

    Args:
        v: what is factorised, [N, n, m], >= 0.
        w, h: the start, [N, n, k] and [N, k, m], >= 0.
        level: of isotropic noise: sigma over the norm of the block's first gradient, [N].
        share: of the columns that a gradient of W sees, of the rows for H, in (0, 1]: below 1, the
            noise of mini-batches.
    """

    v: Tensor
    w: Tensor
    h: Tensor
    level: Tensor
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.v)

    def repeated(self, times: int) -> Problems:
        """Return each problem `times` times, copies next to each other."""
        v, w, h, level = (
            x.repeat_interleave(times, 0) for x in (self.v, self.w, self.h, self.level)
        )
        return Problems(v, w, h, level, self.share)

    def losses(self) -> Tensor:
        """Return f at the start, [N]."""
        return _loss(self.w @ self.h - self.v)


@dataclass(frozen=True)
class Step:
    """What was measured at a step; each [N]."""

    loss: Tensor  #: before it, as its gradients saw it
    inner: Tensor  #: sum over blocks of g_t . g_(t-1) / L
    square: Tensor  #: sum over blocks of |g_t|^2 / L
    noise: Tensor  #: sum over blocks of sigma^2 / L; 0 where it is not known


class Descent:
    """Runs that step together; each problem has its own rate and its own noise.

    Args:
        problems: the stack.
        seed: random seed of the noise; runs of one seed and stack see the same noise.
        copies: how many consecutive runs are copies of one problem, and share their noise.
    """

    def __init__(self, problems: Problems, seed: int, copies: int = 1) -> None:
        self.problems, self._copies = problems, copies
        self.w, self.h = balance(problems.w, problems.h)
        self._generator = torch.Generator().manual_seed(seed)  # of the CPU: the same on any device
        self._last: list[Tensor] = []
        self._vectors: list[Tensor | None] = [None, None]
        residual = self.w @ self.h - problems.v
        first = (residual @ self.h.mT, self.w.mT @ residual)
        self._sigma = [problems.level * _norm(g) for g in first]

    def step(self, c: Tensor) -> Step:
        """Move both blocks by c / L, c of shape [N], and return what was measured."""
        c = c.clamp(LEAST, MOST)
        loss = inner = square = noise = torch.zeros_like(c)
        fresh = []
        for block in (0, 1):
            gradient, seen = self._gradient(block)
            curvature = self._curvature(block)
            gain = torch.where(curvature > 0, 1.0 / curvature.clamp_min(1e-30), 0.0)
            if block == 0:
                loss = seen
            square = square + gain * _norm(gradient) ** 2
            if self._last:
                inner = inner + gain * (gradient * self._last[block]).sum((1, 2))
            noise = noise + gain * self._sigma[block] ** 2
            rate = (c * gain)[:, None, None]
            if block == 0:
                self.w = (self.w - rate * gradient).clamp_min_(0.0)
            else:
                self.h = (self.h - rate * gradient).clamp_min_(0.0)
            fresh.append(gradient)
        self._last = fresh
        self.w, self.h = balance(self.w, self.h)
        return Step(loss, inner, square, noise)

    def loss(self) -> Tensor:
        """Return f, [N], without noise."""
        return _loss(self.w @ self.h - self.problems.v)

    def _curvature(self, block: int) -> Tensor:
        gram = self.h @ self.h.mT if block == 0 else self.w.mT @ self.w
        bound, self._vectors[block] = largest_eigenvalue(
            gram, self._vectors[block], iterations=_ITERATIONS
        )
        return bound

    def _gradient(self, block: int) -> tuple[Tensor, Tensor]:
        """Return a noisy gradient of a block, and f as that gradient sees it."""
        v, w, h, share = self.problems.v, self.w, self.h, self.problems.share
        if share < 1.0:
            v, w, h = self._batch(block, v, w, h)
        residual = w @ h - v
        share = residual.shape[2 - block] / self.problems.v.shape[2 - block]
        gradient = (residual @ h.mT if block == 0 else w.mT @ residual) / share
        if self.problems.share == 1.0:
            gradient = gradient + self._drawn(gradient.shape, self._sigma[block])
        return gradient, _loss(residual) / share

    def _batch(self, block: int, v: Tensor, w: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Return a sample of the columns for a gradient of W, of the rows for one of H."""
        total = v.shape[2 - block]
        size = max(1, round(self.problems.share * total))
        drawn = torch.rand(len(v) // self._copies, total, generator=self._generator)
        index = drawn.argsort(-1)[:, :size].repeat_interleave(self._copies, 0).to(v.device)
        if block == 0:
            columns = index[:, None, :]
            return (
                v.gather(2, columns.expand(-1, v.shape[1], -1)),
                w,
                h.gather(2, columns.expand(-1, h.shape[1], -1)),
            )
        rows = index[:, :, None]
        return (
            v.gather(1, rows.expand(-1, -1, v.shape[2])),
            w.gather(1, rows.expand(-1, -1, w.shape[2])),
            h,
        )

    def _drawn(self, shape: torch.Size, sigma: Tensor) -> Tensor:
        """Return noise with E |xi|^2 = sigma^2, the same for copies of a problem."""
        one = (shape[0] // self._copies, *shape[1:])
        noise = torch.randn(one, generator=self._generator, dtype=sigma.dtype)
        noise = noise.to(sigma.device).repeat_interleave(self._copies, 0)
        return noise * (sigma / (shape[1] * shape[2]) ** 0.5)[:, None, None]


def log_share(share: Tensor) -> Tensor:
    """Return ln of final losses over first ones, within FLOOR and CAP; what diverged is at CAP.

    >>> [round(x, 3) for x in log_share(torch.tensor([0.0, 1.0, torch.nan])).tolist()]
    [-11.513, 0.0, 2.303]
    """
    return torch.log(share.nan_to_num(CAP, CAP).clamp(FLOOR, CAP))


def _loss(residual: Tensor) -> Tensor:
    return residual.square().sum((1, 2)) / 2


def _norm(x: Tensor) -> Tensor:
    return x.square().sum((1, 2)).sqrt()
