"""The ratio's law: it falls with length and passes, and online corrections stay within bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ratewise.rules import online
from ratewise.rules.ratio_law import DEFAULT, PRETRAINED, WITH_PASSES, Outlook, default_ratio


def test_with_passes_it_is_the_law_written_out():
    law = WITH_PASSES
    for steps, epoch in ((300, 300), (1000, 50), (8000, 8000), (8000, 125)):
        passes = steps / epoch
        wanted = law.level * (300 / steps) ** law.power * min(1.0, (law.free / passes) ** law.fall)
        assert default_ratio(steps, epoch) == pytest.approx(wanted)
        assert default_ratio(steps, epoch, True) == pytest.approx(PRETRAINED * wanted)


def test_more_steps_and_more_passes_never_raise_it():
    by_length = [default_ratio(steps, steps) for steps in (1, 100, 1000, 10**5, 10**12)]
    assert by_length == sorted(by_length, reverse=True)
    assert (by_length[0], by_length[-1]) == (WITH_PASSES.most, WITH_PASSES.least)
    by_passes = [default_ratio(1000, epoch) for epoch in (10**9, 1000, 100, 10, 1)]
    assert by_passes == sorted(by_passes, reverse=True)
    assert by_passes[0] == by_passes[1]  # a stream is a single pass
    assert by_passes[1] > by_passes[2]


def test_what_is_not_known_is_the_compromise():
    assert default_ratio(1000) == DEFAULT.ratio(1000)
    assert default_ratio(None, 10) == DEFAULT.unknown
    assert Outlook(None, 10).passes is None
    assert default_ratio(1000, 1) < default_ratio(1000) < default_ratio(1000, 1000)


def test_a_correction_adds_up_within_its_bounds():
    c = np.zeros(3)
    for _ in range(100):
        c = online.corrected(c, np.array([1.0, -1.0, math.nan]), xp=np)
    np.testing.assert_allclose(c, [online.MOST, -online.MOST, 0.0])
    five = online.corrected(np.zeros(1), np.array([0.2]), every=5, xp=np)
    assert float(five[0]) == pytest.approx(5 * online.GAIN * 0.2)
