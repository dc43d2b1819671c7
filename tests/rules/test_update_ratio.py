"""The update-ratio rule: one definition in two runtimes, against a literal twin, and its bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ratewise.errors import InvalidArgument
from ratewise.rules.ratio_law import DEFAULT, default_ratio
from ratewise.rules.update_ratio import (
    EARLY,
    LEAST_RMS,
    UpdateRatioConfig,
    UpdateRatioState,
    floored,
    init,
    typical_rms,
    update,
)

pytestmark = pytest.mark.numerics

CONFIGS = st.builds(
    UpdateRatioConfig,
    ratio=st.floats(1e-4, 0.1),
    gain=st.floats(0.05, 1.0),
    start=st.floats(0.01, 1.0),
    rise=st.floats(1.01, 4.0),
    fall=st.floats(1.01, 8.0),
    cap=st.floats(1.0, 4.0),
)
#: What may be measured: nothing, anything, and what is no number.
UNITS = st.one_of(
    st.just(0.0),
    st.floats(1e-12, 1e9),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e-323, 1e308]),
)
TRAJECTORIES = st.lists(st.tuples(UNITS, st.integers(1, 20)), min_size=1, max_size=30)


def twin(factor: float, unit: float, steps: int, c: UpdateRatioConfig) -> tuple[float, float]:
    """Return the factor applied and the factor kept, by branches on Python numbers."""
    if not math.isfinite(unit) or unit <= 0 or not math.isfinite(c.ratio / unit):
        return factor, factor
    wanted = c.ratio / unit
    if factor == 0:
        new = c.start * wanted
    else:
        new = factor * (wanted / factor) ** c.gain
        new = max(min(new, factor * c.rise**steps), factor / c.fall**steps)
    new = min(max(new, c.low), c.high)
    return min(new, c.cap * wanted), new


@settings(max_examples=200, deadline=None)
@given(CONFIGS, TRAJECTORIES)
def test_it_is_the_literal_twin_at_every_step(config: UpdateRatioConfig, trajectory: Any):
    state, factor = init(1), 0.0
    for unit, steps in trajectory:
        with np.errstate(all="ignore"):
            applied, state = update(state, unit=np.array([unit]), config=config, steps=steps)
        wanted, factor = twin(factor, unit, steps, config)
        assert float(applied[0]) == pytest.approx(wanted, rel=1e-9, abs=0)
        assert float(state.factor[0]) == pytest.approx(factor, rel=1e-9, abs=0)


@settings(max_examples=100, deadline=None)
@given(CONFIGS, TRAJECTORIES)
def test_numpy_and_torch_agree(config: UpdateRatioConfig, trajectory: Any):
    one, other = init(2), init(2, zero=torch.tensor(0.0, dtype=torch.float64), xp=torch)
    for unit, steps in trajectory:
        units = np.array([unit, 0.1])
        with np.errstate(all="ignore"):
            first, one = update(one, unit=units, config=config, steps=steps)
        second, other = update(
            other, unit=torch.from_numpy(units), config=config, steps=steps, xp=torch
        )
        np.testing.assert_allclose(first, second.numpy(), rtol=1e-12)
        np.testing.assert_allclose(one.factor, other.factor.numpy(), rtol=1e-12)


@settings(max_examples=200, deadline=None)
@given(CONFIGS, TRAJECTORIES)
def test_no_step_exceeds_the_cap_and_no_factor_its_limits(
    config: UpdateRatioConfig, trajectory: Any
):
    state = init(1)
    for unit, steps in trajectory:
        old = float(state.factor[0])
        with np.errstate(all="ignore"):
            applied, state = update(state, unit=np.array([unit]), config=config, steps=steps)
        new = float(state.factor[0])
        assert math.isfinite(new)
        assert new == 0 or config.low <= new <= config.high
        if math.isfinite(unit) and unit > 0 and math.isfinite(config.ratio / unit):
            assert float(applied[0]) * unit <= config.cap * config.ratio * (1 + 1e-9)
            if old:
                assert new <= old * config.rise**steps * (1 + 1e-9)
        else:
            assert new == old == float(applied[0])


@pytest.mark.parametrize("rate", [1e-4, 1.0, 1e4])
def test_from_any_rate_it_comes_to_the_ratio_and_stays(rate: float):
    config = UpdateRatioConfig(ratio=0.02)
    state = init(1)
    seen = []
    for _ in range(60):
        applied, state = update(state, unit=np.array([0.3 * rate]), config=config)
        seen.append(float(applied[0]) * 0.3 * rate)
    assert seen[0] == pytest.approx(0.02 * config.start)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.02, rel=1e-6)


def test_limits_are_a_step_s_not_a_decision_s():
    """Ten decisions at every step rise as far as one after ten steps."""
    config = UpdateRatioConfig(gain=1.0, rise=1.1)
    state = UpdateRatioState(np.array([1.0]), np.array([1.0]), np.array(1.0))
    often = state
    for _ in range(10):
        _, often = update(often, unit=np.array([1e-9]), config=config)
    _, once = update(state, unit=np.array([1e-9]), config=config, steps=10)
    assert float(often.factor[0]) == pytest.approx(float(once.factor[0]))
    _, unlimited = update(
        state, unit=np.array([1e-4]), config=UpdateRatioConfig(gain=1.0, rise=9.0), steps=10**6
    )
    assert float(unlimited.factor[0]) == pytest.approx(100.0)


def test_a_spike_is_cut_at_once_and_hardly_remembered():
    config = UpdateRatioConfig(ratio=0.01)
    state = UpdateRatioState(np.array([1.0]), np.array([1.0]), np.array(1.0))
    applied, state = update(state, unit=np.array([1.0]), config=config)  # a hundred times more
    assert float(applied[0]) == pytest.approx(0.02)
    assert float(state.factor[0]) == pytest.approx(0.5)
    careless = UpdateRatioConfig(ratio=0.01, cap=math.inf)
    applied, _ = update(
        UpdateRatioState(np.array([1.0]), np.array([1.0]), np.array(1.0)),
        unit=np.array([1.0]),
        config=careless,
    )
    assert float(applied[0]) == pytest.approx(0.5), "without the cap it is not cut"


def test_the_typical_weight_is_not_drowned_by_one_embedding():
    norms = np.array([100.0, 0.5, 0.5, 30.0, 0.0])
    sizes = np.array([1e4, 1e4, 1e4, 900.0, 1e4])
    matrices = np.array([True, True, True, False, True])
    typical = float(typical_rms(norms, sizes, matrices))
    assert typical == pytest.approx((1.0 * 0.005 * 0.005) ** (1 / 3))
    drowned = math.sqrt((norms**2).sum() / sizes.sum())
    assert drowned > 10 * typical
    for none in (np.zeros(5), np.array([0.0, 0, 0, 30.0, 0])):
        assert float(typical_rms(none, sizes, matrices)) == LEAST_RMS
    both = typical_rms(*map(torch.from_numpy, (norms, sizes, matrices)), xp=torch)
    assert float(both) == pytest.approx(typical)


def test_a_norm_counts_as_a_typical_one_s_at_least():
    norms, sizes = np.array([0.0, 3.0]), np.array([16.0, 9.0])
    assert floored(norms, sizes, np.array(0.1), floor=0.5).tolist() == pytest.approx([0.2, 3.0])


def test_the_default_ratio_falls_with_the_horizon():
    ratios = [default_ratio(steps) for steps in (1, 100, 300, 1200, 10**6)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[2] == DEFAULT.level
    assert ratios[3] == pytest.approx(DEFAULT.level * 4**-DEFAULT.power)
    assert max(ratios) <= DEFAULT.most
    assert default_ratio(None) == DEFAULT.unknown


def test_after_the_first_steps_a_factor_has_a_reach():
    """Gradients that vanish would raise it for ever; the control has no limit."""
    highest = {}
    for reach in (3.0, math.inf):
        config = UpdateRatioConfig(ratio=0.01, reach=reach)
        state = init(1)
        for step in range(200):
            unit = np.array([0.1 if step < EARLY else 0.1 * 0.95 ** (step - EARLY)])
            _, state = update(state, unit=unit, config=config, early=step < EARLY)
        highest[reach] = float(state.factor[0]) / 0.1
    assert highest[3.0] == pytest.approx(3.0, rel=1e-3)
    assert highest[math.inf] > 100


def test_what_comes_late_has_a_reach_from_its_own_start():
    config = UpdateRatioConfig(ratio=0.01, start=0.5, reach=3.0)
    state = init(1)
    for _ in range(50):
        _, state = update(state, unit=np.array([0.1]), config=config, early=False)
    assert float(state.factor[0]) == pytest.approx(0.1)
    for _ in range(50):
        _, state = update(state, unit=np.array([1e-3]), config=config, early=False)
    assert float(state.factor[0]) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"ratio": 0.0}, r"ratio must be a number in \(0, 1\]"),
        ({"ratio": math.nan}, "ratio"),
        ({"ratio": True}, "ratio"),
        ({"gain": 1.5}, "gain must be a number in"),
        ({"start": 0}, "start must be a number in"),
        ({"reach": 0.9}, "reach must be a number >= 1"),
        ({"rise": 1.0}, "rise must be a number > 1"),
        ({"fall": 0.5}, "fall must be a number > 1"),
        ({"cap": 0.9}, "cap must be a number >= 1"),
        ({"floor": 0.0}, "floor must be a finite number > 0"),
        ({"low": 2.0, "high": 1.0}, "bounds must be two finite numbers"),
        ({"high": math.inf}, "bounds"),
    ],
)
def test_bad_settings_are_named(setting: dict[str, Any], words: str):
    with pytest.raises(InvalidArgument, match=words):
        UpdateRatioConfig(**setting)
