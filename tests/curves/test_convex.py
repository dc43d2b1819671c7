"""The convex bound against its literal sums, and what it says of rates and shapes."""

from __future__ import annotations

import numpy as np
import pytest

from ratewise.curves import scheduled
from ratewise.curves.convex import bound, transfer_lr
from ratewise.errors import InvalidArgument


def literal(eta: np.ndarray, g: np.ndarray, d: float) -> float:
    t, total = len(eta), eta.sum()
    last = sum(
        eta[k] / eta[k + 1 :].sum() * (eta[k:] ** 2 * g[k:] ** 2).sum() / eta[k:].sum()
        for k in range(t - 1)
    )
    return d**2 / (2 * total) + (eta**2 * g**2).sum() / (2 * total) + last / 2


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_the_bound_is_its_literal_sum(name: str):
    rng = np.random.default_rng(0)
    eta, g = scheduled(name, 0.3, 60, warmup_steps=5), rng.uniform(0.5, 2.0, 60)
    end = np.flatnonzero(eta)[-1] + 1
    assert bound(eta, 1.7, g).total == pytest.approx(literal(eta[:end], g[:end], 1.7))


def test_the_factor_makes_the_bound_least():
    eta = scheduled("cosine", 1.0, 200)
    factor = bound(eta).factor
    least = bound(factor * eta).total
    assert least < min(bound(0.9 * factor * eta).total, bound(1.1 * factor * eta).total)


def test_a_fall_to_zero_is_better_than_none():
    best = {name: scheduled(name, 1.0, 500) for name in ("constant", "linear")}
    totals = {name: bound(bound(eta).factor * eta).total for name, eta in best.items()}
    assert totals["linear"] < 0.75 * totals["constant"]


def test_a_rate_carries_over_lengths_and_there_and_back():
    short, long = scheduled("linear", 1.0, 200), scheduled("linear", 1.0, 800)
    carried = transfer_lr(0.02, short, long)
    assert carried == pytest.approx(0.01, rel=0.02)  # T^-1/2
    assert transfer_lr(carried, long, short) == pytest.approx(0.02)
    assert transfer_lr(0.02, 5.0 * short, long) == pytest.approx(carried)  # only shapes count
    assert transfer_lr(0.02, scheduled("constant", 1.0, 200), short) > 0.02


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"rates": np.zeros(3)}, "rates"),
        ({"rates": np.array([1.0, -1.0])}, "rates"),
        ({"rates": np.array([])}, "rates"),
        ({"rates": np.ones(3), "distance": 0.0}, "distance"),
        ({"rates": np.ones(3), "gradient": np.nan}, "gradient"),
    ],
)
def test_what_is_no_schedule_is_refused(wrong: dict, name: str):
    with pytest.raises(InvalidArgument, match=f"^{name} must be"):
        bound(**wrong)
    with pytest.raises(InvalidArgument, match=r"^lr must be"):
        transfer_lr(0.0, np.ones(3), np.ones(3))
