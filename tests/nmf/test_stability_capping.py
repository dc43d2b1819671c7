"""Balance, caps on norms, caps on updates: what they leave as it is, and what they bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.nmf.problems import SHAPES, Stack, candidates, losses, never_rises, norm, stack

from ratewise.nmf import stability

pytestmark = pytest.mark.numerics

KINDS = list(SHAPES)


@pytest.mark.parametrize("kind", KINDS)
def test_balance_evens_the_norms_and_leaves_the_product(kind: str) -> None:
    now = stack(kind)
    even = now.balanced()
    columns = torch.linalg.vector_norm(even.w, dim=-2)
    torch.testing.assert_close(columns, torch.linalg.vector_norm(even.h, dim=-1))
    torch.testing.assert_close(even.w @ even.h, now.w @ now.h)
    torch.testing.assert_close(even.balanced().w, even.w)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1.0, 1e150])
def test_balance_of_tiny_and_huge_factors(size: float) -> None:
    w, h = stability.balance(np.full((3, 2), size), np.full((2, 4), 1 / size))
    np.testing.assert_allclose(w @ h, 2.0, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(w, axis=0), np.linalg.norm(h, axis=1), rtol=1e-12)


def test_balance_leaves_a_component_with_a_dead_side_alone() -> None:
    w = np.array([[0.0, 1.0], [0.0, 2.0]])
    h = np.array([[3.0, 4.0], [0.0, 0.0]])
    for old, new in zip((w, h), stability.balance(w, h), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("kind", KINDS)
def test_no_balanced_pair_below_a_loss_exceeds_the_cap(kind: str) -> None:
    c, first = candidates([0.5, 1.9], stack(kind))
    cap = stability.norm_cap(norm(first.v), first.loss())
    now = first.balanced()
    for block, axis in (("w", -2), ("h", -1)):
        lengths = torch.linalg.vector_norm(now.block(block), dim=axis)
        assert (lengths <= cap[..., None] * (1 + 1e-12)).all()
    clipped = now.capped(cap)
    torch.testing.assert_close(clipped.w @ clipped.h, now.w @ now.h)
    # and so the clip never touches a run that does not rise
    free = losses(first.balanced(), c, 30, keep=Stack.balanced)
    kept = losses(first.balanced(), c, 30, keep=lambda one: one.balanced().capped(cap))
    torch.testing.assert_close(free, kept)


def test_the_cap_is_reached() -> None:
    # V = 0 and one component: |w| |h| = sqrt(2 f).
    w, h = np.array([[3.0], [4.0]]), np.array([[5.0]])
    loss = float(((w @ h) ** 2).sum() / 2)
    even = stability.balance(w, h)
    np.testing.assert_allclose(np.linalg.norm(even[0]), stability.norm_cap(0.0, loss), rtol=1e-14)


def test_clipping_to_caps_is_the_nearest_point() -> None:
    rng = np.random.default_rng(0)
    w, h = rng.standard_normal((300, 6, 3)), rng.standard_normal((300, 3, 5))
    near = stability.clip_to_norm_caps(w, h, 1.2)
    assert (near[0] >= 0).all()
    assert (np.linalg.norm(near[0], axis=-2) <= 1.2 * (1 + 1e-14)).all()
    assert (np.linalg.norm(near[1], axis=-1) <= 1.2 * (1 + 1e-14)).all()
    # p is the projection of x on a convex set if <x - p, z - p> <= 0 for every z of it
    for _ in range(50):
        z = stability.clip_to_norm_caps(
            rng.standard_normal(w.shape), rng.standard_normal(h.shape), 1.2
        )
        for x, p, other in zip((w, h), near, z, strict=True):
            axis = -2 if x is w else -1
            assert (((x - p) * (other - p)).sum(axis) <= 1e-12).all()
    again = stability.clip_to_norm_caps(*near, 1.2)
    np.testing.assert_allclose(again[0], near[0], rtol=1e-14)


def test_the_other_order_is_not_the_nearest_point() -> None:
    x = np.array([[3.0], [-4.0]])
    near, _ = stability.clip_to_norm_caps(x, np.ones((1, 1)), 1.0)
    rescaled_first = np.maximum(x / np.linalg.norm(x), 0)
    assert np.linalg.norm(x - near) < np.linalg.norm(x - rescaled_first)


@pytest.mark.parametrize("kind", KINDS)
def test_one_rate_from_the_caps_is_safe_for_ever(kind: str) -> None:
    # The stability that initialisation and clipping do give: 2 / (k cap^2), computed once.
    first = stack(kind).balanced()
    c, many = candidates([1.0, 1.9], first)
    cap = stability.norm_cap(norm(many.v), many.loss())
    limit = 2 / (SHAPES[kind][2] * cap**2)
    seen = losses(many, c, 80, limit=lambda *_: limit, keep=lambda now: now.capped(cap))
    assert never_rises(seen).all()
    assert (seen[-1] < seen[0]).all()
    for block in "wh":
        assert (limit <= stability.block_bound(first.gram(block)) * (1 + 1e-3)).all()


def test_caps_differ_by_problem() -> None:
    now = stack("dense")
    caps = torch.linspace(0.1, 1.0, len(now.v), dtype=torch.float64)
    capped = now.capped(caps)
    lengths = torch.linalg.vector_norm(capped.w, dim=-2).amax(-1)
    torch.testing.assert_close(lengths, caps)


def test_clip_update_bounds_the_whole_update() -> None:
    rng = np.random.default_rng(0)
    update = rng.standard_normal((4, 7, 3)) * 100
    clipped = stability.clip_update(update, 0.1)
    assert (abs(clipped) <= 0.1).all()
    assert (np.linalg.norm(clipped, axis=(-2, -1)) <= 0.1 * 21**0.5 * (1 + 1e-12)).all()
    each = stability.clip_update(update, np.full((7, 3), 0.2))
    assert abs(each).max() == 0.2


def test_clipping_before_and_after_the_projection_is_the_same() -> None:
    rng = np.random.default_rng(0)
    old, update = rng.random((50, 3)), rng.standard_normal((50, 3))
    before = np.maximum(old + stability.clip_update(update, 0.3), 0)
    after = old + stability.clip_update(np.maximum(old + update, 0) - old, 0.3)
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_float32_stays_float32_and_finite(size: float) -> None:
    w, h = torch.full((2, 3, 2), size), torch.full((2, 2, 4), 1.0)
    for factors in (stability.balance(w, h), stability.clip_to_norm_caps(w, h, 0.5)):
        for x in factors:
            assert x.dtype == torch.float32
            assert torch.isfinite(x).all()
