"""Both blocks at once: no step below the limit rises, and the limit is not much too small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.nmf.problems import SHAPES, Stack, candidates, never_rises, norm, stack

from ratewise.nmf import stability

pytestmark = pytest.mark.numerics

Tensor = torch.Tensor
KINDS = list(SHAPES)
#: What the edge is at most, over the limit: on all kinds but sparse noise, and there.
MOST = {"trial": (1.5, 2.0), "trial, slopes": (1.3, 1.7)}


def spectral(x: Tensor) -> Tensor:
    """Return |X|_2."""
    gram = x.mT @ x if x.shape[-1] < x.shape[-2] else x @ x.mT
    return torch.linalg.eigvalsh(gram)[..., -1].sqrt()


def joint_limit(now: Stack, by: str) -> Tensor:
    """Return the limit over the step, the updates bounded in one of the ways of the text."""
    w, h = spectral(now.w), spectral(now.h)
    r = (2 * now.loss()).sqrt() if by.startswith("free") else spectral(now.w @ now.h - now.v)
    slopes = {block: norm(now.gradient(block)) for block in "wh"}
    known: dict[str, Any] = {}
    if by.endswith("slopes"):
        known = {"w_gradient": slopes["w"], "h_gradient": slopes["h"]}
    longest = stability.rate(stability.joint_bound(w, h, r, **known), 2.0)
    updates = {block: longest * slopes[block] for block in "wh"}
    if by.startswith("trial"):
        for block in "wh":
            trial = now.stepped(block, longest, now.gradient(block))
            updates[block] = norm(trial.block(block) - now.block(block))
    return stability.joint_bound(w, h, r, w_update=updates["w"], h_update=updates["h"], **known)


def joint_losses(now: Stack, c: Tensor, times: int, by: str) -> Tensor:
    seen = [now.loss()]
    for _ in range(times):
        eta = stability.rate(joint_limit(now, by), c)
        w = now.stepped("w", eta, now.gradient("w")).w
        h = now.stepped("h", eta, now.gradient("h")).h
        now = replace(now, w=w, h=h).balanced()
        seen.append(now.loss())
    return torch.stack(seen)


@pytest.mark.parametrize("by", ["gradient", "free", "trial, slopes", "free, slopes"])
@pytest.mark.parametrize("kind", KINDS)
def test_joint_steps_below_the_limit_never_rise(kind: str, by: str) -> None:
    c, first = candidates([0.5, 1.0, 1.9, 1.99], stack(kind).balanced())
    assert never_rises(joint_losses(first, c, 30, by)).all()


@pytest.mark.parametrize(
    ("kind", "by"), [*((kind, "trial, slopes") for kind in KINDS), ("sparse", "trial")]
)
def test_the_largest_monotone_joint_step_is_at_most_half_above_the_limit(
    kind: str, by: str
) -> None:
    tried = [1.99, 2.2, 2.5, 2.8, 3.01, 3.2, 3.41, 4.01]
    c, first = candidates(tried, stack(kind).balanced())
    monotone = never_rises(joint_losses(first, c, 100, by))
    edge = (monotone * c).amax(0) / 2
    assert edge.min() >= 0.99
    # On sparse noise half of the constraints are active: along what is left f bends less than
    # in all directions. Without the gradients' norms h w and r are added up though they point
    # elsewhere.
    most, of_sparse = MOST[by]
    assert edge.max() <= (of_sparse if kind == "sparse" else most)
    if by == "trial, slopes":
        assert (edge <= 1.5).double().mean() >= 0.8
        assert not monotone[tried.index(3.41)].any()  # the same check fails on purpose


def bends(now: Stack) -> Tensor:
    """Return the largest eigenvalue of the Hessian of f at (W, H), constraints left aside."""
    of_w = now.w[0].numel()
    basis = torch.eye(of_w + now.h[0].numel(), dtype=now.w.dtype)[:, None]
    a = basis[..., :of_w].reshape(-1, 1, *now.w.shape[1:])
    b = basis[..., of_w:].reshape(-1, 1, *now.h.shape[1:])
    along, residual = a @ now.h + now.w @ b, now.w @ now.h - now.v
    columns = [along @ now.h.mT + residual @ b.mT, now.w.mT @ along + a.mT @ residual]
    return torch.linalg.eigvalsh(torch.cat([x.flatten(2) for x in columns], -1).movedim(0, -1))[
        ..., -1
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_joint_curvature_is_never_below_that_of_the_hessian(kind: str) -> None:
    now = stack(kind).balanced()
    now = Stack(now.v[:8], now.w[:8], now.h[:8])
    for time in range(31):
        if time in (0, 1, 5, 30):
            norms = spectral(now.w), spectral(now.h), spectral(now.w @ now.h - now.v)
            slopes = {f"{block}_gradient": spectral(now.gradient(block)) for block in "wh"}
            true = bends(now)
            for known in ({}, slopes, {"w_gradient": slopes["w_gradient"]}):
                assert (2 / stability.joint_bound(*norms, **known) >= true * (1 - 1e-13)).all()
            most = 2.2 if kind == "small-start" else 1.4
            assert (2 / stability.joint_bound(*norms, **slopes) <= most * true).all()
            if time == 0 and kind in ("dense", "rank-one"):  # fails where they are taken for 0
                nought = {"w_gradient": 0.0, "h_gradient": 0.0}
                assert (2 / stability.joint_bound(*norms, **nought) < true).any()
        eta = stability.rate(joint_limit(now, "trial, slopes"), 1.0)
        now = replace(
            now,
            w=now.stepped("w", eta, now.gradient("w")).w,
            h=now.stepped("h", eta, now.gradient("h")).h,
        ).balanced()


def curvature(w: float, h: float, r: float, d_w: float, d_h: float, a: float, b: float) -> float:
    """Return L over the step, written out from the proof: the better of its two ways."""
    change = a * h + b * w + a * b
    d_w, d_h = d_w + change * h + (r + change) * b, d_h + change * w + (r + change) * a
    w, h, r = w + a, h + b, r + change
    p = h * w
    of_w, of_h = min(w * d_w, p * r), min(h * d_h, p * r)
    squares = [
        np.linalg.eigvalsh([[p * p, one], [one, r * r]])[-1] + 2 * other
        for one, other in ((of_w, of_h), (of_h, of_w))
    ]
    x = min(squares) ** 0.5
    return float(np.linalg.eigvalsh([[h * h, x], [x, w * w]])[-1])


def test_the_joint_limit_is_the_one_of_the_proof() -> None:
    rng = np.random.default_rng(0)
    for w, h, r, of_w, of_h, a, b in 10.0 ** rng.uniform(-1.5, 1.0, (200, 7)):
        d_w, d_h = of_w * r * h, of_h * r * w  # some larger than they can be
        for updates in ((0.0, 0.0), (a, b)):
            moved = dict(zip(("w_update", "h_update"), updates, strict=True))
            limit = stability.joint_bound(w, h, r, w_gradient=d_w, h_gradient=d_h, **moved)
            assert limit == pytest.approx(2 / curvature(w, h, r, d_w, d_h, *updates), rel=1e-12)
            plain = stability.joint_bound(w, h, r, **moved)
            all_of_it = curvature(w, h, r, r * h, r * w, *updates)
            assert plain == pytest.approx(2 / all_of_it, rel=1e-12)
            assert plain <= limit * (1 + 1e-13)
            assert limit <= 1.5 * plain * (1 + 1e-13)


def test_gradients_that_vanish_come_back_over_a_step() -> None:
    # One entry each, an exact fit: after a step of t the residual is 2 t + t^2 and nothing is lost.
    known = {"w_gradient": 0.0, "h_gradient": 0.0}
    for t in (0.0, 0.1, 3.0):
        limit = stability.joint_bound(1.0, 1.0, 0.0, w_update=t, h_update=t)
        by_slopes = stability.joint_bound(1.0, 1.0, 0.0, w_update=t, h_update=t, **known)
        assert by_slopes == pytest.approx(limit, rel=1e-13)
    # sizes whose squares and products do not fit
    for size in (1e-150, 1e150):
        wide = stability.joint_bound(size, size, size, w_gradient=0.0, h_gradient=size)
        assert 0 < wide < np.inf


@pytest.mark.parametrize("kind", KINDS)
def test_joint_steps_at_the_curvature_of_the_point_do_not_rise_either(kind: str) -> None:
    # Measured, not proven: the updates left out, L at the point alone.
    c, now = candidates([1.0, 1.9, 1.98], stack(kind).balanced())
    seen = [now.loss()]
    for _ in range(30):
        residual = spectral(now.w @ now.h - now.v)
        eta = stability.rate(stability.joint_bound(spectral(now.w), spectral(now.h), residual), c)
        w = now.stepped("w", eta, now.gradient("w")).w
        now = replace(now, w=w, h=now.stepped("h", eta, now.gradient("h")).h).balanced()
        seen.append(now.loss())
    assert never_rises(torch.stack(seen)).all()


@pytest.mark.parametrize("cap", [0.003, 0.03, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_with_clipped_updates_the_joint_limit_is_known_before_the_step(
    kind: str, cap: float
) -> None:
    c, now = candidates([0.5, 1.0, 1.9, 1.99], stack(kind).balanced())
    seen = [now.loss()]
    for _ in range(30):
        w, h = spectral(now.w), spectral(now.h)
        r = (2 * now.loss()).sqrt()
        size = {block: cap * now.block(block)[0, 0].numel() ** 0.5 for block in "wh"}
        limit = stability.joint_bound(w, h, r, w_update=size["w"], h_update=size["h"])
        eta = stability.rate(limit, c)
        new = {}
        for block in "wh":
            update = now.stepped(block, eta, now.gradient(block)).block(block) - now.block(block)
            new[block] = now.block(block) + stability.clip_update(update, cap)
        now = replace(now, **new)
        seen.append(now.loss())
    assert never_rises(torch.stack(seen)).all()


def test_the_joint_limit_is_exact_at_an_exact_fit() -> None:
    now = stack("exact")
    w, h = spectral(now.w), spectral(now.h)
    (left, *_, right), (p, *_, q) = torch.linalg.svd(now.w), torch.linalg.svd(now.h)
    a = left[..., :, :1] @ p[..., :, :1].mT  # to move along A, B bends f by h^2 + w^2
    b = right[..., :1, :].mT @ q[..., :1, :]
    a, b = a * h[..., None, None], b * w[..., None, None]
    bend = norm(a @ now.h + now.w @ b).square() / (norm(a).square() + norm(b).square())
    torch.testing.assert_close(2 / stability.joint_bound(w, h, 0.0), bend)


def test_the_joint_limit_shrinks_in_every_argument() -> None:
    base = {"w_norm": 1.0, "h_norm": 2.0, "residual_norm": 0.5, "w_update": 0.1, "h_update": 0.1}
    limit = stability.joint_bound(**base)
    for name, value in base.items():
        assert stability.joint_bound(**{**base, name: value + 0.1}) < limit
