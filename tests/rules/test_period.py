"""The mean of a period's metrics, on floats and on arrays."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from ratewise.rules.period import Period, mean

ODD = (math.nan, math.inf, -math.inf, 1e308, -0.0, 5e-324)


def drawn(rng: random.Random) -> list[float]:
    return [rng.choice(ODD) if rng.random() < 0.2 else rng.gauss(0, 1) for _ in range(6)]


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


@pytest.mark.parametrize("skip", [False, True])
def test_arrays_give_what_floats_give(skip: bool):
    rng = random.Random(0)
    seen_nan = False
    for _ in range(200):
        losses = drawn(rng)
        plain, tensors, arrays = (Period(skip=skip) for _ in range(3))
        for loss in losses:
            plain.add(loss)
            tensors.add(torch.tensor(loss, dtype=torch.float64), torch)
            with np.errstate(all="ignore"):
                arrays.add(np.float64(loss), np)
        with np.errstate(all="ignore"):
            means = [float(period.mean()) for period in (plain, tensors, arrays)]
        assert all(same(means[0], other) for other in means[1:]), losses
        assert plain.seen == tensors.seen == len(losses)
        assert int(plain.count) == int(tensors.count)
        seen_nan = seen_nan or math.isnan(means[0])
    assert seen_nan != skip


def test_skipping_leaves_out_and_not_skipping_spoils():
    kept, spoilt = Period(skip=True), Period()
    for loss in (1.0, math.nan, 3.0):
        kept.add(loss)
        spoilt.add(loss)
    assert (kept.mean(), kept.seen, kept.count) == (2.0, 3, 2)
    assert math.isnan(spoilt.mean())
    assert spoilt.count == 3
    kept.clear()
    assert (kept.seen, kept.count, kept.total) == (0, 0, 0.0)
    assert math.isnan(kept.mean())


def test_the_first_metric_is_taken_as_it_is():
    period = Period()
    period.add(-0.0)
    assert math.copysign(1.0, period.mean()) == -1.0


def test_mean_of_counts_that_were_reduced_over_ranks():
    assert mean(6.0, 4.0) == 1.5
    assert mean(0.3, 1.0) == 0.3
    assert math.isnan(mean(0.0, 0.0))
    assert math.isnan(float(mean(torch.tensor(0.0), torch.tensor(0))))
