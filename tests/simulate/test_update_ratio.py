"""Rules that steer tensors, and rows that are held out: beside others, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.rules.policies import random_policy

from ratewise import simulate
from ratewise.errors import InvalidArgument, UnknownName
from ratewise.rules.update_ratio import UpdateRatioConfig
from ratewise.simulate import Learned, UpdateRatio
from ratewise.simulate.order import DataOrder

pytestmark = pytest.mark.numerics

TEACHER: dict[str, Any] = {"data": "teacher", "size": 96, "inputs": 6, "batch_size": 16}
RULES = (
    UpdateRatio(),
    "cosine",
    Learned(random_policy()),
    UpdateRatio(per="model", schedule="linear", every=3),
    "greedy",
    UpdateRatio(UpdateRatioConfig(ratio=0.005)),
)


def run(rules: Any, lr: Any = 0.01, **options: Any) -> simulate.Trajectories:
    task = options.pop("task", None) or simulate.family("mlp", **TEACHER)
    seeds = options.pop("seed", list(range(len(rules))))
    settings = {"steps": 70, "dtype": torch.float64, **options}
    return simulate.run(task, "adamw", list(rules), runs=len(rules), lr=lr, seed=seeds, **settings)


def test_each_run_of_a_mixture_is_what_it_is_alone():
    together = run(RULES)
    for index, rule in enumerate(RULES):
        alone = run([rule], seed=[index])
        np.testing.assert_allclose(alone.loss[0], together.loss[index], rtol=1e-7)
    assert len({round(x, 6) for x in together.final}) == len(RULES)


def test_base_rates_matter_to_those_that_do_not_steer_alone():
    low, high = run(RULES, lr=1e-4), run(RULES, lr=1e-1)
    steers = np.array([not isinstance(rule, str) for rule in RULES])
    apart = np.abs(low.final / high.final - 1)
    assert (apart[steers] < 1e-9).all()
    assert (apart[~steers] > 0.01).all()


def test_a_rate_of_zero_moves_nothing():
    result = run(RULES, lr=0.0)
    np.testing.assert_array_equal(result.initial, result.final)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"per": "group"}, UnknownName),
        ({"schedule": "cosin"}, UnknownName),
        ({"every": 0}, InvalidArgument),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        UpdateRatio(**options)


def apart(poison: float = 0.0) -> simulate.Task:
    """Return a task on shared data whose last 30 rows are held out, and may be spoilt."""
    whole = simulate.family("mlp", **TEACHER)
    x, y = whole.data_for(3)
    x = x.clone()
    x[-30:] += poison
    return replace(whole, data=(x, y), held_out=30)


def test_rows_held_out_are_never_trained_on():
    clean, spoilt = run(["cosine"] * 2, task=apart()), run(["cosine"] * 2, task=apart(100.0))
    np.testing.assert_array_equal(clean.loss, spoilt.loss)
    np.testing.assert_array_equal(clean.final, spoilt.final)
    assert (spoilt.held_out > 2 * clean.held_out).all()
    without = run(["cosine"] * 2, task=replace(apart(), held_out=0))
    assert np.isnan(without.held_out).all()
    assert not np.array_equal(without.loss, clean.loss)  # the control: they are trained on


def test_the_loss_on_rows_held_out_is_that_of_an_ordinary_training():
    task = apart()
    result = run(["constant"], task=task, seed=[7], steps=20)
    torch.manual_seed(7)
    model = task.model().double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x, y = task.data_for(7)
    x, order = x.double(), DataOrder([7], 66, 16)
    for _ in range(20):
        rows = order.next()[0]
        optimizer.zero_grad()
        task.loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        expected = float(task.loss(model(x[-30:]), y[-30:]))
        trained = float(task.loss(model(x[:66]), y[:66]))
    assert result.held_out[0] == pytest.approx(expected, rel=1e-9)
    assert result.final[0] == pytest.approx(trained, rel=1e-9)
