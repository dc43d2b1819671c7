"""Stacked noisy factorisations are ordinary ones, and what is seen of them is what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ratewise.learning.noisy_descent import Descent, Problems
from ratewise.learning.random_factorisations import Shape, draw, shape, start
from ratewise.nmf import observation
from ratewise.nmf.learned import MOST
from ratewise.nmf.stability import balance


def problems(count: int = 3, share: float = 1.0, level: float = 0.0, seed: int = 0) -> Problems:
    made = draw(Shape(20, 24, 3, 40, share), count, np.random.default_rng(seed))
    return replace(made, level=torch.full((count,), level))


def test_without_noise_a_stack_makes_the_steps_of_a_literal_twin():
    stack = problems()
    descent = Descent(stack, seed=0)
    for _ in range(5):
        descent.step(torch.full((3,), 0.9))
    for i in range(3):
        v = stack.v[i].double().numpy()
        w, h = balance(stack.w[i].double().numpy(), stack.h[i].double().numpy())
        for _ in range(5):
            w = np.maximum(w - 0.9 / np.linalg.norm(h @ h.T, 2) * (w @ h - v) @ h.T, 0)
            h = np.maximum(h - 0.9 / np.linalg.norm(w.T @ w, 2) * w.T @ (w @ h - v), 0)
            w, h = balance(w, h)
        expected = 0.5 * np.sum((w @ h - v) ** 2)
        assert descent.loss()[i].item() == pytest.approx(expected, rel=0.01)  # lambda certified


def test_copies_of_a_problem_share_its_noise_and_seeds_do_not():
    stack = problems(level=0.5)
    runs = [Descent(stack.repeated(2), seed, copies=2) for seed in (1, 1, 2)]
    for run in runs:
        for _ in range(4):
            run.step(torch.full((6,), 0.5))
    first, again, other = (run.loss().reshape(3, 2) for run in runs)
    assert torch.equal(first[:, 0], first[:, 1])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_noise_has_the_mean_of_the_true_gradient(share: float):
    one = problems(1, share, level=0.4 if share == 1.0 else 0.0)
    many = Descent(one.repeated(4000), seed=3)  # one copy each: noise of their own
    gradient, seen = many._gradient(0)
    residual = many.w @ many.h - one.v
    exact = residual[0] @ many.h[0].T
    spread = gradient.std(0) / 4000**0.5
    assert ((gradient.mean(0) - exact).abs() < 5 * spread + 1e-4 * exact.abs().max()).all()
    loss = residual[0].square().sum() / 2
    assert seen.mean().item() == pytest.approx(loss.item(), rel=0.02)
    if share == 1.0:
        variance = (gradient - exact).square().sum((1, 2)).mean()
        assert variance.item() == pytest.approx(many._sigma[0][0].item() ** 2, rel=0.05)


def test_the_signal_s_share_is_found_without_knowing_the_noise():
    """At a standing point: tiny rates leave the gradient what it was."""
    for level, wanted in ((0.0, 1.0), (1.0, 0.5)):
        descent = Descent(problems(64, level=level), seed=0)
        sums = observation.empty(torch.zeros(64))
        for _ in range(60):
            step = descent.step(torch.full((64,), 1e-3))
            sums = sums.add(step.loss, step.inner, step.square)
        share = float((sums.inner.sum() / sums.square.sum()).item())
        assert share == pytest.approx(wanted, abs=0.12)


def test_whatever_is_asked_for_the_rate_stays_below_the_bound():
    stack = problems()
    wild, most = Descent(stack, 0), Descent(stack, 0)
    for _ in range(10):
        wild.step(torch.full((3,), 1e6))
        most.step(torch.full((3,), MOST))
    assert torch.equal(wild.loss(), most.loss())
    assert (wild.loss() < stack.losses()).all()


def test_shapes_are_mixed_and_drawn_from_their_generator():
    rng = np.random.default_rng(0)
    found = [shape(rng) for _ in range(60)]
    assert {one.share < 1 for one in found} == {True, False}
    assert all(20 <= one.n <= 80 and 20 <= one.m <= 80 and 2 <= one.k <= 10 for one in found)
    assert all(one.steps % 20 == 0 and 40 <= one.steps <= 300 for one in found)
    assert found == [shape(np.random.default_rng(0)), *found[1:]]
    v = torch.rand(2, 6, 5)
    w, h = start(v, 3, torch.Generator().manual_seed(0))
    assert w.shape == (2, 6, 3)
    assert h.shape == (2, 3, 5)
    assert w.min() >= 0
    assert h.min() >= 0


def test_wide_ones_are_larger_and_leave_more_than_their_components_can_fit():
    narrow, wide = ([shape(np.random.default_rng(i), w) for i in range(40)] for w in (False, True))
    assert max(one.n for one in wide) > 80 >= max(one.n for one in narrow)
    one = Shape(60, 50, 3, 40)
    rest = []
    for w in (False, True):
        v = draw(one, 40, np.random.default_rng(0), w).v
        values = torch.linalg.svdvals(v).square()
        rest.append(float((values[:, 3:].sum(1) / values.sum(1)).median()))
    assert rest[1] > 2 * rest[0]


def test_lengths_beyond_those_of_training_count_as_the_nearest():
    sums = observation.empty(np.zeros(1)).add(np.ones(1), np.ones(1), np.ones(1))
    seen = {}
    for total in (20, 40, 100, 300, 5000):
        features, _ = observation.observe(
            observation.init(np.zeros(1)), sums, step=total // 2, total_steps=total, xp=np
        )
        seen[total] = features[observation.FEATURES.index("horizon"), 0]
    assert seen[20] == seen[40] < seen[100] < seen[300] == seen[5000]


def test_features_have_no_scale():
    """A problem a million times as large is seen as the same one."""
    stack = problems(4, level=0.2)
    scaled = Problems(1e3 * stack.v, 1e1 * stack.w, 1e2 * stack.h, stack.level)
    seen = []
    for one in (stack, scaled):
        descent = Descent(one, seed=5)
        state = observation.init(torch.zeros(4))
        for window in range(3):
            sums = observation.empty(torch.zeros(4))
            for _ in range(5):
                step = descent.step(torch.full((4,), 0.7))
                sums = sums.add(step.loss, step.inner, step.square)
            features, state = observation.observe(
                state, sums, step=5 * (window + 1), total_steps=40, xp=torch
            )
        seen.append(features)
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-3, atol=1e-3)
    assert (seen[0].abs() <= observation.MOST).all()


def test_numpy_and_torch_see_the_same():
    rng = np.random.default_rng(0)
    loss, inner, square = rng.random((3, 6))
    found = []
    for xp, make in ((np, np.asarray), (torch, torch.tensor)):
        zero = make(np.zeros(6))
        sums = observation.empty(zero).add(make(loss), make(inner), make(square))
        state = observation.init(zero)
        _, state = observation.observe(state, sums, step=10, total_steps=40, xp=xp)
        sums = observation.empty(zero).add(make(loss / 2), make(inner), make(square))
        seen, _ = observation.observe(state, sums, step=20, total_steps=40, xp=xp)
        found.append(np.asarray(seen))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert found[0][2] == pytest.approx(np.log(0.5) / 3)
