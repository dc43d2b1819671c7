"""The rolling mean: right, free of drift, and the same bits in every runtime."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from ratewise.rules.smoothing import FloatWindow, empty, keep, push, slots


@pytest.mark.parametrize("window", [1, 2, 3, 7, 50, 64])
def test_equals_the_mean_of_the_last_values(window):
    rng = random.Random(window)
    rolling = FloatWindow(window)
    values: list[float] = []
    for _ in range(4 * window):
        values.append(rng.gauss(0, 1))
        expected = math.fsum(values[-window:]) / len(values[-window:])
        assert rolling.push(values[-1]) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_a_spike_leaves_no_trace_where_a_running_sum_keeps_one():
    values = [0.1] * 10 + [1e30] + [0.1] * 10
    rolling = FloatWindow(4)
    means = [rolling.push(value) for value in values]
    assert means[-1] == means[8]
    running = math.fsum(values[:4])
    for new, old in zip(values[4:], values, strict=False):
        running += new - old
    assert running / 4 != pytest.approx(0.1)  # the control: what the tree is there for


def test_a_constant_stays_constant_to_the_bit_once_the_window_is_full():
    rolling = FloatWindow(50)
    assert len({rolling.push(0.1) for _ in range(200)} - {0.1}) <= 50
    assert len({rolling.push(0.1) for _ in range(200)}) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_enters(bad):
    rolling, clean = FloatWindow(3), FloatWindow(3)
    for value in (1.0, 2.0):
        assert rolling.push(value) == clean.push(value)
    assert not math.isfinite(rolling.push(bad))
    assert [rolling.push(5.0), rolling.values()] == [clean.push(5.0), clean.values()]


def test_a_sum_that_overflows_is_not_taken_in():
    rolling = FloatWindow(2)
    rolling.push(1.7e308)
    assert rolling.push(1.7e308) == math.inf
    assert rolling.push(-1.7e308) == 0.0


@pytest.mark.parametrize(
    ("xp", "zero"), [(np, np.zeros(())), (torch, torch.zeros((), dtype=torch.float64))]
)
def test_arrays_give_the_same_bits(xp, zero):
    rng = random.Random(5)
    rolling, ring = FloatWindow(7), empty(7, zero, xp)
    for _ in range(40):
        value = rng.choice([rng.gauss(0, 1), math.nan])
        mean, new = push(ring, xp.asarray(value, dtype=zero.dtype), window=7, xp=xp)
        ring = keep(xp.isfinite(mean), new, ring, xp)
        assert np.array_equal(float(mean), rolling.push(value), equal_nan=True)
        assert [float(x) for x in ring.values] == rolling.values()


def test_slots_are_the_next_power_of_two():
    assert [slots(window) for window in (1, 2, 3, 5, 17)] == [1, 2, 4, 8, 32]
