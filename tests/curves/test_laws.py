"""The laws' sums against the literal sums over all pairs of steps, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from tests.curves.made import PEAK, TRUE, rates

from ratewise.curves import scheduled, sums
from ratewise.curves.laws import LAWS, Run
from ratewise.curves.sums import Grid, traces

GRID = Grid(1e-5, 10.0)


def literal(law: str, theta: np.ndarray, run: Run, t: int) -> float:
    """The law as it is printed, a sum over every earlier step."""
    eta, total = run.rates, np.concatenate([[0.0], np.cumsum(run.rates)])
    value = dict(zip(LAWS[law].parameters, theta, strict=True))
    for name in value.keys() - set(LAWS[law].exponents):
        value[name] = np.exp(value[name])
    a = value["A"] * np.exp(value["A~peak"] * run.peak)
    b = value["B"] * np.exp(value["B~peak"] * run.peak)
    loss = value["L0"] + a * (total[t] + value["s"] * np.exp(run.peak)) ** -value["alpha"]
    if law == "functional":
        c = value["c"] * np.exp(value["c~peak"] * run.peak)
        for tau in range(1, t + 1):
            loss += b * eta[tau - 1] ** 2 * (1 + (total[t] - total[tau]) / c) ** -value["beta"]
        return loss
    for k in range(1, t + 1):
        before = eta[k - 2] if k > 1 else 0.0
        since, after = total[t] - total[k - 1], max(eta[k - 1], 1e-12)
        x = value["C"] * after ** -value["gamma"] * since
        loss -= b * (before - eta[k - 1]) * (1 - (1 + x) ** -value["beta"])
    return loss


@pytest.mark.parametrize(("law", "error"), [("functional", 1e-9), ("multi-power", 3e-5)])
def test_a_law_is_the_literal_sum_over_all_steps(law: str, error: float):
    rng = np.random.default_rng(0)
    for shape in ("cosine", "wsd 0.2", "constant"):
        theta = np.array(TRUE[law]) + 0.1 * rng.standard_normal(len(TRUE[law]))
        run = Run(rates(shape, 2e-3, 900), np.array([60, 300, 750, 890]), np.log(2.0))
        found, _ = LAWS[law].losses(theta, LAWS[law].prepare([run], GRID))
        for value, t in zip(found, run.points, strict=True):
            assert value == pytest.approx(literal(law, theta, run, int(t)), rel=error)


@pytest.mark.parametrize("law", LAWS)
def test_derivatives_are_those_of_differences(law: str):
    rule, theta = LAWS[law], np.array(TRUE[law])
    runs = [
        Run(rates("wsd 0.2", 5e-4), np.array([100, 1800, 1990]), np.log(0.5)),
        Run(rates("cosine"), np.array([500, 2000]), 0.0),
    ]
    prepared = rule.prepare(runs, GRID)
    _, slopes = rule.losses(theta, prepared)
    for i, step in enumerate(1e-5 * np.eye(len(theta))):
        up, down = (rule.losses(theta + sign * step, prepared)[0] for sign in (1, -1))
        assert slopes[:, i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("beta", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("c", [1e-3, 0.3])
def test_a_power_is_a_mixture_of_exponentials(beta: float, c: float):
    x = np.concatenate([[0.0], np.geomspace(1e-5, 10, 40)])
    weights, by_c, by_beta = GRID.weights(beta, np.array([c]))
    power = (1 + x / c) ** -beta
    mixed = np.exp(-np.outer(x, GRID.v))
    assert mixed @ weights[0] == pytest.approx(power, rel=1e-5)
    assert mixed @ by_c[0] == pytest.approx(beta * power * (x / c) / (1 + x / c), abs=1e-5)
    assert mixed @ by_beta[0] == pytest.approx(-beta * power * np.log1p(x / c), abs=1e-5)


def test_steps_that_are_taken_together_change_next_to_nothing(monkeypatch):
    run, points = scheduled("wsd", PEAK, 6000, cooldown=0.3), np.array([200, 3000, 5990])
    weights = GRID.weights(0.9, np.array([0.05]))[0][0]
    together = traces(run, points, GRID) @ weights
    monkeypatch.setattr(sums, "_GROUPS", 10**9)
    assert together == pytest.approx(traces(run, points, GRID) @ weights, rel=1e-3)


def test_the_sums_cost_is_linear_in_the_steps(monkeypatch):
    """Counted, not timed: exponentials that are taken, at 2 and at 4 times the steps."""
    counts = []
    monkeypatch.setattr(sums, "_GROUPS", 10**9)
    exp = np.exp

    class Counting:
        def __getattr__(self, name: str):
            return getattr(np, name)

        @staticmethod
        def exp(x):
            counts[-1] += np.size(x)
            return exp(x)

    monkeypatch.setattr(sums, "np", Counting())
    for steps in (1000, 2000, 4000):
        counts.append(0)
        _ = GRID.v
        traces(np.full(steps, PEAK), np.arange(steps // 20, steps + 1, steps // 20), GRID)
    assert counts[1] / counts[0] == pytest.approx(2, rel=0.05)
    assert counts[2] / counts[0] == pytest.approx(4, rel=0.05)


def test_the_multi_power_law_s_cost_is_linear_in_the_points():
    rule, theta = LAWS["multi-power"], np.array(TRUE["multi-power"])
    counts, run = [], Run(rates("cosine", 2e-3, 4000), np.arange(8, 4001, 8), 0.0)
    few = [504, 1904, 3992]
    true = [literal("multi-power", theta, run, step) for step in few]
    for every in (8, 4, 2):
        points = np.arange(every, 4001, every)
        prepared = rule.prepare([run._replace(points=points)], GRID)
        counts.append(len(prepared[1]))
        found = rule.losses(theta, prepared)[0][np.searchsorted(points, few)]
        assert found == pytest.approx(true, rel=1e-4)
    assert counts[2] / counts[0] < 1.3 * 4  # of all pairs there are 16 times as many
