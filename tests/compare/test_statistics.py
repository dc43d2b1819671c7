"""Statistics against cases worked by hand, and against the errors that they must not make."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ratewise.compare import statistics
from ratewise.compare.statistics import Interval
from ratewise.errors import InvalidArgument

LOG = math.log


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 5, "t")


@pytest.mark.parametrize(
    ("freedom", "level", "wanted"),
    [  # any table of Student's t, two-sided
        (1, 0.95, 12.7062),
        (2, 0.95, 4.3027),
        (3, 0.95, 3.1824),
        (4, 0.95, 2.7764),
        (7, 0.95, 2.3646),
        (10, 0.99, 3.1693),
        (30, 0.90, 1.6973),
        (1000, 0.95, 1.9623),
    ],
)
def test_t_quantile_equals_the_tables(freedom, level, wanted):
    assert statistics.t_quantile(level, freedom) == pytest.approx(wanted, abs=6e-5)


def test_paired_t_by_hand():
    # mean 0.02, standard deviation 0.01, so 0.02 +- 4.3027 * 0.01 / sqrt(3)
    found = statistics.paired_t_interval([0.01, 0.02, 0.03])
    assert found.estimate == pytest.approx(0.02)
    assert found.high - found.estimate == pytest.approx(4.30265 * 0.01 / math.sqrt(3), rel=1e-5)
    assert found.low == pytest.approx(0.04 - found.high)


def test_one_run_decides_nothing():
    found = statistics.paired_t_interval([-5.0])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert statistics.verdict(found) == "undecided"
    assert statistics.verdict(statistics.paired_t_interval([])) == "undecided"


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


def test_bootstrap_is_seeded_and_contains_its_estimate():
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(6, 2)) for _ in range(4)]
    first, again, other = (
        statistics.bootstrap_interval(groups, seed=seed, statistic=np.mean) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first.low < first.estimate < first.high
    assert first.n == 24


def test_tasks_with_different_numbers_of_seeds_are_resampled_alike():
    """Two paths in the code, one distribution: adding one seed hardly moves the interval."""
    rng = np.random.default_rng(0)
    groups = [rng.normal(size=(30, 1)) for _ in range(6)]
    even = statistics.bootstrap_interval(groups, seed=1, statistic=np.mean)
    uneven = [*groups[:-1], np.vstack([groups[-1], groups[-1].mean(keepdims=True)])]
    odd = statistics.bootstrap_interval(uneven, seed=1, statistic=np.mean)
    assert odd.low == pytest.approx(even.low, abs=0.03)
    assert odd.high == pytest.approx(even.high, abs=0.03)


def test_bootstrap_of_constants_has_no_width():
    found = statistics.bootstrap_interval([[0.5] * 4, [0.5] * 4], seed=0)
    assert (found.low, found.estimate, found.high) == (0.5, 0.5, 0.5)


def test_bootstrap_resamples_tasks_first():
    """With tasks that differ and seeds that do not, all width comes from the tasks."""
    apart = [[-0.5] * 8, [0.5] * 8, [0.0] * 8]
    by_task = statistics.bootstrap_interval(apart, seed=0, statistic=np.mean)
    pooled = statistics.bootstrap_interval([np.ravel(apart)], seed=0, statistic=np.mean)
    assert by_task.high - by_task.low > 1.5 * (pooled.high - pooled.low)


def test_bootstrap_keeps_what_shares_a_seed_together():
    """Two columns that cancel within a seed leave a mean of 0 in every resample."""
    x = np.random.default_rng(0).normal(size=(8, 1))
    found = statistics.bootstrap_interval([np.hstack([x, -x])], seed=0, statistic=np.mean)
    assert found.high - found.low < 1e-12
    assert statistics.bootstrap_interval([x], seed=0, statistic=np.mean).high > 0.1


@pytest.mark.parametrize("seeds", [3, 5, 8, 12])
def test_a_method_against_itself_is_rarely_declared_different(seeds):
    """Negative control: equal methods with 5% noise; 5% of the cells may err, plus chance."""
    rng = np.random.default_rng(seeds)
    said = [
        statistics.verdict(statistics.cell_interval(rng.normal(0, 0.05, seeds).tolist(), seed=0))
        for _ in range(150)
    ]
    assert said.count("better") <= 16
    assert said.count("worse") <= 16


def test_a_percentile_bootstrap_of_three_would_err_far_more_often():
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(150):
        x = rng.normal(0, 0.05, 3)
        found = statistics.bootstrap_interval([x], seed=0, statistic=np.mean, resamples=300)
        false += not found.low <= 0 <= found.high
    assert false >= 20


@pytest.mark.parametrize("seeds", [5, 8, 12])
def test_three_percent_more_loss_is_never_called_non_inferior(seeds):
    """Negative control: the same runs with 3% more loss, 0.5% noise."""
    rng = np.random.default_rng(seeds)
    for _ in range(100):
        x = LOG(1.03) + rng.normal(0, 0.005, seeds)
        said = statistics.verdict(statistics.cell_interval(x.tolist(), seed=0))
        assert said in ("worse", "undecided")


def test_pooled_interval_does_not_bootstrap_a_handful_of_runs():
    assert statistics.pooled_interval([[0.1, 0.2], [0.3]], seed=0).method == "t"
    assert statistics.pooled_interval([[0.1] * 4, [0.3] * 4], seed=0).method == "bootstrap"


def test_ratio_is_the_exponential_and_does_not_overflow():
    assert Interval(LOG(1.5), LOG(0.5), 1e6, 5, "t").ratio() == pytest.approx((1.5, 0.5, math.inf))
