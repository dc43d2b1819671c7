"""Where runs on the capped set end: without noise, under noise with rates that fall, or not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tests.nmf.problems import Stack, Tensor, directions, norm, stack, steps

from ratewise.nmf import stability

pytestmark = pytest.mark.numerics


def began(kind: str) -> tuple[Stack, Tensor]:
    """Problems at the best multiple of their starts, balanced, and the caps that hold them."""
    now = stack(kind)
    product = now.w @ now.h
    best = (product * now.v).sum((-2, -1)) / product.square().sum((-2, -1))
    now = replace(now, w=now.w * best[:, None, None]).balanced()
    cap = stability.norm_cap(norm(now.v), now.loss())
    return now.capped(cap), cap


# Theorem 12: without noise


@pytest.mark.parametrize("kind", ["dense", "noisy", "rank-one", "small-start"])
def test_squares_of_projected_gradients_have_a_finite_sum(kind: str) -> None:
    first, cap = began(kind)
    assert (first.loss() < norm(first.v) ** 2 / 2).all()
    k = first.w.shape[-1]

    def squares(c: float) -> Tensor:
        now, found = first, []
        for _ in range(150):
            for step in steps(now, c, 1, keep=lambda now: now.capped(cap)):
                moved = norm(step.after.block(step.block) - step.before.block(step.block))
                found.append((moved / step.eta) ** 2)
            now = step.after.balanced()
        return torch.stack(found)

    for c in (0.5, 1.0, 1.9):
        most = k * cap**2 * first.loss() / (c * (1 - c / 2))
        found = squares(c)
        assert (found.sum(0) <= most).all()
        assert (found[-20:].mean(0) < 0.1 * found[:20].mean(0)).all()
    wild = squares(2.6)
    assert (wild[-20:].mean(0) > 0.1 * wild[:20].mean(0)).any(), "any c would do"


def test_a_stationary_point_may_be_a_saddle() -> None:
    one = torch.eye(2, dtype=torch.float64)
    flat = Stack(one, one * torch.tensor([1.0, 0.0]), one * torch.tensor([1.0, 0.0]))
    for block in "wh":
        assert (flat.stepped(block, torch.tensor(0.5), flat.gradient(block)).w == flat.w).all()
        assert (flat.stepped(block, torch.tensor(0.5), flat.gradient(block)).h == flat.h).all()
    side = torch.diag(torch.tensor([1.0, 1e-3], dtype=torch.float64))
    assert replace(flat, w=side, h=side).loss() < flat.loss()


# Theorem 9's factor


def test_the_root_of_k_holds_where_all_is_balanced_and_alive() -> None:
    for kind in ("noisy", "ten", "unbalanced"):
        first, cap = began(kind)
        k = first.w.shape[-1]
        most = math.sqrt(k) * cap**2
        now = first
        for step in steps(now, 1.0, 40, keep=lambda now: now.balanced()):
            for block in "wh":
                alive = norm(step.after.block(block)) > 0
                largest = torch.linalg.eigvalsh(step.after.gram(block))[..., -1]
                assert (largest <= most)[alive].all()
        # of dead sides, and of all of the capped set, it is false
        h = torch.zeros_like(first.h)
        h[..., 0] = cap[:, None]
        dead = replace(first, w=torch.zeros_like(first.w), h=h)
        largest = torch.linalg.eigvalsh(dead.gram("w"))[..., -1]
        assert (largest > 0.99 * k * cap**2).all()
        assert (largest > most).all()
        assert (dead.capped(cap).h <= h * (1 + 1e-12)).all()


# Theorem 13: with noise


def ended(first: Stack, cap: Tensor, rates: Tensor) -> Tensor:
    """|G|^2 at the end of pairs over that of the start, [ways, problems].

    The noise is half of the first gradient's size. G is taken at 1 / L of the start without noise,
    over both blocks, and is the mean over the last 50 pairs.

    Args:
        first: where all begin.
        cap: [problems].
        rates: in 1 / L of the start, [ways, pairs].
    """
    generator = torch.Generator().manual_seed(0)
    most = torch.stack([stability.block_bound(first.gram(block)) for block in "wh"]).amin(0) / 2
    sigma = {block: 0.5 * norm(first.gradient(block)) for block in "wh"}

    def square(now: Stack) -> Tensor:
        squares = []
        for block in "wh":
            after = now.stepped(block, most, now.gradient(block)).capped(cap)
            squares.append((norm(after.block(block) - now.block(block)) / most) ** 2)
        return squares[0] + squares[1]

    now, found = first.repeated(len(rates)), []
    for number, share in enumerate(rates.T):
        for block in "wh":
            gradient = now.gradient(block)
            xi = directions(gradient, generator) * sigma[block][:, None, None]
            now = now.stepped(block, share[:, None] * most, gradient + xi).capped(cap)
        if number >= rates.shape[1] - 50:
            found.append(square(now))
    return torch.stack(found).mean(0) / square(first)


@pytest.mark.parametrize("kind", ["exact", "noisy"])
def test_rates_of_robbins_and_monro_bring_the_gradient_to_nothing(kind: str) -> None:
    first, cap = began(kind)
    t = torch.arange(1000, dtype=torch.float64)
    falling = (1 + t / 20) ** -0.75
    looking = falling * (1 + t % 3) / 2  # any multiple between two constants
    constant, summable = torch.ones_like(t), 0.3 * (1 + t) ** -2.0
    found = ended(first, cap, torch.stack([falling, looking, constant, summable]))
    for ours in found[:2]:
        assert (ours < 0.2 * found[2]).all(), "a constant rate would do"
        assert (ours < 0.5 * found[3]).all(), "a sum that ends would do"
        assert ours.mean() < 0.03
    assert (found[0] < 0.6 * ended(first, cap, falling[None, :100])[0]).all()


class Envelope:
    """phi(z) = min over the capped set of f(y) + L |y - z|^2, for one problem."""

    def __init__(self, v: Tensor, cap: float, k: int) -> None:
        self.v, self.cap = v, torch.tensor(cap)
        self.lipschitz = 3 * k * cap**2 + float(norm(v))

    def nearest(self, z: Stack) -> Stack:
        """The point where it is reached: 300 projected steps, each of which takes a third away."""
        now, rate = z, 1 / (3 * self.lipschitz)
        for _ in range(300):
            w, h = (
                now.block(block)
                - rate
                * (now.gradient(block) + 2 * self.lipschitz * (now.block(block) - z.block(block)))
                for block in "wh"
            )
            now = replace(now, w=w, h=h).capped(self.cap)
        return now

    def __call__(self, z: Stack) -> tuple[Tensor, Tensor]:
        """Return phi and q^2 = |z - nearest|^2."""
        near = self.nearest(z)
        square = norm(near.w - z.w) ** 2 + norm(near.h - z.h) ** 2
        return near.loss() + self.lipschitz * square, square


def test_a_pair_lowers_the_envelope_in_expectation_as_promised() -> None:
    """Near an active constraint, where noise lifts f itself at every rate."""
    k, cap, sigma = 2, 2.0, 1.0
    h = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    v = torch.tensor([[0.9, 0.0]], dtype=torch.float64)
    z = Stack(v, torch.tensor([[1.0, 0.0]], dtype=torch.float64), h)
    envelope = Envelope(v, cap, k)
    before, square = envelope(z)
    steepest = float(norm(v)) * 3 * cap * k + 3 * cap**3 * k**1.5
    across = 2 * cap * math.sqrt(2 * k)
    size = envelope.lipschitz
    second = 2 * size * (steepest**2 + sigma**2) + 2 * size**2 * across * (steepest + sigma)
    for eta in (1e-8, 1e-6, 1e-4):
        ends = []
        for sign in (1.0, -1.0):
            xi = sign * torch.tensor([[0.0, sigma]], dtype=torch.float64)
            after = z.stepped("w", torch.tensor(eta), z.gradient("w") + xi)
            after = after.capped(torch.tensor(cap))
            after = after.stepped("h", torch.tensor(eta), after.gradient("h"))
            ends.append(after.capped(torch.tensor(cap)))
        mean = sum(envelope(end)[0] for end in ends) / 2
        assert mean <= before - 2 * size**2 * eta * square + second * eta**2 + 1e-15
        assert mean < before or eta > 1e-5
        assert sum(end.loss() for end in ends) / 2 > z.loss() + 0.02 * eta, "f itself would do"


def test_the_envelope_is_where_the_gradient_vanishes() -> None:
    """q is 0 at a stationary point, and the inner product of the proof is at least L q^2."""
    first, cap = began("exact")
    for number in range(3):
        one = Stack(first.v[number], first.w[number], first.h[number])
        envelope = Envelope(one.v, float(cap[number]), 3)
        now = one
        for _ in range(3):
            near = envelope.nearest(now)
            square = norm(near.w - now.w) ** 2 + norm(near.h - now.h) ** 2
            inner = sum(
                (now.gradient(block) * (now.block(block) - near.block(block))).sum()
                for block in "wh"
            )
            assert inner >= envelope.lipschitz * square > 0
            now = near
    exact = Stack(one.w @ one.h, one.w, one.h)
    assert Envelope(exact.v, float(cap[2]), 3)(exact)[1] < 1e-24
