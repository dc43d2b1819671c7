"""What to run next: a few runs find the best of curves that trainings have, cliffs among them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from ratewise.curves.advice import FURTHEST, Decision, Prior, Tried, decide, fitted, recommend

Loss = Callable[[float], float]


def bowl(best: float, curvature: float = 0.2, cliff: float = math.inf) -> Loss:
    """A parabola in ln loss that flattens out far from its minimum, and diverges at a cliff."""

    def loss(value: float) -> float:
        if value >= cliff:
            return math.inf
        square = 0.5 * curvature * math.log(value / best) ** 2
        return 2.0 * math.exp(square / (1 + 0.3 * square))

    return loss


def followed(loss: Loss, prior: Prior, budget: int = 12, **more: float) -> list[Tried]:
    """Return the runs that are made until nothing more is proposed."""
    tried: list[Tried] = []
    while len(tried) < budget:
        found = decide(tried, prior, **more)
        if found.value is None:
            break
        if tried:
            values = [one.value for one in tried]
            assert min(values) / FURTHEST <= found.value * 1.001
            assert found.value <= max(values) * FURTHEST * 1.001
        tried.append(Tried(found.value, loss(found.value), found.seed))
    return tried


@pytest.mark.parametrize("off", [1 / 30, 1 / 8, 1 / 3, 0.8, 1.0, 1.3, 3.0, 8.0, 30.0])
@pytest.mark.parametrize("curvature", [0.05, 0.2, 1.0])
def test_from_any_centre_the_minimum_is_found(off: float, curvature: float):
    loss, prior = bowl(0.01, curvature), Prior(0.01 * off)
    tried = followed(loss, prior)
    assert len(tried) <= 10
    best = recommend(tried, prior)
    assert math.log(loss(best) / loss(0.01)) <= 0.005


def test_three_runs_around_a_good_centre_are_enough_and_a_bad_one_takes_more():
    prior = Prior(0.011)
    assert len(followed(bowl(0.01), prior)) in (3, 4)
    assert len(followed(bowl(0.01), Prior(0.1))) > 4
    first = [one.value for one in followed(bowl(0.01), prior)][:3]
    assert first == [0.011, 0.0055, 0.022]


@pytest.mark.parametrize("cliff", [0.008, 0.011, 0.015, 0.021, 0.05])
def test_at_the_edge_of_stability_a_second_seed_is_asked_for(cliff: float):
    loss = bowl(0.02, cliff=cliff)
    tried = followed(loss, Prior(0.01))
    best = min(tried, key=lambda one: one.loss)
    if any(math.isinf(one.loss) for one in tried):
        assert len([one for one in tried if one.value == best.value]) >= 2
    assert recommend(tried, Prior(0.01)) < cliff


def test_with_one_seed_at_the_edge_the_lower_neighbour_is_recommended():
    tried = [Tried(0.005, 2.09), Tried(0.01, 2.0), Tried(0.02, math.inf)]
    assert recommend(tried, Prior(0.01)) == 0.005
    worse = [Tried(0.005, 3.0), *tried[1:]]
    assert recommend(worse, Prior(0.01)) == pytest.approx(0.01 / 2**0.5, rel=1e-3)
    found = decide(tried, Prior(0.01))
    assert (found.value, found.seed) == (0.01, 1)
    stable = [*tried, Tried(0.01, 2.0, 1)]
    assert recommend(stable, Prior(0.01)) > 0.005
    assert decide(stable, Prior(0.01)).value is None
    assert "two seeds" in decide(stable, Prior(0.01)).reason
    gone = [*tried, Tried(0.01, math.inf, 1)]
    assert decide(gone, Prior(0.01)).value == 0.0025


def test_nothing_above_what_was_run_is_recommended():
    tried = [Tried(x, bowl(1.0)(x)) for x in (0.005, 0.01, 0.02, 0.04)]
    assert decide(tried, Prior(0.01)).value == 0.08
    assert recommend(tried, Prior(0.01)) == 0.04


def test_where_everything_diverged_it_goes_down():
    tried = followed(bowl(1e-4, cliff=1e-3), Prior(0.1))
    assert recommend(tried, Prior(0.1)) < 1e-3
    assert decide([Tried(0.1, math.inf)], Prior(0.1)).value == pytest.approx(0.1 / FURTHEST, 1e-3)
    assert recommend([Tried(0.1, math.inf)], Prior(0.1)) == pytest.approx(0.1 / FURTHEST, 1e-3)


def test_it_stops_where_the_gain_is_below_what_was_asked_and_says_so():
    tried = [Tried(x, bowl(0.0105)(x)) for x in (0.005, 0.01, 0.02)]
    found = decide(tried, Prior(0.01), min_gain=0.005)
    assert found.value is None
    assert "below the 0.5% that was asked for" in found.reason
    assert found.gain < 0.005
    flat = [Tried(x, bowl(0.007, 1.0)(x)) for x in (0.005, 0.01, 0.02)]
    again = decide(flat, Prior(0.01), min_gain=0.005)
    assert again.value == pytest.approx(0.007, rel=0.1)
    assert decide(flat, Prior(0.01), min_gain=0.2).value is None


def test_where_past_tasks_say_the_curvature_two_runs_do():
    known = Prior(0.012, spread=0.3, curvature=0.2, curvature_spread=0.05, tasks=8)
    tried = followed(bowl(0.01), known)
    assert len(tried) == 2
    assert bowl(0.01)(recommend(tried, known)) <= 2.0 * 1.002
    assert len(followed(bowl(0.01), Prior(0.012))) > 2  # the control: without past tasks


def test_a_wrong_centre_of_past_tasks_is_left():
    known = Prior(0.1, spread=0.3, curvature=0.2, curvature_spread=0.05, tasks=8)
    loss = bowl(0.01)
    tried = followed(loss, known)
    assert loss(recommend(tried, known)) <= 2.0 * 1.01


def test_runs_side_by_side_are_the_opening_and_then_one_waits():
    prior = Prior(0.01)
    values: list[float] = []
    while (found := decide([], prior, under_way=values)).value is not None:
        values.append(found.value)
    assert values == [0.01, 0.005, 0.02]
    assert found.waits
    one = [Tried(0.01, 2.0)]
    assert isinstance(decide(one, prior, under_way=[0.005]), Decision)
    assert decide(one, prior, under_way=[0.005]).value == 0.02
    assert decide(one, prior, under_way=[0.005, 0.02]).waits


def test_noise_between_seeds_costs_little():
    rng, lost = np.random.default_rng(0), []
    for _ in range(100):
        true = bowl(0.01 * math.exp(0.7 * rng.normal()), 0.3)
        tried = followed(lambda x, f=true: f(x) * math.exp(0.01 * rng.normal()), Prior(0.01), 4)
        lost.append(math.log(true(recommend(tried, Prior(0.01))) / 2.0))
    assert np.mean(lost) < 0.01
    assert max(lost) < 0.15


def test_the_fit_is_the_parabola_through_three_runs_where_they_are_far_apart_in_loss():
    x = np.log(np.array([0.5, 1.0, 2.0]))
    y = 0.4 * (x - 0.3) ** 2
    tried = [Tried(float(np.exp(a)), float(np.exp(b))) for a, b in zip(x, y, strict=True)]
    found = fitted(tried, Prior(1.0))
    assert found.minimum == pytest.approx(0.3, abs=0.02)
    assert found.curvature == pytest.approx(0.8, rel=0.1)
