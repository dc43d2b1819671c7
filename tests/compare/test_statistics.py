"""Statistics against cases worked by hand, and against the errors that they must not make."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ratewise.compare import statistics
from ratewise.compare.statistics import Interval
from ratewise.errors import InvalidArgument

LOG = math.log


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 60])
def test_the_t_interval_is_scipy_s(n):
    x = np.random.default_rng(n).normal(0.1, 1.0, n)
    wanted = stats.ttest_1samp(x, 0.2)
    found = statistics.cell_interval(x, null=0.2)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert found.p == pytest.approx(wanted.pvalue)


@pytest.mark.parametrize("n", [6, 7, 8, 9, 12, 20, 86])
def test_the_median_s_interval_is_scipy_s(n):
    x = np.random.default_rng(n).normal(0.3, 1.0, n)
    wanted = stats.quantile_test(x, q=0.0, p=0.5)
    found = statistics.median_interval(x)
    assert (found.low, found.high) == tuple(wanted.confidence_interval(0.95))
    assert found.p == pytest.approx(wanted.pvalue)


@pytest.mark.parametrize("n", [6, 9, 12])
def test_the_interval_leaves_0_out_exactly_where_p_says_so(n):
    rng = np.random.default_rng(n)
    for shift in np.linspace(-1.5, 1.5, 41):
        x = np.round(rng.normal(shift, 1.0, n), 1)  # some are 0, and some are equal
        for found in (
            statistics.cell_interval(x),
            statistics.median_interval(x),
            statistics.mean_interval(x),
        ):
            assert (found.p <= 0.05) == (not found.low <= 0.0 <= found.high)


def test_a_cell_by_hand():
    # mean 0.02, standard deviation 0.01, so 0.02 +- 4.3027 * 0.01 / sqrt(3)
    found = statistics.cell_interval([0.01, 0.02, 0.03])
    assert found.estimate == pytest.approx(0.02)
    assert found.high - found.estimate == pytest.approx(4.30265 * 0.01 / math.sqrt(3), rel=1e-5)
    assert found.low == pytest.approx(0.04 - found.high)


@pytest.mark.parametrize("x", [[-5.0], []])
def test_one_run_decides_nothing(x):
    for found in (statistics.cell_interval(x), statistics.mean_interval([x])):
        assert (found.low, found.high, found.p) == (-math.inf, math.inf, 1.0)
        assert statistics.verdict(found) == "undecided"


def test_runs_that_agree_entirely_have_no_width():
    same = statistics.cell_interval([0.0] * 4)
    assert (same.low, same.high, same.p) == (0.0, 0.0, 1.0)
    apart = statistics.cell_interval([0.5] * 4)
    assert (apart.low, apart.high, apart.p) == (0.5, 0.5, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (-0.30, -0.001, "better"),
        (-0.009, -0.001, "better"),
        (-0.009, 0.009, "tie"),
        (0.001, 0.009, "tie"),
        (-0.10, 0.019, "non-inferior"),
        (0.001, 0.019, "non-inferior"),
        (-0.10, 0.020, "undecided"),  # log 1.02 = 0.0198
        (0.0, 0.10, "undecided"),
        (0.001, 0.10, "worse"),
        (-math.inf, math.inf, "undecided"),
    ],
)
def test_verdict_at_its_boundaries(low, high, wanted):
    assert statistics.verdict(interval(low, high)) == wanted


def test_a_diverged_run_counts_ten_times_the_initial_loss():
    assert statistics.log_ratio(math.inf, 2.0, 2.0) == pytest.approx(LOG(10))
    assert statistics.log_ratio(2.0, math.nan, 2.0) == pytest.approx(-LOG(10))
    assert statistics.log_ratio(1e9, 2.0, 2.0) == pytest.approx(LOG(10))
    assert statistics.log_ratio(math.inf, math.inf, 2.0) == 0.0
    assert statistics.log_ratio(0.0, 0.0, 2.0) == 0.0
    with pytest.raises(InvalidArgument, match="add a constant"):
        statistics.log_ratio(-1.0, 1.0, 1.0)


def test_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert statistics.interquartile_mean([-1e9, 1, 2, 3, 4, 5, 6, 1e9]) == 3.5
    assert statistics.interquartile_mean([7.0]) == 7.0


def test_probability_of_improvement_by_hand():
    assert statistics.probability_of_improvement([1, 2], [3, 4]) == 1.0
    assert statistics.probability_of_improvement([3, 4], [1, 2]) == 0.0
    assert statistics.probability_of_improvement([math.inf], [math.inf]) == 0.5
    assert statistics.probability_of_improvement([1.0, math.inf], [2.0, 2.0]) == 0.5


def test_paper_count_by_hand():
    found = statistics.paper_count(
        [1.0, 1.0, 1.0, math.inf, math.inf], [1.2, 1.05, 0.95, 1.0, math.inf]
    )
    assert list(found.values()) == [1, 2, 1, 1]


def wider(x: list[float]) -> tuple[float, float, float]:
    """The mean of few units between the bounds of a t interval at 96.5%, by scipy."""
    low, high = stats.ttest_1samp(x, 0.0).confidence_interval(0.965)
    return float(np.mean(x)), low, high


@pytest.mark.parametrize("n", [2, 19, 20, 40])
def test_few_units_have_a_wider_interval(n):
    x = np.random.default_rng(n).normal(size=n)
    found, plain = statistics.mean_interval(x), statistics.cell_interval(x)
    assert (found[:3] == plain[:3]) == (n >= 20)
    if n < 20:
        assert found[:3] == pytest.approx(wider(list(x)))
        assert found.p == pytest.approx(min(1.0, plain.p / 0.7))


def test_a_median_over_few_data_sets_reaches_as_far_as_either_interval():
    x, sets = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 5.0, 5.1], list("aaaaaabb")
    found, alone = statistics.median_interval(x, sets), statistics.median_interval(x)
    coarse = wider([0.25, 5.05])
    assert (found.estimate, found.over) == (alone.estimate, "data sets")
    assert (found.low, found.high) == pytest.approx((min(coarse[1], alone.low), coarse[2]))
    assert found.beside == alone
    assert found.p >= alone.p


@pytest.mark.parametrize("runs", [1, 2, 5, 8])
def test_diverged_runs_are_compared_by_scipy_s_exact_test(runs):
    for ours, theirs in itertools.product(range(runs + 1), repeat=2):
        wanted = stats.fisher_exact([[ours, runs - ours], [theirs, runs - theirs]]).pvalue
        assert statistics.divergence_p(ours, theirs, runs) == pytest.approx(wanted)


def test_tasks_are_the_units_whatever_their_seeds():
    few, many = [[0.0, 0.2], [0.4]], [[0.0, 0.2] * 50, [0.4] * 30]
    for groups in (few, many):
        found = statistics.mean_interval(groups)
        assert found[:3] == pytest.approx(wider([0.1, 0.4]))
        assert (found.n, found.over) == (2, "tasks")


def test_one_task_has_its_seeds_as_units():
    found = statistics.mean_interval([[[0.0, 0.2], [0.3, 0.5], [0.1, 0.1]]])
    assert found == statistics.cell_interval([0.1, 0.4, 0.1])


def test_few_data_sets_widen_what_their_tasks_say():
    """Eight tasks on two data sets that differ: eight agree with themselves, two say little."""
    x = [0.1, 0.11, 0.09, 0.1, 0.3, 0.31, 0.29, 0.3]
    found = statistics.mean_interval(x, list("aaaabbbb"))
    assert (found.n, found.over) == (2, "data sets")
    assert found[:3] == pytest.approx(wider([0.1, 0.3]))
    assert found.beside == statistics.mean_interval(x)
    assert found.p > found.beside.p
    assert statistics.mean_interval(x, list("abcdefgh")).beside is None


def test_tasks_that_differ_on_data_sets_that_do_not_keep_their_own_interval():
    found = statistics.mean_interval([-1.0, 1.0, -1.0, 1.0, -1.0, 1.01], list("aabbcc"))
    assert (found.over, found.beside.over) == ("tasks", "data sets")


def test_many_data_sets_are_the_units():
    x, sets = np.random.default_rng(0).normal(size=24), [str(i // 2) for i in range(24)]
    found = statistics.mean_interval(x, sets)
    assert (found.n, found.over, found.beside) == (12, "data sets", None)
    assert found.estimate == pytest.approx(x.mean())


def test_a_median_takes_what_is_infinite_and_needs_six_units():
    assert statistics.median_interval([0.1] * 5).low == -math.inf
    found = statistics.median_interval([math.inf, *[0.1] * 6, -math.inf])
    assert (found.estimate, found.low, found.high) == (0.1, -math.inf, math.inf)
    assert statistics.median_interval([[0.0, 0.1, 9.0]] * 6).estimate == 0.1


def test_holm_steps_down():
    assert statistics.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@pytest.mark.parametrize("seeds", [3, 5, 8, 12])
def test_a_method_against_itself_is_rarely_declared_different(seeds):
    """Negative control: equal methods with 5% noise; 5% of the cells may err, plus chance."""
    rng = np.random.default_rng(seeds)
    said = [
        statistics.verdict(statistics.cell_interval(rng.normal(0, 0.05, seeds))) for _ in range(150)
    ]
    assert said.count("better") <= 16
    assert said.count("worse") <= 16


@pytest.mark.parametrize("seeds", [5, 8, 12])
def test_three_percent_more_loss_is_never_called_non_inferior(seeds):
    """Negative control: the same runs with 3% more loss, 0.5% noise."""
    rng = np.random.default_rng(seeds)
    for _ in range(100):
        x = LOG(1.03) + rng.normal(0, 0.005, seeds)
        said = statistics.verdict(statistics.cell_interval(x))
        assert said in ("worse", "undecided")


def test_ratio_is_the_exponential_and_does_not_overflow():
    assert Interval(LOG(1.5), LOG(0.5), 1e6, 5).ratio() == pytest.approx((1.5, 0.5, math.inf))
