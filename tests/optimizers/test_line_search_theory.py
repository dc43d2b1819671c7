r"""The convergence rates that are proven for SGD with Armijo's condition, on least squares.

With interpolation (every batch's loss is 0 at w*), convex batch losses :math:`f_i` with curvature
in :math:`[\mu_i, L_i]` and e = w - w*, a step along batch i gives

.. math:: \|e'\|^2 = \|e\|^2 - 2 \eta \langle g, e \rangle + \eta^2 \|g\|^2
          \le \|e\|^2 - 2 \eta (f_i + \tfrac{\mu_i}{2} \|e\|^2) + \tfrac{\eta}{c} f_i
          = (1 - \mu_i \eta) \|e\|^2 - (2 - 1/c) \eta f_i,

by convexity and by Armijo (:math:`c \eta \|g\|^2 \le f_i`). The condition holds for every rate up
to :math:`2 (1 - c) / L_i`, so backing off by :math:`\beta` ends above :math:`\beta` times that, or
at `lr`. With c = 1/2 this is Theorem 1 of Vaswani et al. 2019.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ratewise.optimizers.line_search import StochasticLineSearch

pytestmark = pytest.mark.numerics

BETA = 0.9


class LeastSquares:
    """Batches A_i w = y_i, with loss ||A_i w - y_i||^2 / (2 rows).

    Args:
        batches: how many.
        rows: of each.
        size: of w.
        noise: of y; 0 is interpolation.
    """

    def __init__(self, batches: int, rows: int, size: int, noise: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(0)
        settings = {"generator": generator, "dtype": torch.float64}
        self.a = torch.randn(batches, rows, size, **settings)
        self.y = self.a @ torch.randn(size, **settings)
        self.y += noise * torch.randn(batches, rows, **settings)
        # The solution that gradient steps from 0 lead to: the one of least norm.
        flat = self.a.flatten(0, 1)
        self.best = torch.linalg.pinv(flat) @ self.y.flatten()
        curvatures = torch.linalg.eigvalsh(self.a.mT @ self.a / rows)
        self.largest, self.least = curvatures[:, -1].max().item(), curvatures[:, 0]
        whole = torch.linalg.eigvalsh(flat.T @ flat / len(flat))
        self.least_whole = whole[whole > 1e-9 * whole[-1]][0].item()

    def loss(self, weight: Tensor, batch: int) -> Tensor:
        return (self.a[batch] @ weight - self.y[batch]).square().mean() / 2

    def run(self, steps: int, seed: int, **settings: object) -> tuple[np.ndarray, list[float]]:
        """Return ||w - w*||^2 after 0, 1, ... steps on random batches, and the losses seen."""
        weight = torch.nn.Parameter(torch.zeros(self.a.shape[-1], dtype=torch.float64))
        optimizer = StochasticLineSearch([weight], backtrack=BETA, **settings)
        batches = np.random.default_rng(seed).integers(len(self.a), size=steps)
        distances, losses = [(weight - self.best).square().sum().item()], []
        for batch in batches:
            before = distances[-1]
            optimizer.step(lambda batch=batch: self.loss(weight, batch))
            distances.append((weight - self.best).square().sum().item())
            losses.append(optimizer.last.loss)
            if settings.get("c") == 0.5 and optimizer.last.accepted and not self.noisy:
                bound = 1.0 - self.least[batch].item() * optimizer.last.rate
                assert distances[-1] <= bound * before * (1 + 1e-9) + 1e-28
        return np.array(distances), losses

    @property
    def noisy(self) -> bool:
        return (self.a @ self.best - self.y).abs().max().item() > 1e-9


def fitted_slope(values: np.ndarray) -> tuple[float, float]:
    """Return the slope of log(values) per step, and the correlation."""
    steps = np.arange(len(values))
    return np.polyfit(steps, np.log(values), 1)[0], np.corrcoef(steps, np.log(values))[0, 1]


@pytest.mark.parametrize("lr", [10.0, 0.02], ids=["backing-off", "largest-rate-binds"])
@pytest.mark.parametrize("reset", ["previous", "max", "grow"])
def test_strongly_convex_batches_converge_as_theorem_1_says(reset: str, lr: float) -> None:
    """Each step contracts as proven (`run` asserts it), and so does the mean over runs."""
    task = LeastSquares(batches=6, rows=20, size=5)
    assert task.least.min() > 0
    steps = 40 if lr > 1 else 100
    runs = [
        task.run(steps, seed, c=0.5, lr=lr, reset=reset, steps_per_epoch=6)[0] for seed in range(5)
    ]
    mean = np.mean(runs, axis=0)
    bound = 1.0 - task.least.mean().item() * min(BETA / task.largest, lr)
    assert (mean <= mean[0] * bound ** np.arange(steps + 1) * (1 + 1e-9)).all()
    slope, correlation = fitted_slope(mean[mean > 1e-24])
    assert slope <= np.log(bound)
    # Linear, and of the proven order: not so fast that the bound would say nothing.
    assert slope >= 20 * np.log(bound)
    assert correlation < -0.98


def test_an_over_parameterised_problem_is_interpolated_at_a_linear_rate() -> None:
    """No batch is strongly convex, so c > 1/2 is what the last term of the proof needs."""
    task = LeastSquares(batches=4, rows=3, size=60)
    assert task.least.max() < 1e-9
    c, steps = 0.75, 120
    runs = [task.run(steps, seed, c=c, lr=10.0, reset="max") for seed in range(4)]
    mean = np.mean([distances for distances, _ in runs], axis=0)
    rate = BETA * 2 * (1 - c) / task.largest
    bound = 1.0 - (2 - 1 / c) * rate * task.least_whole / 2
    slope, correlation = fitted_slope(mean)
    assert slope <= np.log(bound) < 0
    assert correlation < -0.95
    for _, losses in runs:
        assert max(losses[-5:]) < 1e-4 * losses[0]


def test_without_interpolation_it_stalls_at_a_distance() -> None:
    """The control: the bound is one of interpolation, and noise breaks it."""
    task = LeastSquares(batches=6, rows=20, size=5, noise=1.0)
    assert task.noisy
    distances, _ = task.run(100, 0, c=0.5, lr=10.0, reset="max")
    bound = 1.0 - task.least.mean().item() * BETA / task.largest
    assert distances[-1] > 1e3 * distances[0] * bound**100 > 0
    assert distances[-40:].min() > 1e-4 * distances[0]


def test_the_same_first_rate_diverges_without_the_search() -> None:
    task = LeastSquares(batches=6, rows=20, size=5)
    weight = torch.zeros(5, dtype=torch.float64)
    for step in range(40):
        batch = step % 6
        gradient = task.a[batch].T @ (task.a[batch] @ weight - task.y[batch]) / 20
        weight = weight - 10.0 * gradient
    assert (weight - task.best).square().sum() > 1e20
    assert task.run(40, 0, c=0.5, lr=10.0)[0][-1] < 1e-3
