"""How times are told: spreads, growth, and contenders that take turns."""

from __future__ import annotations

import math

import pytest

from evidence.timing import Growth, Spread, interleaved, measured_on


@pytest.mark.parametrize(
    ("share", "span"), [(0.5, (25.0, 75.0)), (0.8, (10.0, 90.0)), (1.0, (0.0, 100.0))]
)
def test_a_span_holds_its_share_of_the_values(share: float, span: tuple[float, float]):
    assert Spread.of([float(i) for i in range(101)], share) == (50.0, *span)


def test_what_never_came_is_infinite_and_mixes_with_nothing():
    assert Spread.of([1.0, 2.0, math.inf], 1.0) == (2.0, 1.0, math.inf)
    assert Spread.of([math.inf] * 4) == (math.inf,) * 3


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_growth(power: float):
    sizes = (50, 100, 200, 400)
    grown = Growth("a", sizes, tuple(3.0 * size**power for size in sizes))
    assert grown.exponent == pytest.approx(power)


def test_contenders_take_turns_and_none_always_follows_the_same_one():
    order: list[str] = []

    def measured(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleaved({name: lambda name=name: measured(name) for name in "abc"}, 3, warm=1)
    assert [len(values) for values in found.values()] == [3, 3, 3]
    assert {tuple(order[i : i + 3]) for i in range(0, 12, 3)} == {
        tuple("abc"),
        tuple("bca"),
        tuple("cab"),
    }
    assert found["a"][0] == 4.0  # the warm repetition is not counted


def test_what_was_measured_on_names_no_machine():
    assert measured_on("torch").startswith("Python 3.")
