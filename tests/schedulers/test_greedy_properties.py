"""What must hold of GreedyLR for every sequence of metrics and every legal setting."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.greedy_options import arguments
from tests.rules.greedy_twin import GreedyTwin

from ratewise import GreedyLR

torch.set_num_threads(1)
slow = settings(deadline=None, max_examples=150, derandomize=True, database=None)

HOSTILE = (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-323, -1e-323, 0.0, -1.0)
REASONS = {"none", "increase", "decrease", "warmup", "cooldown", "reset", "clamped", "nonfinite"}

#: every legal value that the properties draw from; the first of each is not the default
CHOICES: dict[str, tuple[Any, ...]] = {
    "factor": (0.5, 0.9, 0.95, 0.3),
    "patience": (0, 1, 2, 5),
    "window": (1, 2, 3, 5),
    "threshold": (0.0, 1e-4, 0.1),
    "threshold_mode": ("rel", "abs"),
    "reference": ("best", "previous"),
    "plateau": ("neutral", "bad"),
    "warmup": (0, 1, 3),
    "cooldown": (0, 1, 3),
    "stage": ("extend", "ignore", "hold"),
    "mode": ("min", "max"),
    "reset_after": (None, 1, 2),
    "eps": (0.0, 1e-8, 1e-3),
    "eps_mode": ("rel", "abs"),
    "first": ("none", "good"),
    "on_nonfinite": ("bad", "skip"),
}
options = st.fixed_dictionaries({name: st.sampled_from(v) for name, v in CHOICES.items()})

#: metrics on a grid of 1/1024: sums are exact in any order, so no comparison hangs on rounding
gridded = st.integers(-4096, 4096).map(lambda n: n / 1024)
any_metric = st.one_of(gridded, st.floats(), st.sampled_from(HOSTILE))
rate = st.floats(1e-7, 10.0)


def make_optimizer(rates: Sequence[float]) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates]
    optimizer = torch.optim.SGD(groups, lr=rates[0])
    optimizer.step()
    return optimizer


def follow(scheduler: GreedyLR, metrics: Sequence[float]) -> list[list[float]]:
    """Return the groups' rates after each metric."""
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
    return rates


# -- bounds -----------------------------------------------------------------------------------


@st.composite
def bounded(draw: st.DrawFn) -> tuple[list[float], dict[str, Any], list[float], list[float]]:
    """Draw rates, the bounds as arguments, and what the bounds then are for each group."""
    rates = draw(st.lists(rate, min_size=1, max_size=3))
    kind = draw(st.sampled_from(["default", "one number", "list", "equal"]))
    if kind == "default":
        return rates, {}, [0.1 * r for r in rates], [10.0 * r for r in rates]
    if kind == "equal":
        return rates, {"min_lr": list(rates), "max_lr": list(rates)}, rates, rates
    down, up = draw(st.floats(0.0, 1.0)), draw(st.floats(1.0, 100.0))
    if kind == "one number":
        low, high = down * min(rates), up * max(rates)
        return rates, {"min_lr": low, "max_lr": high}, [low] * len(rates), [high] * len(rates)
    lows, highs = [down * r for r in rates], [up * r for r in rates]
    return rates, {"min_lr": lows, "max_lr": highs}, lows, highs


def assert_within(
    history: list[list[float]], lows: Sequence[float], highs: Sequence[float]
) -> None:
    for step, rates in enumerate(history):
        for low, value, high in zip(lows, rates, highs, strict=True):
            assert math.isfinite(value), (step, value)
            assert low <= value <= high, (step, low, value, high)


@slow
@given(options, bounded(), st.lists(any_metric, max_size=60))
def test_bounds_hold_for_every_sequence(options, bounded, metrics):
    rates, bounds, lows, highs = bounded
    scheduler = GreedyLR(make_optimizer(rates), **arguments(**options), **bounds)
    assert_within(follow(scheduler, metrics), lows, highs)


@pytest.mark.parametrize("metrics", [[1.0 / (t + 1) for t in range(80)], list(range(80))])
def test_bounds_are_reached_and_held_under_a_steady_push(metrics):
    scheduler = GreedyLR(make_optimizer([0.3, 0.007]), factor=0.7, patience=0, window=1)
    history = follow(scheduler, metrics)
    assert_within(history, [0.1 * 0.3, 0.1 * 0.007], [3.0, 0.07])
    side = 10.0 if metrics[1] < metrics[0] else 0.1
    assert history[-1] == pytest.approx([side * 0.3, side * 0.007], rel=1e-12)


def test_an_unclamped_scheduler_is_caught():
    scheduler = GreedyLR(
        make_optimizer([0.3]), factor=0.7, patience=0, window=1, min_lr=0.0, max_lr=1e9
    )
    history = follow(scheduler, [1.0 / (t + 1) for t in range(20)])
    with pytest.raises(AssertionError):
        assert_within(history, [0.03], [3.0])


@slow
@given(options, bounded(), st.lists(any_metric, max_size=40))
def test_with_a_schedule_the_bounds_ride_along(options, bounded, metrics):
    rates, bounds, lows, highs = bounded
    scheduler = GreedyLR(
        make_optimizer(rates), **arguments(**options), **bounds, schedule="cosine", total_steps=40
    )
    for step, metric in enumerate(metrics, start=1):
        scheduler.step(metric)
        height = 0.5 * (1.0 + math.cos(math.pi * step / 40))
        for low, value, high in zip(lows, scheduler.get_last_lr(), highs, strict=True):
            assert low * height * (1 - 1e-12) <= value <= high * height * (1 + 1e-12)


@slow
@given(options, st.lists(st.sampled_from(HOSTILE[:3]), min_size=1, max_size=30), gridded)
def test_non_finite_metrics_leave_no_trace_in_what_is_compared(options, junk, metric):
    """Skipping means: as if they had never come. In no mode does one reach the memory."""
    scheduler = GreedyLR(make_optimizer([0.1]), **arguments(**options))
    clean = GreedyLR(make_optimizer([0.1]), **arguments(**options))
    scheduler.step(metric)
    clean.step(metric)
    follow(scheduler, junk)
    memory = scheduler.state_dict()["ratewise"]["rule"]["memory"]
    assert all(math.isfinite(value) for value in memory["values"])
    assert math.isfinite(memory["reference"])
    if options["on_nonfinite"] == "skip":
        assert follow(scheduler, [metric - 1, metric + 1]) == follow(
            clean, [metric - 1, metric + 1]
        )


# -- resume -----------------------------------------------------------------------------------


def saved_and_loaded(*parts: Any) -> list[dict[str, Any]]:
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(scheduler: GreedyLR, rates: Sequence[float], **options: Any) -> GreedyLR:
    """Return a new scheduler on a new optimizer, both brought back from a file."""
    optimizer_state, state = saved_and_loaded(scheduler.optimizer, scheduler)
    optimizer = make_optimizer(rates)
    copy = GreedyLR(optimizer, **arguments(**options))
    optimizer.load_state_dict(optimizer_state)
    copy.load_state_dict(state)
    return copy


@slow
@given(options, bounded(), st.lists(any_metric, min_size=1, max_size=50), st.data())
def test_resume_at_any_step_gives_the_same_rates_to_the_last_bit(options, bounded, metrics, data):
    rates, bounds, _, _ = bounded
    stop = data.draw(st.integers(0, len(metrics)))
    scheduler = GreedyLR(make_optimizer(rates), **arguments(**options), **bounds)
    follow(scheduler, metrics[:stop])
    copy = resumed(scheduler, rates, **options, **bounds)
    assert copy.get_last_lr() == scheduler.get_last_lr()
    assert copy.last_reason == scheduler.last_reason
    for metric in metrics[stop:]:
        assert follow(copy, [metric]) == follow(scheduler, [metric])
        assert copy.last_reason == scheduler.last_reason


VALLEY = [abs(t - 12.0) + 1.0 for t in range(40)]  # falls for 12 steps, then rises
BRISK = {
    "factor": 0.6,
    "patience": 1,
    "window": 3,
    "warmup": 2,
    "cooldown": 2,
    "stage": "extend",
    "reference": "previous",
}


@pytest.mark.parametrize("options", [{}, {"schedule": "cosine", "total_steps": 50}])
def test_resume_at_every_step_of_a_run_that_rises_and_falls(options):
    whole = follow(GreedyLR(make_optimizer([0.1, 0.03]), **arguments(**BRISK, **options)), VALLEY)
    for stop in range(len(VALLEY) + 1):
        scheduler = GreedyLR(make_optimizer([0.1, 0.03]), **arguments(**BRISK, **options))
        follow(scheduler, VALLEY[:stop])
        rest = follow(resumed(scheduler, [0.1, 0.03], **BRISK, **options), VALLEY[stop:])
        assert rest == whole[stop:]
        if stop <= 2:
            scales = [row[0] for row in rest]
            assert any(b > a for a, b in pairwise(scales))
            assert any(b < a for a, b in pairwise(scales))


@pytest.mark.parametrize(
    ("field", "value"),
    [("good", 0), ("reference", 1.0), ("stage", 0), ("scale", [1.0]), ("values", [0.0] * 4)],
)
def test_a_state_that_lost_one_field_would_be_noticed(field, value):
    whole = follow(GreedyLR(make_optimizer([0.1]), **arguments(**BRISK)), VALLEY)
    noticed = False
    for stop in range(1, len(VALLEY)):
        scheduler = GreedyLR(make_optimizer([0.1]), **arguments(**BRISK))
        follow(scheduler, VALLEY[:stop])
        (state,) = saved_and_loaded(scheduler)
        state["ratewise"]["rule"]["memory"][field] = value
        copy = GreedyLR(make_optimizer([0.1]), **arguments(**BRISK))
        copy.load_state_dict(state)
        noticed = noticed or follow(copy, VALLEY[stop:]) != whole[stop:]
    assert noticed


# -- scale ------------------------------------------------------------------------------------

relative = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in CHOICES.items()}
    | {"threshold_mode": st.just("rel"), "eps_mode": st.just("rel")}
)


@slow
@given(
    relative,
    st.lists(rate, min_size=1, max_size=3),
    st.lists(st.one_of(gridded, st.sampled_from(HOSTILE[:3])), max_size=50),
    st.integers(-20, 20),
    st.integers(-20, 20),
)
def test_powers_of_two_on_metrics_and_rates_come_out_exactly(options, rates, metrics, k, j):
    metric_scale, rate_scale = 2.0**k, 2.0**j
    plain = follow(GreedyLR(make_optimizer(rates), **arguments(**options)), metrics)
    scaled = GreedyLR(make_optimizer([r * rate_scale for r in rates]), **arguments(**options))
    assert follow(scaled, [m * metric_scale for m in metrics]) == [
        [r * rate_scale for r in row] for row in plain
    ]


@slow
@given(
    relative.map(lambda options: options | {"threshold": 1e-4}),
    st.lists(st.integers(1, 20), max_size=50),
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1e6),
)
def test_any_constant_on_metrics_and_rates_comes_out(options, metrics, on_metrics, on_rates):
    """Whole metrics below 20 keep every comparison far from a threshold of 1e-4."""
    plain = follow(GreedyLR(make_optimizer([0.1, 0.02]), **arguments(**options)), metrics)
    scaled = follow(
        GreedyLR(make_optimizer([0.1 * on_rates, 0.02 * on_rates]), **arguments(**options)),
        [m * on_metrics for m in metrics],
    )
    for row, other in zip(plain, scaled, strict=True):
        assert other == pytest.approx([r * on_rates for r in row], rel=1e-12, abs=0.0)


@pytest.mark.parametrize("broken", [{"threshold_mode": "abs"}, {"min_lr": 0.04, "max_lr": 6.4}])
def test_absolute_settings_do_not_scale(broken):
    options = {"factor": 0.5, "patience": 0, "window": 1, "threshold": 0.5, "reference": "best"}
    metrics = [64.0, 16.0, 4.0, 1.0, 0.25, 0.0625, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    options = arguments(**options, **broken)
    plain = follow(GreedyLR(make_optimizer([0.1]), **options), metrics)
    scaled = follow(GreedyLR(make_optimizer([6.4]), **options), [m / 64 for m in metrics])
    assert scaled != [[64.0 * r for r in row] for row in plain]


# -- the slow twin ----------------------------------------------------------------------------


def assert_equal_to_twin(
    rates: Sequence[float], options: dict[str, Any], metrics: Sequence[float], **twin: Any
) -> set[str]:
    """Compare every rate, reason and counter at every step; return the reasons that came up."""
    scheduler = GreedyLR(make_optimizer(rates), **arguments(**options))
    literal = GreedyTwin(rates, **(options | twin))
    reasons = set()
    for step, metric in enumerate(metrics):
        scheduler.step(metric)
        literal.step(metric)
        at = (step, metric, options)
        assert scheduler.last_reason == literal.reason, at
        assert scheduler.get_last_lr() == pytest.approx(literal.rates(), rel=1e-12, abs=0.0), at
        memory = scheduler.state_dict()["ratewise"]["rule"]["memory"]
        assert (memory["good"], memory["bad"]) == (literal.good, literal.bad), at
        assert abs(memory["stage"]) == literal.stage_left, at
        assert memory["floored"] == literal.resets_pending, at
        reasons.add(literal.reason)
    return reasons


@slow
@given(options, bounded(), st.lists(any_metric, max_size=60))
def test_every_step_equals_the_twin_without_smoothing(options, bounded, metrics):
    rates, bounds, _, _ = bounded
    assert_equal_to_twin(rates, options | bounds | {"window": 1}, metrics)


@slow
@given(
    options,
    st.lists(st.one_of(gridded, st.sampled_from((math.nan, math.inf))), max_size=60),
    st.sampled_from([2, 3, 5, 8, 50]),
)
def test_every_step_equals_the_twin_with_smoothing(options, metrics, window):
    assert_equal_to_twin([0.1, 0.02], options | {"window": window}, metrics)


def random_case(rng: random.Random) -> tuple[list[float], dict[str, Any], list[float]]:
    options = {name: rng.choice(values) for name, values in CHOICES.items()}
    rates = [rng.choice([0.1, 0.01, 3e-4]) for _ in range(rng.choice([1, 2, 3]))]
    level, metrics = 4.0, []
    for _ in range(80):
        level = max(level + rng.choice([-1, -1, 0, 1, 1, 3]) * rng.choice([1 / 64, 1 / 8]), -8.0)
        metrics.append(math.nan if rng.random() < 0.03 else level)
    return rates, options, metrics


def test_long_random_runs_equal_the_twin_and_meet_every_reason():
    rng = random.Random(0)
    reasons = set()
    for _ in range(150):
        reasons |= assert_equal_to_twin(*random_case(rng))
    assert reasons == REASONS


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_the_twin_notices_every_option(name):
    """Each option, changed in the twin alone, shows within a few runs."""
    rng = random.Random(1)
    for _ in range(100):
        rates, options, metrics = random_case(rng)
        other = rng.choice([value for value in CHOICES[name] if value != options[name]])
        try:
            assert_equal_to_twin(rates, options, metrics, **{name: other})
        except AssertionError:
            return
    pytest.fail(f"no run told {name} apart")


def test_every_step_equals_the_twin_on_a_schedule():
    def shape(step: int) -> float:
        return 1.0 / (1 + step)

    rng = random.Random(2)
    for _ in range(20):
        rates, options, metrics = random_case(rng)
        assert_equal_to_twin(rates, options | {"schedule": shape}, metrics)
