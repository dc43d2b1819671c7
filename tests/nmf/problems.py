"""Random factorisation problems in stacks, and the projected-gradient run that the tests watch.

Everything is a torch tensor whose leading axes are problems, so that hundreds run at once. The run
is written out from its definition; of the bounds it knows the limit alone that a test hands it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from ratewise.nmf import stability

Tensor = torch.Tensor

#: (n, m, k) of each kind of problem.
SHAPES = {
    "dense": (20, 15, 4),
    "exact": (16, 12, 3),
    "noisy": (24, 18, 5),
    "sparse": (30, 20, 6),
    "ten": (25, 20, 10),
    "unbalanced": (15, 20, 4),
    "small-start": (18, 12, 3),
    "large-start": (12, 14, 4),
    "rank-one": (10, 8, 1),
}
#: Of each kind.
PROBLEMS = 25


@dataclass(frozen=True)
class Stack:
    """Problems of one shape: V [..., n, m] and W [..., n, k], H [..., k, m], where they stand."""

    v: Tensor
    w: Tensor
    h: Tensor

    def loss(self) -> Tensor:
        return (self.w @ self.h - self.v).square().sum((-2, -1)) / 2

    def block(self, name: str) -> Tensor:
        return self.w if name == "w" else self.h

    def gradient(self, name: str) -> Tensor:
        residual = self.w @ self.h - self.v
        return residual @ self.h.mT if name == "w" else self.w.mT @ residual

    def gram(self, name: str) -> Tensor:
        return self.h @ self.h.mT if name == "w" else self.w.mT @ self.w

    def stepped(self, name: str, eta: Tensor, gradient: Tensor) -> Stack:
        """Return the stack after one projected step of one block."""
        new = (self.block(name) - eta[..., None, None] * gradient).clamp(min=0)
        return replace(self, **{name: new})

    def balanced(self) -> Stack:
        w, h = stability.balance(self.w, self.h)
        return replace(self, w=w, h=h)

    def capped(self, cap: Any) -> Stack:
        w, h = stability.clip_to_norm_caps(self.w, self.h, cap)
        return replace(self, w=w, h=h)

    def repeated(self, times: int) -> Stack:
        """Return `times` copies along a new first axis."""
        return Stack(*(x.expand(times, *x.shape).clone() for x in (self.v, self.w, self.h)))


def stack(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> Stack:
    """Return `PROBLEMS` problems of one kind, each with its own V and start."""
    generator = torch.Generator().manual_seed(1000 * seed + list(SHAPES).index(name))
    n, m, k = SHAPES[name]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(PROBLEMS, *shape, generator=generator, dtype=torch.float64)

    v = uniform(n, k) @ uniform(k, m)
    if name == "dense":
        v = uniform(n, m)
    elif name == "noisy":
        v = v + uniform(n, m)
    elif name == "sparse":
        v = uniform(n, m) * (uniform(n, m) < 0.15)
    scale = (v.mean((-2, -1), keepdim=True) / k).sqrt() * 2
    w, h = uniform(n, k) * scale, uniform(k, m) * scale
    if name == "unbalanced":
        w, h = w * 10 ** (4 * uniform(1, k) - 2), h * 10 ** (4 * uniform(k, 1) - 2)
    elif name in ("small-start", "large-start"):
        times = 0.1 if name == "small-start" else 10.0
        w, h = w * times, h * times
    return Stack(*(x.to(dtype) for x in (v, w, h)))


def start(v: Any, k: int, seed: int = 0) -> Stack:
    """Return one problem, of these data, with a random start."""
    v = torch.as_tensor(v, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    scale = (v.mean() / k).sqrt()
    w, h = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).abs() * scale
        for shape in ((v.shape[0], k), (k, v.shape[1]))
    )
    return Stack(v, w, h)


def norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=(-2, -1))


@dataclass(frozen=True)
class Step:
    """One projected step of one block."""

    before: Stack
    after: Stack
    block: str
    eta: Tensor
    noise: Tensor

    def projected_gradient(self) -> Tensor:
        """Return |G_eta| of the gradient without noise; 0 where the block does not count."""
        ideal = self.before.stepped(self.block, self.eta, self.before.gradient(self.block))
        moved = norm(ideal.block(self.block) - self.before.block(self.block))
        return torch.where(self.eta > 0, moved / self.eta, 0.0)


Limit = Callable[[Stack, str], Tensor]
Noise = Callable[[Stack, str, Tensor], Tensor]
Keep = Callable[[Stack], Stack]


def block_limit(now: Stack, block: str) -> Tensor:
    return stability.block_bound(now.gram(block))


def frozen(first: Stack) -> Limit:
    """Return the limits of the start, for ever."""
    limits = {block: block_limit(first, block) for block in "wh"}
    return lambda _, block: limits[block]


def steps(
    now: Stack,
    c: Any,
    times: int,
    *,
    limit: Limit = block_limit,
    noise: Noise | None = None,
    keep: Keep | None = None,
) -> Iterator[Step]:
    """Yield steps of W and H in turn, each at c / 2 limits and followed by `keep`."""
    for _ in range(times):
        for block in "wh":
            gradient = now.gradient(block)
            eta = stability.rate(limit(now, block), c)
            xi = torch.zeros_like(gradient) if noise is None else noise(now, block, eta)
            after = now.stepped(block, eta, gradient + xi)
            after = after if keep is None else keep(after)
            yield Step(now, after, block, eta, xi)
            now = after


def losses(now: Stack, c: Any, times: int, **how: Any) -> Tensor:
    """Return the losses, [1 + 2 times, ...], of `steps`."""
    return torch.stack([now.loss(), *(s.after.loss() for s in steps(now, c, times, **how))])


def directions(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise of norm 1 in a uniformly random direction."""
    xi = torch.randn(like.shape, generator=generator, dtype=like.dtype)
    return xi / norm(xi)[..., None, None]


def relative_noise(size: float, generator: torch.Generator, *, projected: bool = False) -> Noise:
    """Return isotropic noise of `size` times the norm of the current (projected) gradient."""

    def noise(now: Stack, block: str, eta: Tensor) -> Tensor:
        gradient = now.gradient(block)
        length = norm(gradient)
        if projected:
            length = Step(now, now, block, eta, gradient).projected_gradient()
        return directions(gradient, generator) * (size * length)[..., None, None]

    return noise


def fixed_noise(first: Stack, size: float, generator: torch.Generator) -> Noise:
    """Return isotropic noise of `size` times the norm of the first gradient, for ever."""
    sigma = {block: size * norm(first.gradient(block)) for block in "wh"}
    return lambda now, block, _: (
        directions(now.block(block), generator) * sigma[block][..., None, None]
    )


def never_rises(f: Tensor) -> Tensor:
    """Return which runs' losses never rise, but for rounding; NaN counts as a rise."""
    return (f[1:] <= f[:-1] * (1 + 1e-10) + 1e-18 * f[0]).all(0)


def candidates(values: list[float], first: Stack) -> tuple[Tensor, Stack]:
    """Return values of c along a new first axis, and the stack once for each."""
    c = torch.tensor(values, dtype=first.v.dtype)
    return c.reshape(-1, *[1] * (first.v.ndim - 2)), first.repeated(len(values))
