"""The search for a rate, on plain functions: Armijo, Goldstein, the bound, the floor, `reset`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from ratewise.errors import InvalidArgument, UnknownName
from ratewise.optimizers.line_search_rate import LineSearchConfig, first_trial, search


def algorithm_1(phi: Callable[[float], float], slope: float, start: float, c: float, beta: float):
    """The paper's Algorithm 1, inner loop, literally."""
    rate = start / beta
    while True:
        rate = beta * rate
        if phi(rate) <= phi(0.0) - c * rate * slope:
            return rate


def curve(seed: int) -> tuple[Callable[[float], float], float]:
    """A random function of the rate that falls at first, and what it falls by."""
    generator = random.Random(seed)
    slope, bend = generator.uniform(0.1, 10.0), 10.0 ** generator.uniform(-1, 2)
    wave, high = generator.uniform(0.0, 0.2) * slope, generator.uniform(1.0, 20.0)

    def phi(rate: float) -> float:
        return 1.0 - slope * rate + bend * rate**2 + wave * (1.0 - math.cos(high * rate))

    return phi, slope


class Counted:
    """A function that keeps the rates at which it was asked."""

    def __init__(self, phi: Callable[[float], float]) -> None:
        self.phi, self.rates = phi, []

    def __call__(self, rate: float) -> float:
        self.rates.append(rate)
        return self.phi(rate)


@pytest.mark.parametrize("c", [0.01, 0.5, 0.9])
def test_armijo_is_algorithm_1_while_the_bound_is_far(c: float) -> None:
    config = LineSearchConfig(c=c, max_trials=500)
    trials = set()
    for seed in range(30):
        phi, slope = curve(seed)
        counted = Counted(phi)
        found = search(counted, loss=1.0, slope=slope, start=1.0, config=config)
        assert found.rate == pytest.approx(algorithm_1(phi, slope, 1.0, c, 0.9), rel=1e-12)
        assert (found.accepted, found.reason) == (True, "armijo")
        assert found.loss == phi(found.rate)
        assert found.trials == len(counted.rates)
        trials.add(found.trials)
    assert len(trials) > 5


def test_goldstein_holds_both_lines_and_grows_where_armijo_would_not() -> None:
    settings: dict[str, Any] = {"lr": 1e4, "c": 0.4, "growth": 3.0}
    grown = 0
    for seed in range(30):
        phi, slope = curve(seed)
        config = LineSearchConfig(condition="goldstein", **settings)
        found = search(phi, loss=1.0, slope=slope, start=1e-4, config=config)
        armijo = search(phi, loss=1.0, slope=slope, start=1e-4, config=LineSearchConfig(**settings))
        assert found.reason == "goldstein"
        assert phi(found.rate) <= 1.0 - 0.4 * found.rate * slope
        assert phi(found.rate) >= 1.0 - 0.6 * found.rate * slope
        assert armijo.rate == 1e-4
        assert phi(armijo.rate) < 1.0 - 0.6 * armijo.rate * slope
        grown += found.rate > 3e-4
    assert grown == 30


def test_goldstein_at_the_largest_rate_is_content_with_armijo() -> None:
    config = LineSearchConfig(condition="goldstein", lr=0.5)
    found = search(lambda rate: -rate, loss=0.0, slope=1.0, start=0.1, config=config)
    assert (found.rate, found.accepted, found.reason) == (0.5, True, "armijo")
    assert found.trials == 4  # 0.1, 0.2, 0.4, 0.5


def test_goldstein_out_of_trials_takes_the_rate_that_meets_armijo() -> None:
    # The loss falls by the whole slope up to 0.3 and jumps there: no rate lies between the lines.
    counted = Counted(lambda rate: -rate if rate < 0.3 else 1.0)
    config = LineSearchConfig(condition="goldstein", max_trials=20)
    found = search(counted, loss=0.0, slope=1.0, start=1.0, config=config)
    assert (found.accepted, found.reason, found.trials) == (True, "armijo", 20)
    assert 0.29 < found.rate < 0.3
    assert found.loss == -found.rate


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0])
@pytest.mark.parametrize("trials", [1, 2, 3, 50])
@pytest.mark.parametrize("condition", ["armijo", "goldstein"])
def test_trials_are_bounded_and_the_last_is_at_the_floor(
    bad: float, trials: int, condition: str
) -> None:
    counted = Counted(lambda rate: bad)
    config = LineSearchConfig(max_trials=trials, min_lr=1e-6, condition=condition)
    found = search(counted, loss=1.0, slope=1.0, start=1.0, config=config)
    assert len(counted.rates) == found.trials == trials
    assert all(after < before for before, after in pairwise(counted.rates))
    assert not found.accepted
    assert found.reason == "floor"
    if trials > 1:
        assert counted.rates[-1] == 1e-6
    # A step is made with the floor's rate only where its loss was seen, and is a number.
    kept = trials > 1 and bad == 2.0
    assert (found.rate, found.loss) == ((1e-6, 2.0) if kept else (0.0, 1.0))


def test_the_first_half_of_the_trials_backs_off_by_backtrack() -> None:
    counted = Counted(lambda rate: math.nan)
    search(counted, loss=1.0, slope=1.0, start=1.0, config=LineSearchConfig(max_trials=40))
    factors = [after / before for before, after in pairwise(counted.rates)]
    assert factors[:19] == pytest.approx([0.9] * 19)
    assert all(factor < 0.9 for factor in factors[20:])


def test_a_rate_that_only_the_second_half_reaches_is_found() -> None:
    def cliff(rate: float) -> float:
        return 1.0 - rate if rate < 1e-5 else math.inf

    found = search(cliff, loss=1.0, slope=1.0, start=1.0, config=LineSearchConfig())
    assert found.accepted
    assert found.trials <= 50
    assert 1e-6 < found.rate < 1e-5


def test_where_rounding_hides_any_decrease_the_search_ends_early() -> None:
    settings: dict[str, Any] = {"loss": 1.0, "slope": 1e-12, "start": 1.0}
    counted = Counted(lambda rate: 1.0)
    config = LineSearchConfig()
    found = search(counted, **settings, config=config, resolution=2.0**-24)
    assert counted.rates == [1.0, 1e-10]
    assert found.reason == "floor"
    late = search(lambda rate: 1.0, **settings, config=config)
    assert (late.trials, late.accepted) == (50, False)


@pytest.mark.parametrize(
    ("reset", "rate", "first"),
    [
        ("previous", None, 2.0),
        ("previous", 0.25, 0.25),
        ("max", None, 2.0),
        ("max", 0.25, 2.0),
        ("grow", None, 2.0),
        ("grow", 0.25, 0.25 * 8.0 ** (1 / 3)),
        ("grow", 1.9, 2.0),
    ],
)
def test_first_trial_follows_algorithm_2(reset: str, rate: float | None, first: float) -> None:
    config = LineSearchConfig(lr=2.0, reset=reset, growth=8.0, steps_per_epoch=3)
    assert first_trial(config, rate) == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, r"lr must be a finite number > 0, got 0\.0: pass e\.g\. 1\.0"),
        ({"lr": math.inf}, "lr must be"),
        ({"lr": math.nan}, "lr must be"),
        ({"lr": True}, "lr must be"),
        ({"lr": "1"}, "lr must be"),
        ({"min_lr": 2.0}, r"min_lr must be a number in \(0, lr=1\], got 2\.0"),
        ({"min_lr": 0.0}, "min_lr must be"),
        ({"c": 0.0}, r"c must be a number in \(0, 1\) for condition='armijo', got 0\.0"),
        ({"c": 1.0}, "c must be"),
        ({"c": 0.5, "condition": "goldstein"}, r"\(0, 0\.5\) for condition='goldstein'"),
        ({"backtrack": 0.0}, r"backtrack must be a number in \(0, 1\), got 0\.0"),
        ({"backtrack": 1.0}, "backtrack must be"),
        ({"growth": 0.5}, "growth must be a finite number >= 1, got 0.5"),
        ({"growth": 1.0, "condition": "goldstein"}, "growth must be above 1"),
        ({"reset": "grow"}, r"steps_per_epoch must be .* got None: pass steps_per_epoch=len"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be an integer >= 1, got 0"),
        ({"max_trials": 0}, "max_trials must be an integer >= 1, got 0"),
        ({"max_trials": 1.5}, "max_trials must be"),
    ],
)
def test_a_setting_outside_its_range_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        LineSearchConfig(**settings)


@pytest.mark.parametrize("name", ["direction", "condition", "reset"])
def test_an_unknown_word_is_named(name: str) -> None:
    with pytest.raises(UnknownName, match=f"unknown {name} 'best'"):
        LineSearchConfig(**{name: "best"})


@pytest.mark.parametrize("c", [0.49999, 1e-9])
def test_the_range_of_c_is_open_at_its_ends(c: float) -> None:
    assert LineSearchConfig(c=c, condition="goldstein").c == c
