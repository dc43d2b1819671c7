"""Where the best value is expected: our default, drawn to past tasks as far as they are near."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ratewise.curves import Curve, Key, Series
from ratewise.curves.advice import Tried
from ratewise.curves.curve import Facts
from ratewise.curves.prior import Past, carried, default_centre, expected, from_curves
from ratewise.errors import InvalidArgument, UnknownName, WrongType
from ratewise.rules.ratio_law import default_ratio

KEY = Key("new", "adamw", "transformer", 1000)


def past(best: float, key: Key = KEY, *, name: str = "old", curvature: float = 0.3) -> Past:
    """Return a task whose best value is as given, tried at five values around it."""
    tried = [
        Tried(value, 2.0 * math.exp(0.5 * curvature * math.log(value / best) ** 2))
        for value in (best / 4, best / 2, best, best * 2, best * 4)
    ]
    return Past(replace(key, task=name), tuple(tried))


def test_without_past_tasks_it_is_the_default():
    assert expected(KEY, []).centre == default_centre(KEY) == 1e-3
    ratio = replace(KEY, unit="ratio", total_steps=3000)
    assert expected(ratio, []).centre == pytest.approx(default_ratio(3000))
    assert expected(KEY, [], 0.5).centre == 0.5


def test_many_tasks_draw_it_to_their_mean_and_few_less():
    few = expected(KEY, [past(0.01)])
    many = expected(KEY, [past(0.01, name=str(i)) for i in range(12)])
    assert 1e-3 < few.centre < many.centre < 0.01
    assert many.centre == pytest.approx(0.01, rel=0.1)
    assert many.spread < few.spread < expected(KEY, []).spread
    assert many.tasks == 12
    assert many.curvature == pytest.approx(0.3, rel=0.1)
    assert many.curvature_spread < 0.5 * many.curvature  # two runs do for three
    assert few.curvature_spread > few.curvature


def test_the_family_counts_for_more_and_the_same_task_for_most():
    other = replace(KEY, family="convnet")
    mixed = [past(0.01, name=f"a{i}") for i in range(4)]
    mixed += [past(0.001, other, name=f"b{i}") for i in range(4)]
    own, theirs = expected(KEY, mixed).centre, expected(other, mixed).centre
    neither = expected(replace(KEY, family="gru"), mixed).centre
    assert theirs < neither < own
    shorter = past(0.02, replace(KEY, total_steps=250), name="new")
    alone = expected(KEY, [*mixed, shorter])
    assert alone.centre > own  # at a fourth of the length 0.02 was best: 0.01 here
    assert alone.spread < expected(KEY, mixed).spread


def test_of_other_units_losses_and_optimizers_nothing_is_taken():
    for odd in ({"unit": "ratio"}, {"loss": "train"}, {"optimizer": "sgd"}):
        assert expected(KEY, [past(0.3, replace(KEY, **odd))]) == expected(KEY, [])


def test_an_optimizer_without_a_usual_rate_needs_a_centre_or_past_tasks():
    odd = replace(KEY, optimizer="own")
    with pytest.raises(InvalidArgument, match=r"no rate is usual for key.optimizer='own': pass"):
        expected(odd, [])
    assert expected(odd, [], 0.2).centre == 0.2
    assert expected(odd, [past(0.05, odd), past(0.05, odd, name="b")]).centre == pytest.approx(
        0.05, rel=0.05
    )


def test_tasks_that_diverged_throughout_or_had_one_run_are_taken_for_what_they_are():
    gone = Past(replace(KEY, task="gone"), (Tried(1e-3, math.inf), Tried(3e-3, math.inf)))
    assert expected(KEY, [gone]).centre < 1e-3
    single = Past(replace(KEY, task="single"), (Tried(0.01, 2.0),))
    assert 1e-3 < expected(KEY, [single]).centre < expected(KEY, [past(0.01)]).centre


def test_rates_are_carried_by_the_root_of_the_length_and_ratios_by_their_law():
    assert carried(KEY, 1000, 4000) == pytest.approx(0.5)
    ratio = replace(KEY, unit="ratio")
    assert carried(ratio, 600, 3000) == pytest.approx(default_ratio(3000) / default_ratio(600))
    assert carried(KEY, 0, 1000) == 1.0
    known = replace(ratio, passes=20.0)
    assert default_centre(known) == default_ratio(1000, 50)
    assert carried(known, 200, 1000) == pytest.approx(
        default_ratio(1000, 50) / default_ratio(200, 50)
    )


def test_a_store_s_curves_become_tasks():
    def run(name: str, rate: float, end: float, lost: int | None = None) -> Curve:
        return Curve(
            name,
            lr=Series.of([1, 100], [rate, 0.0]),
            held_out_loss=Series.of([50, 100], [3.0, end]),
            facts=Facts(optimizer="adamw", total_steps=100),
            diverged_at=lost,
        )

    curves = [run("m/a", 1e-3, 2.0), run("m/b", 1e-2, 2.1), run("m/c", 1e-1, 9.0, 60)]
    (found,) = from_curves([*curves, Curve("m/none"), run("", 1e-3, 2.0)])
    assert found.key == Key("m", "adamw", "", 100)
    assert [one.loss for one in found.tried] == [2.0, 2.1, math.inf]
    assert from_curves(curves[:2], "train") == []


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ({"task": ""}, InvalidArgument, "key.task must be a name"),
        ({"task": 3}, WrongType, "key.task must be a string"),
        ({"optimizer": "adamw"}, InvalidArgument, "with a task"),
        ({"task": "a", "steps": 3}, UnknownName, "unknown field of key 'steps'"),
        ({"task": "a", "total_steps": -1}, InvalidArgument, "key.total_steps"),
        ({"task": "a", "passes": -1.0}, InvalidArgument, "key.passes"),
        ({"task": "a", "loss": "test"}, UnknownName, "unknown loss 'test'"),
        ({"task": "a", "unit": "lr"}, UnknownName, "unknown unit"),
        (3, WrongType, "key must be a Key"),
    ],
)
def test_a_key_that_is_none_is_named(key: object, error: type, words: str):
    with pytest.raises(error, match=words):
        Key.of(key)
