"""Functions of known minimum, value 0: the parameters are the point, drawn anew for each run."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ratewise.simulate.families.parts import check_number, check_whole, value
from ratewise.simulate.task import Task

_MOST = 100_000


class Quadratic(nn.Module):
    """f(x) = sum_i l_i x_i^2 / 2, with l_i spaced evenly in the logarithm from 1 to 1/condition.

    Args:
        dim: coordinates of x, which begins at N(0, 1).
        condition: the largest curvature over the smallest; 1 is a sphere.
    """

    curvature: Tensor

    def __init__(self, dim: int, condition: float) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.randn(dim))
        spread = torch.logspace(0, -math.log10(condition), dim, dtype=torch.float64)
        self.register_buffer("curvature", spread.to(self.x.dtype))

    def forward(self) -> Tensor:
        """Return the value, a scalar; least at x = 0."""
        return 0.5 * (self.curvature * self.x.square()).sum()


class Rosenbrock(nn.Module):
    """f(x) = sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2 (Rosenbrock 1960; De Jong 1975, F2).

    Args:
        dim: coordinates of x, which begins uniform in De Jong's [-2.048, 2.048].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.empty(dim).uniform_(-2.048, 2.048))

    def forward(self) -> Tensor:
        """Return the value, a scalar; least at x = 1."""
        here, after = self.x[:-1], self.x[1:]
        return (100 * (after - here.square()).square() + (1 - here).square()).sum()


class Rastrigin(nn.Module):
    """f(x) = 10 n + sum_i (x_i^2 - 10 cos 2 pi x_i) (Rastrigin 1974; Muehlenbein et al. 1991).

    Written with 1 - cos 2a = 2 sin^2 a, which loses no digits near the minimum.

    Args:
        dim: coordinates of x, which begins uniform in [-5.12, 5.12].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.empty(dim).uniform_(-5.12, 5.12))

    def forward(self) -> Tensor:
        """Return the value, a scalar; least at x = 0."""
        return (self.x.square() + 20 * torch.sin(math.pi * self.x).square()).sum()


class Ackley(nn.Module):
    """f(x) = -20 exp(-r / 5) - exp(mean_i cos 2 pi x_i) + 20 + e, r^2 = mean_i x_i^2.

    Ackley (1987, p. 13), in n dimensions as Baeck (1996, p. 142) gives it. Written with expm1 and
    1 - cos 2a = 2 sin^2 a. r has a kink at 0, where its gradient is taken to be 0.

    Args:
        dim: coordinates of x, which begins uniform in [-5, 5].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.empty(dim).uniform_(-5.0, 5.0))

    def forward(self) -> Tensor:
        """Return the value, a scalar; least at x = 0."""
        square = self.x.square().mean()
        least = square == 0  # false for NaN, which shall stay NaN
        r = torch.where(least, 1.0, square).sqrt() * ~least
        waves = -2 * torch.sin(math.pi * self.x).square().mean()  # mean cos - 1
        return -20 * torch.expm1(-0.2 * r) - math.e * torch.expm1(waves)


def quadratic(*, condition: Any = 100, dim: Any = 20) -> Task:
    """Return the task of minimising a quadratic of a given condition number."""
    check_whole("dim", dim, 1, _MOST)
    check_number("condition", condition, 1, 1e12)
    model = functools.partial(Quadratic, dim, condition)
    return Task(f"quadratic-{condition:g}", model, value)


def rosenbrock(*, dim: Any = 10) -> Task:
    """Return the task of minimising Rosenbrock's function."""
    return _function("rosenbrock", Rosenbrock, dim, least=2)


def rastrigin(*, dim: Any = 10) -> Task:
    """Return the task of minimising Rastrigin's function."""
    return _function("rastrigin", Rastrigin, dim)


def ackley(*, dim: Any = 10) -> Task:
    """Return the task of minimising Ackley's function."""
    return _function("ackley", Ackley, dim)


def _function(name: str, module: Callable[[int], nn.Module], dim: Any, least: int = 1) -> Task:
    check_whole("dim", dim, least, _MOST)
    return Task(name, functools.partial(module, dim), value)
