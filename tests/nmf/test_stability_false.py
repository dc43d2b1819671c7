"""What is false: claims that look right, each with numbers that refute it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.nmf.problems import norm, stack

from ratewise.nmf import stability

H = np.array([[1.0, 0.0], [1.0, 1.0]])


def loss(w: np.ndarray, h: np.ndarray, v: np.ndarray) -> float:
    return float(((w @ h - v) ** 2).sum() / 2)


def mean_after(w: np.ndarray, v: np.ndarray, noises: list[np.ndarray], eta: float) -> float:
    """Return the expected loss after a projected step of w, the noises equally likely."""
    gradient = (w @ H - v) @ H.T
    after = [loss(np.maximum(w - eta * (gradient + xi), 0), H, v) for xi in noises]
    return float(np.mean(after))


def test_the_naive_noisy_limit_near_an_active_constraint() -> None:
    w, v = np.array([[1.0, 0.0]]), np.array([[0.9, 0.0]])
    gradient = (w @ H - v) @ H.T
    np.testing.assert_allclose(gradient, [[0.1, 0.1]])
    noises = [np.array([[0.0, 1.0]]), np.array([[0.0, -1.0]])]
    naive = float(stability.noisy_bound(H @ H.T, (gradient**2).sum(), 1.0))
    assert naive == pytest.approx(0.0150, abs=1e-4)
    before = loss(w, H, v)
    for eta in np.geomspace(1e-6, 2 * float(stability.block_bound(H @ H.T)), 40):
        assert mean_after(w, v, noises, eta) > before
    assert mean_after(w, v, noises, naive / 2) / before == pytest.approx(1.056, abs=1e-3)
    # the limit that does hold there makes no promise: sigma is ten times |G_eta| = 0.1
    assert stability.noisy_bound(H @ H.T, 0.01, 1.0, projected=True) == 0


def test_noise_relative_to_the_whole_gradient_at_a_minimum() -> None:
    # A minimum over w >= 0 with gradient (0, 0.5): noise of half of that lifts it at every rate.
    w, h, v = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.5, 0.5]])
    gradient = (w @ h - v) @ h.T
    np.testing.assert_allclose(gradient, [[0.0, 0.5]])
    assert loss(w, h, v) == 0.25
    naive = float(stability.noisy_bound(h @ h.T, 0.25, 0.0625))
    for eta in np.geomspace(1e-3, naive, 20):
        after = [
            loss(np.maximum(w - eta * (gradient + np.array([[xi, 0.0]])), 0), h, v)
            for xi in (0.25, -0.25)
        ]
        assert np.mean(after) > 0.25


def test_a_limit_frozen_at_the_start() -> None:
    # min (w h - 1)^2 / 2 from w = h = 0.1, at c = 0.5 of the first limits, both 2 / 0.01.
    w = h = 0.1
    eta = 0.5 * float(stability.block_bound(np.array([[h * h]]))) / 2
    assert eta == pytest.approx(50.0)
    seen = [(w * h - 1) ** 2 / 2]
    w = max(w - eta * (w * h - 1) * h, 0)
    seen.append((w * h - 1) ** 2 / 2)
    h = max(h - eta * (w * h - 1) * w, 0)
    seen.append((w * h - 1) ** 2 / 2)
    np.testing.assert_allclose(seen, [0.49005, 0.1225125, 1.989e5], rtol=1e-3)
    # recomputed, the same c falls
    fresh = 0.5 * float(stability.block_bound(np.array([[w * w]]))) / 2
    assert (w * (0.1 - fresh * (w * 0.1 - 1) * w) - 1) ** 2 / 2 < seen[1]


def test_the_joint_limit_without_the_residual() -> None:
    w = h = 0.1
    r = abs(w * h - 1)
    seen = []
    for residual in (0.0, r):
        eta = float(stability.joint_bound(w, h, residual)) / 2
        new_w, new_h = w - eta * (w * h - 1) * h, h - eta * (w * h - 1) * w
        seen.append((new_w * new_h - 1) ** 2 / 2)
    np.testing.assert_allclose(seen, [300.19, 0.46156], rtol=1e-3)
    assert seen[1] < r**2 / 2 < seen[0]


def test_the_rates_of_hals_for_all_components_together() -> None:
    # Three equal components, each at 1 / G_jj: the error goes from t to t - 3 t.
    h, v = np.ones((3, 1)), np.array([[2.0]])
    w = np.ones((1, 3))
    gram = h @ h.T
    each = w - ((w @ h - v) @ h.T) / np.diag(gram)
    assert loss(each, h, v) == 4 * loss(w, h, v)
    # one after the other each is safe, and so are the component limits together
    one = w.copy()
    for j in range(3):
        one[:, j] -= ((one @ h - v) @ h.T)[:, j] / gram[j, j]
        assert loss(one, h, v) <= loss(w, h, v)
    eta = stability.rate(stability.component_bound(gram), 1.0)
    assert loss(w - eta * ((w @ h - v) @ h.T), h, v) == pytest.approx(0.0, abs=1e-20)


def test_the_rates_of_hals_together_on_random_problems() -> None:
    now = stack("noisy")
    diagonal = now.gram("w").diagonal(0, -2, -1)
    after = (now.w - now.gradient("w") / diagonal[..., None, :]).clamp(min=0)
    rise = norm(after @ now.h - now.v).square() / 2 / now.loss()
    assert (rise > 1).all()


def test_clipping_to_caps_promises_no_lower_loss_outside_of_them() -> None:
    # An exact fit that is not balanced: w = 4, h = 1 of v = 4, cap = 2.
    w, h, v = np.array([[4.0]]), np.array([[1.0]]), np.array([[4.0]])
    cap = stability.norm_cap(4.0, 0.0)
    assert loss(*stability.clip_to_norm_caps(w, h, cap), v) == 2.0
    assert loss(*stability.clip_to_norm_caps(*stability.balance(w, h), cap), v) == 0.0


def test_nineteen_tenths_with_half_the_gradient_of_noise_and_one_component() -> None:
    # One unknown, no constraint near: f is multiplied by (1 - c)^2 + c^2 / 4 in the mean.
    for c, factor in ((1.5, 0.8125), (1.6, 1.0), (1.9, 1.7125)):
        assert np.mean([(1 - c * (1 + xi)) ** 2 for xi in (0.5, -0.5)]) == pytest.approx(factor)
    limit = stability.noisy_bound(np.ones((1, 1)), 1.0, 0.25)
    assert float(limit) == pytest.approx(1.6)


def test_balance_revives_no_component() -> None:
    # h = 1e-300 alone comes back in one step; balanced, both gradients are 1e-150 of it.
    w, h, v = np.array([[1.0]]), np.array([[1e-300]]), np.array([[1.0]])
    even = stability.balance(w, h)
    assert abs((w.T @ (w @ h - v)).item()) == 1.0
    assert abs((even[0].T @ (even[0] @ even[1] - v)).item()) == pytest.approx(1e-150)


def test_an_infinite_limit_times_a_gradient_of_zero() -> None:
    # Both factors' limits are finite until a long step cuts a whole block to 0.
    h = np.zeros((2, 3))
    limit = stability.block_bound(h @ h.T)
    assert np.isinf(limit)
    with np.errstate(invalid="ignore"):
        assert np.isnan(limit * (np.ones((1, 3)) @ h.T)).all()
    assert stability.rate(limit, 1.9) == 0
    assert torch.isfinite(stability.rate(torch.tensor([1.0, torch.inf]), 1.9)).all()
