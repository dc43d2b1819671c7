"""What `run` returns: shapes, recorded steps, and what initial, final and diverged mean."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from tests.simulate.trainings import OPTIMIZERS, bowl, off, regression

from ratewise.simulate import run
from ratewise.simulate.trajectories import PER_STEP

SGD = OPTIMIZERS["sgd"]


def trained(**options: Any) -> Any:
    settings: dict[str, Any] = {"runs": 5, "steps": 30, "lr": 0.05, "chunk": 2}
    return run(regression(), SGD, "cosine", **{**settings, **options})


@pytest.mark.parametrize(
    ("every", "steps", "recorded"),
    [
        (7, 30, [7, 14, 21, 28, 30]),
        (7, 28, [7, 14, 21, 28]),
        (7, 5, [5]),
        (1, 3, [1, 2, 3]),
        (30, 30, [30]),
        (1000, 30, [30]),
    ],
)
def test_every_so_many_steps_are_recorded_and_the_last_always(every, steps, recorded):
    whole, thinned = trained(steps=steps), trained(steps=steps, every=every)
    assert thinned.step.tolist() == recorded
    for name in PER_STEP:
        kept = getattr(thinned, name)
        assert kept.shape == (5, len(recorded))
        assert kept.dtype == np.float64
        assert np.array_equal(kept, getattr(whole, name)[:, thinned.step - 1])
    for name in ("initial", "final", "diverged_at"):
        assert getattr(thinned, name).shape == (5,)
        assert np.array_equal(getattr(thinned, name), getattr(whole, name))
    assert thinned.runs == len(thinned.seeds) == 5
    assert thinned.chunk == 2
    assert thinned.seconds > 0


def test_the_first_loss_is_of_untrained_weights_and_the_final_one_of_trained():
    """Of a function there are no batches: the loss of step t + 1 is what t steps have reached."""
    long, short = (
        run(bowl(), SGD, runs=3, steps=steps, lr=0.1, dtype=torch.float64, chunk=3)
        for steps in (11, 10)
    )
    assert np.array_equal(long.initial, long.loss[:, 0])
    assert np.array_equal(short.final, long.loss[:, 10])
    assert not np.array_equal(short.final, short.loss[:, -1])


def test_clean_losses_are_of_the_first_rows_whatever_the_batch():
    for rows in (5, 6, 7, 24, 256):
        task = dataclasses.replace(regression(), evaluation=rows)
        result = run(task, SGD, runs=2, steps=1, lr=0.0, dtype=torch.float64, chunk=2)
        x, y = (part[:rows].double() for part in task.data_for(0))
        for row, seed in enumerate(result.seeds):
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(seed)
                expected = float(task.loss(task.model().double()(x), y))
            assert off(result.initial[row], expected) < 1e-12
        assert np.array_equal(result.initial, result.final)


def test_gradient_and_update_are_those_of_the_step():
    """SGD without momentum: the update is lr times the gradient."""
    result = run(bowl(), SGD, "linear", runs=3, steps=20, lr=0.3, dtype=torch.float64, chunk=3)
    moved = result.lr * result.grad_norm
    weights = moved / result.update_ratio
    # f(x) lies between the curvatures' ends: 2^-7 |x|^2 / 2 <= f <= |x|^2 / 2
    assert (result.loss <= weights**2 / 2).all()
    assert (result.loss >= weights**2 / 2 * 2.0**-7).all()
    assert (result.grad_norm > 0).all()
    assert off(result.lr, 0.3 * (1 - np.arange(20) / 20) * np.ones((3, 1))) < 1e-12


def test_a_diverged_run_keeps_its_rows_and_says_when():
    result = trained(lr=[0.05, 1e30, 0.05, 1e3, 0.0], steps=100, every=10)
    assert result.diverged().tolist() == [False, True, False, True, False]
    assert (result.diverged_at[[0, 2, 4]] == 0).all()
    full = trained(lr=[0.05, 1e30, 0.05, 1e3, 0.0], steps=100)
    for row in (1, 3):
        at = result.diverged_at[row]
        assert np.isfinite(full.loss[row, : at - 1]).all()
        assert not np.isfinite(full.loss[row, at - 1])
        assert not np.isfinite(result.loss[row, result.step >= at]).any()
    assert result.diverged_at[1] == 2


def test_a_run_whose_last_step_breaks_it_is_diverged_too():
    """Its losses are finite, what they lead to is not."""
    result = run(bowl(), SGD, runs=2, steps=1, lr=[1e30, 0.1], chunk=2)
    assert result.diverged_at.tolist() == [0, 0]
    assert result.diverged().tolist() == [True, False]


def test_the_rate_is_zero_where_it_was_asked_to_be():
    result = trained(lr=[0.0, 0.05, 0.0, 0.05, 0.0])
    assert (result.lr[[0, 2, 4]] == 0).all()
    assert np.array_equal(result.initial[[0, 2, 4]], result.final[[0, 2, 4]])
    assert (result.initial[[1, 3]] != result.final[[1, 3]]).all()
