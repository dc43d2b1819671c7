"""Random factorisations: mixed sizes, ranks, sparsity, conditioning and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ratewise.learning.noisy_descent import Problems
from ratewise.nmf.observation import LENGTHS


@dataclass(frozen=True)
class Shape:
    """The sizes that the problems of a stack have in common.

    Args:
        n, m: rows and columns.
        k: components that are fitted.
        steps: the length of a run.
        share: of rows and columns that a gradient sees; 1 is all, with isotropic noise instead.
    """

    n: int
    m: int
    k: int
    steps: int
    share: float = 1.0


def shape(rng: np.random.Generator, wide: bool = False) -> Shape:
    """Return a shape: 20 to 80 rows and columns, 2 to 10 components, 40 to 300 steps.

    Half of them have isotropic noise, half samples of 5 to 50% of the rows and columns.

    Args:
        rng: source of all random numbers.
        wide: up to 200 rows and columns.
    """

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    most = 200 if wide else 80
    n, m, k = round(between(20, most)), round(between(20, most)), int(rng.integers(2, 11))
    steps = 20 * round(between(*LENGTHS) / 20)
    share = between(0.05, 0.5) if rng.random() < 0.5 else 1.0
    return Shape(n, m, k, steps, share)


def draw(shape: Shape, count: int, rng: np.random.Generator, wide: bool = False) -> Problems:
    """Return a stack of random problems.

    V = A B + noise of the data, with A and B of exponential entries of which up to 70% are 0, and
    components of unequal weight; their number is k, half of it or twice. Gradients carry
    isotropic noise, 0.03 to 1 times the norm of the first gradient, or come from samples of rows
    and columns.

    Args:
        shape: of all of them.
        count: how many.
        rng: source of all random numbers.
        wide: as real matrices are: up to 90% of the entries of A and B are 0, and there are up to
            8 k components, so that k of them leave a rest.
    """
    n, m, k = shape.n, shape.m, shape.k
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    ranks = [k, 2 * k, 4 * k, 8 * k] if wide else [max(1, k // 2), k, 2 * k]
    most, zeros = max(ranks), 0.9 if wide else 0.7
    rank = torch.tensor(rng.choice(ranks, count))
    alive = (torch.arange(most) < rank[:, None]).float()
    spread = torch.tensor(rng.uniform(0.0, 1.5, count), dtype=torch.float32)[:, None]
    weight = alive * torch.exp(spread * torch.randn(count, most, generator=generator))
    a = _sparse((count, n, most), zeros, rng, generator) * weight[:, None, :]
    b = _sparse((count, most, m), zeros, rng, generator)
    v = a @ b
    mean = v.mean((1, 2), keepdim=True).clamp_min(1e-6)
    dirt = torch.tensor(rng.choice([0.0, 0.03, 0.1, 0.3], count), dtype=torch.float32)
    noise = torch.randn(v.shape, generator=generator)
    v = (v / mean + dirt[:, None, None] * noise).clamp_min(0.0)
    w, h = start(v, k, generator)
    level = torch.tensor(np.exp(rng.uniform(np.log(0.03), 0.0, count)), dtype=torch.float32)
    if shape.share < 1.0:
        level = 0.0 * level
    return Problems(v, w, h, level, shape.share)


def start(v: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return W and H of half-normal entries, scaled as scikit-learn's ``init="random"``."""
    count, n, m = v.shape
    scale = (v.mean((1, 2), keepdim=True) / k).sqrt()
    w = torch.randn(count, n, k, generator=generator, dtype=v.dtype).abs()
    h = torch.randn(count, k, m, generator=generator, dtype=v.dtype).abs()
    return scale * w, scale * h


def _sparse(
    size: tuple[int, ...], zeros: float, rng: np.random.Generator, generator: torch.Generator
) -> Tensor:
    """Return exponential entries, of which a share between 0 and `zeros` is 0."""
    zero = torch.tensor(rng.uniform(0.0, zeros, size[0]), dtype=torch.float32)[:, None, None]
    entries = torch.empty(size).exponential_(generator=generator)
    return entries * (torch.rand(size, generator=generator) >= zero)
