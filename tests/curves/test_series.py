"""What is kept of a log that broke off, was gone on with, or was written in another order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ratewise.curves import Series
from ratewise.curves.series import sound
from ratewise.errors import InvalidArgument


def kept(steps: list[float], values: list[float]) -> dict[int, float]:
    series = sound("loss", steps, values).series
    return dict(zip(series.step.tolist(), series.value.tolist(), strict=True))


def test_a_sound_column_is_kept_as_it_is_and_nothing_is_said():
    found = sound("loss", [1, 2, 5], [3.0, 2.0, 1.0])
    assert kept([1, 2, 5], [3.0, 2.0, 1.0]) == {1: 3.0, 2: 2.0, 5: 1.0}
    assert (found.left_out, found.diverged_at) == ([], None)


def test_after_a_restart_the_points_that_the_training_lost_go():
    steps = [10, 20, 30, 40, 20, 30, 40, 50]
    values = [1.0, 2.0, 3.0, 4.0, 20.0, 30.0, 40.0, 50.0]
    assert kept(steps, values) == {10: 1.0, 20: 20.0, 30: 30.0, 40: 40.0, 50: 50.0}
    (said,) = sound("loss", steps, values).left_out
    assert said == "loss: 3 points after step 10, where the run was resumed"


def test_a_restart_that_logs_at_other_steps_leaves_none_of_the_lost_ones():
    assert kept([10, 20, 30, 40, 15, 25, 35, 45], [1, 2, 3, 4, 5, 6, 7, 8]) == {
        10: 1, 15: 5, 25: 6, 35: 7, 45: 8,
    }  # fmt: skip


def test_two_restarts():
    assert kept([1, 2, 3, 2, 3, 4, 1, 2, 3], list(range(9))) == {1: 6, 2: 7, 3: 8}


def test_another_order_is_sorted_and_no_point_is_lost():
    for steps in ([4, 3, 2, 1], [1, 3, 2, 4]):
        assert kept(steps, [float(step) for step in steps]) == {1: 1, 2: 2, 3: 3, 4: 4}
        assert sound("loss", steps, steps).left_out == ["loss: steps in another order, sorted"]


def test_of_a_step_that_is_there_twice_the_last_stays():
    assert kept([1, 2, 2, 3], [1.0, 2.0, 9.0, 3.0]) == {1: 1.0, 2: 9.0, 3: 3.0}
    assert sound("loss", [1, 2, 2], [1, 2, 3]).left_out == [
        "loss: 1 point of a step that is there again"
    ]


def test_a_hole_within_is_no_divergence_and_one_at_the_end_is():
    within = sound("loss", [1, 2, 3], [3.0, math.nan, 1.0])
    assert (within.series.step.tolist(), within.diverged_at) == ([1, 3], None)
    end = sound("loss", [1, 2, 3, 4], [3.0, 2.0, math.inf, math.nan])
    assert (end.series.step.tolist(), end.diverged_at) == ([1, 2], 3)


@pytest.mark.parametrize("step", [-1, 1.5, math.nan, math.inf, 1e300])
def test_what_is_no_step_goes(step: float):
    found = sound("loss", [1, step, 2], [3.0, 2.0, 1.0])
    assert found.series.step.tolist() == [1, 2]
    assert found.left_out == ["loss: 1 point without a step of a training"]


def test_nothing_at_all_is_nothing():
    found = sound("loss", [], [])
    assert (len(found.series), found.left_out, found.diverged_at) == (0, [], None)


def test_any_column_gives_a_series_that_rises_and_is_finite():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(0, 12))
        steps = rng.integers(-1, 9, n).astype(float)
        values = rng.choice([1.0, 2.0, math.nan, math.inf], n)
        series = sound("loss", steps, values).series
        Series.of(*series)  # checks both
        points = set(zip(steps, values, strict=True))
        assert set(zip(series.step.tolist(), series.value.tolist(), strict=True)) <= points


def test_series_of_refuses_what_is_not_sound():
    for steps, values in (([2, 1], [1, 1]), ([1, 1], [1, 1]), ([1], [math.nan]), ([1, 2], [1])):
        with pytest.raises(InvalidArgument):
            Series.of(steps, values)
