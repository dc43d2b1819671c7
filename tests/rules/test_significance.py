"""Waiting for significance: what the tests find, how often they err, and what makes them decide."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.significance_twin import SignificanceTwin

from ratewise.errors import InvalidArgument
from ratewise.rules import greedy
from ratewise.rules.greedy import REASONS
from ratewise.rules.greedy_config import GreedyConfig, GreedyLimits, merged
from ratewise.rules.greedy_float import FloatGreedy
from ratewise.rules.significance import FALSE_ALARMS, excess_variance, trend_variance
from ratewise.rules.significance_float import (
    BETTER,
    FULL,
    OPEN,
    WORSE,
    FloatEvidence,
)

#: Larger steps, more losses, and a verdict where these show nothing.
EAGER = {"criterion": "significance", "factor": 0.8, "window": 200, "plateau": "bad"}
CONFIG = GreedyConfig(**EAGER)
slow = settings(deadline=None, max_examples=60, derandomize=True, database=None)

#: on a grid of 1/1024 sums are exact in any order; ties come up, too
gridded = st.integers(-4096, 4096).map(lambda n: n / 1024)
coarse = st.integers(0, 5).map(float)
trended = st.lists(st.integers(0, 300), min_size=1, max_size=60).map(
    lambda steps: [4.0 - sum(steps[:i]) / 1024 for i in range(len(steps))]
)
series = st.one_of(
    st.lists(gridded, max_size=60),
    st.lists(coarse, max_size=60),
    trended,
    trended.map(lambda values: values + values[::-1]),
)
choices = st.fixed_dictionaries(
    {
        "factor": st.sampled_from([0.8, 0.4]),
        "patience": st.sampled_from([0, 1]),
        "window": st.sampled_from([6, 12, 40]),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "plateau": st.sampled_from(["bad", "neutral"]),
        "warmup": st.sampled_from([0, 2]),
        "cooldown": st.sampled_from([0, 2]),
        "stage": st.sampled_from(["extend", "ignore", "hold"]),
        "mode": st.sampled_from(["min", "max"]),
        "reset_after": st.sampled_from([None, 1]),
        "on_nonfinite": st.sampled_from(["bad", "skip"]),
    }
)


def rule(**options) -> FloatGreedy:
    return FloatGreedy(GreedyConfig(**{**EAGER, **options}), GreedyLimits.relative())


def scales(rule: FloatGreedy, losses) -> list[float]:
    return [(rule.update(float(loss)), rule.scale[0])[1] for loss in losses]


# -- the rule is what it says -------------------------------------------------------------------


@slow
@given(choices, series, st.lists(st.integers(0, 60), max_size=2))
def test_the_rule_is_its_literal_twin(options, losses, holes):
    for hole in holes:
        losses = [*losses[:hole], math.nan, *losses[hole:]]
    fast, twin = rule(**options), SignificanceTwin([1.0], **options)
    for step, loss in enumerate(losses):
        fast.update(loss)
        twin.step(loss)
        assert fast.scale == twin.scales, step
        assert REASONS[fast.reason] == twin.reason, step
        assert (fast.good, fast.bad) == (twin.good, twin.bad), step


def test_in_such_series_the_rate_rises_falls_and_is_halved():
    down_up = [4.0 - t / 16 for t in range(30)] + [4.0 + (t % 3) / 8 for t in range(60)]
    ratios = {b / a for a, b in itertools.pairwise(scales(rule(window=40), down_up))}
    assert {1.0, 0.8, 0.5} <= {round(ratio, 9) for ratio in ratios}
    assert max(ratios) == pytest.approx(1.25)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_the_variance_of_the_trend_is_that_over_all_orders(n):
    found = []
    for order in itertools.permutations(range(n)):
        evidence = FloatEvidence(CONFIG)
        for value in order:
            evidence.push(float(value))
        found.append(evidence.trend)
    assert np.mean(found) == 0
    assert np.var(found) == pytest.approx(trend_variance(n))


def test_the_variance_of_the_excess_is_that_over_all_choices():
    found = []
    for chosen in itertools.combinations(range(7), 3):
        evidence = FloatEvidence(CONFIG)
        for value in set(range(7)) - set(chosen):
            evidence.push(float(value))
        evidence.conclude(OPEN, 0.0)
        for value in chosen:
            evidence.push(float(value))
        found.append(evidence.excess)
    assert np.mean(found) == 0
    assert np.var(found) == pytest.approx(excess_variance(3, 4))


# -- how often it errs --------------------------------------------------------------------------


def alarms(losses: np.ndarray) -> float:
    """Return the share of series [runs, steps] in which a trend was found before the end."""
    found = 0
    for row in losses:
        evidence = FloatEvidence(CONFIG)
        for loss in row:
            evidence.push(float(loss))
            if evidence.judge(0.0) in (BETTER, WORSE):
                found += 1
                break
    return found / len(losses)


DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, shape: 5 + rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: rng.standard_t(2, shape),
    "skewed": lambda rng, shape: np.exp(2 * rng.standard_normal(shape)),
}
RUNS = 400


@pytest.mark.parametrize("kind", DRAWS)
def test_on_a_stationary_loss_it_errs_no_more_than_stated(kind):
    share = alarms(DRAWS[kind](np.random.default_rng(3), (RUNS, CONFIG.window)))
    deviation = math.sqrt(FALSE_ALARMS * (1 - FALSE_ALARMS) / RUNS)
    assert share <= FALSE_ALARMS + 2 * deviation


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_a_loss_that_falls_is_found(kind):
    noise = DRAWS[kind](np.random.default_rng(4), (100, CONFIG.window))
    spread = np.subtract(*np.percentile(noise, [75, 25]))
    assert alarms(noise - 1.5 * spread * np.linspace(0, 1, CONFIG.window)) > 0.9


def test_noise_that_is_not_independent_errs_more_and_means_of_it_less():
    """What the stated rate does not hold for, and what is to be done then."""
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((150, 10 * CONFIG.window))
    for step in range(1, noise.shape[1]):
        noise[:, step] += 0.5 * noise[:, step - 1]
    means = noise.reshape(150, CONFIG.window, 10).mean(2)
    assert alarms(noise[:, : CONFIG.window]) > 2 * FALSE_ALARMS
    assert alarms(means) <= 1.5 * FALSE_ALARMS


# -- what decides -------------------------------------------------------------------------------


def test_six_losses_in_a_row_decide_and_five_do_not():
    assert scales(rule(), range(9, 3, -1)) == [1.0] * 5 + [1.25]


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_ten_metrics_that_improve_raise_the_rate_and_ten_that_worsen_lower_it(mode, sign):
    improving = [sign * (1 + 0.5**t) for t in range(10)]
    assert scales(rule(mode=mode), improving)[-1] > 1.0
    assert scales(rule(mode=mode), improving[::-1])[-1] < 1.0


def test_one_spike_changes_nothing():
    rng = random.Random(0)
    losses = [rng.gauss(1, 0.1) for _ in range(150)]
    quiet = scales(rule(), losses)
    losses[60] = 1e6
    assert scales(rule(), losses) == quiet


def test_a_fall_that_a_decrease_brings_about_is_no_reason_to_rise():
    down = [9.0 - t for t in range(6)]
    after = [math.nan, *down]  # lowered by a loss that is not finite, then better
    assert scales(rule(), after)[-1] == 0.8
    assert scales(rule(), after + [x - 6 for x in down])[-1] == 1.0


def test_no_trend_in_a_full_window_lowers_the_rate_or_not():
    flat = [1.0, 2.0] * 10
    assert scales(rule(window=20), flat)[-2:] == [1.0, 0.8]
    assert scales(rule(window=20, plateau="neutral"), flat)[-1] == 1.0


def test_a_change_below_the_threshold_does_not_matter():
    losses = [1.0 - 1e-6 * t for t in range(20)]
    assert max(scales(rule(), losses)) == 1.0
    assert max(scales(rule(threshold=0.0), losses)) > 1.0


# -- bad input ----------------------------------------------------------------------------------


def test_a_constant_loss_shows_nothing():
    evidence = FloatEvidence(CONFIG)
    for _ in range(CONFIG.window - 1):
        evidence.push(0.1)
        assert evidence.judge(0.0) == OPEN
    evidence.push(0.1)
    assert evidence.judge(0.0) == FULL


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_a_tiny_or_huge_unit_changes_no_decision(kind, unit):
    rng = np.random.default_rng(6)
    losses = 1 + np.exp(-np.arange(120) / 20) + 0.05 * rng.standard_normal(120)
    losses[80:] += 1
    found = []
    for scale in (1.0, unit):
        state = greedy.init(CONFIG, zero=np.zeros((), kind))
        rates = []
        for loss in (losses * scale).astype(kind):
            state = greedy.update(state, loss=loss, config=CONFIG)
            rates.append(float(state.scale[0]))
        found.append(rates)
    assert found[0] == found[1]
    assert min(found[0]) < 1 < max(found[0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of overflow; it is meant here
def test_sums_that_overflow_decide_nothing_and_are_not_kept():
    losses = [1e308 * (1 + 0.5 * (t % 2)) - 1e306 * t for t in range(30)]
    fast = rule(window=30)
    assert set(scales(fast, losses[:-1])) == {1.0}
    fast.update(losses[-1])
    memory = fast.state()["evidence"]
    assert all(math.isfinite(memory[name]) for name in ("mean", "before", "errors"))
    assert memory["best"] == []


def test_a_loss_that_is_not_finite_leaves_no_trace_in_the_evidence():
    evidence = [rule(on_nonfinite="skip"), rule(on_nonfinite="skip")]
    scales(evidence[0], [3.0, math.nan, 2.0, -math.inf, 2.5])
    scales(evidence[1], [3.0, 2.0, 2.5])
    first, second = (one.state()["evidence"] for one in evidence)
    assert first == second


# -- settings -----------------------------------------------------------------------------------


def test_defaults_follow_from_the_criterion():
    count, waits = GreedyConfig(), GreedyConfig(criterion="significance")
    assert (count.factor, count.patience, count.window) == (0.9, 3, 20)
    assert (waits.factor, waits.patience, waits.window) == (0.9, 0, 100)
    assert (count.plateau, waits.plateau) == ("bad", "neutral")
    assert GreedyConfig() == count
    assert count.stated() == {}
    assert waits.stated() == {"criterion": "significance"}
    given = GreedyConfig(plateau="bad")  # the default of one criterion, not of the other
    assert merged(given, criterion="significance") == GreedyConfig("significance", plateau="bad")
    assert merged(None, criterion="significance").plateau == "neutral"
    assert merged(GreedyConfig(mode="max"), criterion="significance").window == 100
    assert merged(GreedyConfig(window=50), criterion="significance").window == 50


def test_a_window_in_which_nothing_can_be_significant_is_refused():
    with pytest.raises(InvalidArgument, match="window"):
        GreedyConfig(criterion="significance", window=5)
    assert GreedyConfig(window=5).window == 5


def test_the_best_stretch_is_the_one_that_most_pairs_speak_for():
    evidence = FloatEvidence(CONFIG)
    for loss in (3.0, 2.0):
        evidence.push(loss)
    assert evidence.conclude(OPEN, 0.0) == 2.5
    for loss in (2.75, 2.5):
        evidence.push(loss)
    assert evidence.conclude(OPEN, 2.5) == 2.5  # two pairs above, two below
    evidence.push(1.0)
    assert evidence.conclude(OPEN, 2.5) == 1.0
