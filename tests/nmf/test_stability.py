"""Without noise: no step below a limit rises, and the limits are no smaller than they must be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.nmf.problems import (
    PROBLEMS,
    SHAPES,
    Stack,
    block_limit,
    candidates,
    frozen,
    losses,
    never_rises,
    norm,
    stack,
    steps,
)

from ratewise.nmf import stability

pytestmark = pytest.mark.numerics

Tensor = torch.Tensor
KINDS = list(SHAPES)
BELOW = [0.1, 0.5, 1.0, 1.5, 1.9, 1.99]
ABOVE = [2.05, 2.1, 2.2, 2.35, 2.5, 3.0]


def test_there_are_at_least_two_hundred_problems() -> None:
    assert PROBLEMS * len(KINDS) >= 200


# Theorem 1: one block at a time


@pytest.mark.parametrize("keep", [None, Stack.balanced], ids=["as-it-is", "balanced"])
@pytest.mark.parametrize("kind", KINDS)
def test_alternating_steps_below_the_limit_never_rise(kind: str, keep: Any) -> None:
    c, first = candidates(BELOW, stack(kind))
    assert never_rises(losses(first, c, 60, keep=keep)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_monotone_step_is_at_most_a_quarter_above_the_limit(kind: str) -> None:
    tried = [1.99, *ABOVE]
    c, first = candidates(tried, stack(kind).balanced())
    monotone = never_rises(losses(first, c, 100, keep=Stack.balanced))
    edge = (monotone * c).amax(0) / 2
    assert edge.min() >= 0.99
    assert edge.max() <= 1.25
    assert not monotone[tried.index(2.5)].any()  # the same check fails on purpose


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_falls_as_far_as_promised(kind: str) -> None:
    c, first = candidates(BELOW, stack(kind))
    for step in steps(first, c, 20):
        moved = norm(step.after.block(step.block) - step.before.block(step.block))
        curvature = 2 / block_limit(step.before, step.block)
        slope = torch.where(step.eta > 0, 1 / step.eta, 0.0)
        slope = slope - torch.where(step.eta > 0, curvature, 0.0) / 2
        before = step.before.loss()
        promised = before - slope * moved**2
        scale = norm(step.before.v).square() + before
        assert (step.after.loss() <= promised + 1e-12 * scale).all()


def test_the_limit_is_exact_for_every_block() -> None:
    # W* + t v with v the leading eigenvector: the loss is multiplied by (1 - c)^2.
    now = stack("dense")
    vector = torch.linalg.eigh(now.gram("w"))[1][..., -1].abs()
    exact = now.w + 10.0
    now = replace(now, v=exact @ now.h, w=exact + vector[..., None, :])
    for c, rises in ((1.999, False), (2.001, True)):
        eta = c / torch.linalg.eigvalsh(now.gram("w"))[..., -1]
        after = now.stepped("w", eta, now.gradient("w"))
        torch.testing.assert_close(after.loss(), (1 - c) ** 2 * now.loss())
        assert ((after.loss() > now.loss()) == rises).all()


@pytest.mark.parametrize("kind", ["exact", "sparse", "small-start", "rank-one"])
def test_a_limit_frozen_at_the_start_fails_the_same_check(kind: str) -> None:
    first = stack(kind).balanced()
    c, many = candidates([1.0, 1.5, 1.9], first)
    bad = ~never_rises(losses(many, c, 60, limit=frozen(many), keep=Stack.balanced))
    assert bad.any()
    if kind == "small-start":
        assert bad.all()


# Theorem 5: one rate a component


@pytest.mark.parametrize("vector", ["default", "multiplicative", "random"])
@pytest.mark.parametrize("kind", KINDS)
def test_joint_steps_of_all_components_at_their_own_rates_never_rise(
    kind: str, vector: str
) -> None:
    c, now = candidates(BELOW, stack(kind))
    generator = torch.Generator().manual_seed(0)
    seen = [now.loss()]
    for _ in range(40):
        for block in "wh":
            rows = now.w if block == "w" else now.h.mT
            x = {
                "default": None,
                "multiplicative": rows,
                "random": torch.rand(rows.shape, generator=generator, dtype=rows.dtype) + 0.1,
            }[vector]
            limit = stability.component_bound(now.gram(block), x)
            limit = limit if vector != "default" else limit[..., None, :]
            gradient = now.gradient("w") if block == "w" else now.gradient("h").mT
            new = (rows - stability.rate(limit, c[..., None, None]) * gradient).clamp(min=0)
            now = replace(now, **{block: new if block == "w" else new.mT})
            seen.append(now.loss())
    assert never_rises(torch.stack(seen)).all()


def test_half_the_component_limit_at_w_is_the_multiplicative_update() -> None:
    now = stack("noisy")
    eta = stability.rate(stability.component_bound(now.gram("w"), now.w), 1.0)
    by_limit = now.w - eta * now.gradient("w")
    by_lee_and_seung = now.w * (now.v @ now.h.mT) / (now.w @ now.gram("w"))
    torch.testing.assert_close(by_limit, by_lee_and_seung)


def test_the_component_limit_at_the_leading_eigenvector_is_the_block_limit() -> None:
    gram = stack("dense").gram("w")
    vector = torch.linalg.eigh(gram)[1][..., -1].abs()
    block = stability.block_bound(gram, iterations=60)
    limits = stability.component_bound(gram, vector)
    torch.testing.assert_close(limits, block[..., None].expand_as(limits), rtol=5e-4, atol=0)


def test_the_default_component_limit_follows_each_components_scale() -> None:
    gram = stack("dense").gram("w").numpy()
    scale = 10.0 ** np.arange(4)
    scaled = stability.component_bound(gram * scale * scale[:, None])
    np.testing.assert_allclose(scaled * scale**2, stability.component_bound(gram), rtol=1e-12)
