"""GreedyLR in optax: torch's rates, under jit, scan and vmap, to the bit after a resume."""

from __future__ import annotations

import importlib
import math
import random
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from tests.greedy_options import arguments

from ratewise.errors import InvalidArgument, MissingExtra, MissingLoss, UnknownName, WrongType
from ratewise.integrations.optax import (
    GreedyScaleState,
    current_scale,
    greedy,
    last_reason,
    planned,
)
from ratewise.rules.criterion import LEAST_METRICS
from ratewise.rules.greedy import REASONS
from ratewise.rules.greedy_config import GreedyConfig, GreedyLimits
from ratewise.rules.greedy_float import FloatGreedy
from ratewise.rules.plan import Plan
from ratewise.schedulers.greedy import GreedyLR

BASE = 0.125  # a power of two, so that dividing a rate by it rounds nothing
STEPS = 60
#: Moves often, in both directions.
LIVELY = {
    "factor": 0.5,
    "patience": 1,
    "window": 1,
    "config": GreedyConfig(reference="previous"),
    "max_scale": 4.0,
}
#: Settings other than those, one at a time.
OTHER = {"factor": 0.51, "patience": 2, "window": 3, "config": GreedyConfig(), "max_scale": 2.0}
OTHER |= {"mode": "max", "warmup": 1, "decide_every": 2, "warmup_steps": 1}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def random_losses(rng: random.Random, steps: int = STEPS) -> list[float]:
    """A loss that falls, rises and falls below zero, with odd and non-finite values in between."""
    odd = [1.0, 1.0, -1.0, 0.0, math.nan, math.inf, -math.inf, 1e308, -1e308]
    shift = rng.choice([0.0, 0.0, -2.0])
    smooth = [math.exp(rng.gauss(-min(t, 40 - t / 2) / 20, 0.1)) + shift for t in range(steps)]
    return [rng.choice(odd) if rng.random() < 0.15 else loss for loss in smooth]


def random_settings(rng: random.Random, stage: str) -> dict:
    """Settings of the rule, without bounds."""
    return {
        "factor": rng.choice([0.5, 0.9]),
        "patience": rng.choice([0, 1, 3]),
        "window": rng.choice([1, 2, 3, 8]),
        "threshold": rng.choice([0.0, 1e-4, 0.1]),
        "threshold_mode": rng.choice(["rel", "abs"]),
        "reference": rng.choice(["best", "previous"]),
        "plateau": rng.choice(["bad", "neutral"]),
        "warmup": rng.choice([0, 1, 4]),
        "cooldown": rng.choice([0, 1, 4]),
        "stage": stage,
        "mode": rng.choice(["min", "max"]),
        "reset_after": rng.choice([None, 1, 3]),
        "eps": rng.choice([0.0, 1e-8, 0.2]),
        "first": rng.choice(["none", "good"]),
        "on_nonfinite": rng.choice(["bad", "skip"]),
    }


def advance(tx, state, loss):
    """One step of updates that are all 1: what is applied is the scale."""
    return tx.update(jnp.ones(()), state, value=loss)


def scan(tx, losses):
    """Return the last state, and the scale of each update with the reason's code after it."""

    def step(state, loss):
        applied, state = advance(tx, state, loss)
        return state, (applied, state.rule.reason)

    return jax.lax.scan(step, tx.init(None), losses)


compiled_scan = jax.jit(scan, static_argnums=0)


def scanned(tx, losses) -> tuple[GreedyScaleState, np.ndarray, list[str]]:
    """Return the last state, the scale of each update and the reason after it."""
    state, (applied, codes) = compiled_scan(tx, jnp.asarray(losses))
    return state, np.asarray(applied), [REASONS[code] for code in codes]


def in_torch(losses, *, min_scale=0.1, max_scale=10.0, **settings) -> list[float]:
    """Return the rate of each optimizer step over the base rate, under torch's GreedyLR."""
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([weight], lr=BASE)
    bounds = {"min_lr": BASE * min_scale, "max_lr": BASE * max_scale}
    scheduler = GreedyLR(optimizer, **bounds, **arguments(**settings))
    scales = []
    for loss in losses:
        scales.append(optimizer.param_groups[0]["lr"] / BASE)
        optimizer.step()
        scheduler.step(loss)
    return scales


def by_hand(losses, *, decide_every=1, warmup_steps=0, min_scale=0.1, max_scale=10.0, **settings):
    """Return each update's scale and the reason after it: ramp and periods, written literally."""
    limits = GreedyLimits((min_scale,), (max_scale,), (0.0,))
    rule = FloatGreedy(GreedyConfig(**settings), limits)
    scales, reasons, period = [], [], []
    for step, loss in enumerate(losses):
        if step < warmup_steps:
            scales.append((step + 1) / (warmup_steps + 1))
        else:
            scales.append(rule.scale[0])
            period.append(loss)
        if len(period) == decide_every:
            finite = [value for value in period if math.isfinite(value)]
            whole = len(finite) == decide_every or (
                settings.get("on_nonfinite") == "skip" and finite
            )
            rule.update(sum(finite) / len(finite) if whole else math.nan)
            period = []
        reasons.append(REASONS[rule.reason])
    return scales, reasons


def assert_equals_torch(tx, losses, **settings) -> set[float]:
    _, scales, _ = scanned(tx, losses)
    np.testing.assert_allclose(scales, in_torch(losses, **settings), rtol=1e-12, atol=0)
    return set(scales.tolist())


@pytest.mark.parametrize("stage", ["extend", "ignore", "hold"])
def test_rates_are_those_of_torch(x64, stage):
    rng = random.Random(stage)
    seen = set()
    for _ in range(6):
        settings = random_settings(rng, stage)
        settings |= {"min_scale": rng.choice([0.1, 0.5]), "max_scale": rng.choice([4.0, 10.0])}
        tx = greedy(**arguments(**settings))
        for _ in range(3):
            seen |= assert_equals_torch(tx, random_losses(rng), **settings)
    assert min(seen) < 1.0 < max(seen)
    assert len(assert_equals_torch(greedy(), [math.exp(-t / 30) for t in range(60)])) > 3


@pytest.mark.parametrize("more", [{}, {"warmup_steps": 9}, {"decide_every": 2}], ids=str)
def test_the_run_s_length_decides_the_criterion_and_the_end_as_in_torch(x64, more):
    rng = random.Random(3)
    steps = LEAST_METRICS * more.get("decide_every", 1) + more.get("warmup_steps", 0)
    losses = [2 * math.exp(-t / 100) + rng.gauss(0, 0.2) for t in range(steps)]
    for length in (steps, steps - 1):
        settings = more | {"total_steps": length}
        _, scales, _ = scanned(greedy(**settings), losses[:length])
        np.testing.assert_allclose(scales, in_torch(losses[:length], **settings), rtol=1e-9)
        waits = in_torch(losses[:length], criterion="significance", **settings)
        assert np.allclose(scales, waits) == (length == steps)
        assert (scales[-1] < 0.05) == (length == steps)  # counting stays at a tenth or above


def test_beyond_its_length_a_run_that_ends_annealed_stands_still():
    tx = greedy(criterion="significance", total_steps=10)
    assert scanned(tx, [1.0] * 13)[1].tolist()[10:] == [0.0] * 3
    with pytest.raises(InvalidArgument, match="total_steps"):
        greedy(total_steps=5, warmup_steps=5)


def test_comparison_notices_a_scale_that_is_applied_one_step_early(x64):
    tx = greedy(**LIVELY)

    def update(updates, state, params=None, *, value):
        _, state = tx.update(updates, state, params, value=value)
        return updates * current_scale(state), state

    early = optax.GradientTransformationExtraArgs(tx.init, update)
    losses = random_losses(random.Random(2))
    assert len(assert_equals_torch(tx, losses, **LIVELY)) >= 3
    with pytest.raises(AssertionError):
        assert_equals_torch(early, losses, **LIVELY)


@pytest.mark.parametrize("name", OTHER)
def test_comparison_notices_another_setting(x64, name):
    losses = random_losses(random.Random(2))
    with pytest.raises(AssertionError):
        assert_equals_torch(greedy(**LIVELY | {name: OTHER[name]}), losses, **LIVELY)


def test_ramp_in_numbers():
    """Losses of the ramp would have raised the scale at once, and are not looked at."""
    tx = greedy(factor=0.5, patience=0, window=1, warmup_steps=3)
    _, scales, reasons = scanned(tx, [9.0, 8.0, 7.0, 6.0, 5.0, 5.5, 1.0])
    assert scales.tolist() == [0.25, 0.5, 0.75, 1.0, 1.0, 2.0, 1.0]
    assert reasons == ["none", "none", "none", "none", "increase", "decrease", "increase"]


@pytest.mark.parametrize("length", [1, 40, 81])
def test_ramp_ends_at_exactly_one_under_jit(length):
    _, scales, _ = scanned(greedy(warmup_steps=length), [1.0] * (length + 3))
    assert scales[0] == np.float32(1 / (length + 1))
    assert (np.diff(scales[: length + 1]) > 0).all()
    assert scales[length:].tolist() == [1.0] * 3


def test_periods_in_numbers():
    """The means are 4, 3, NaN, 2 under "bad", and 4, 3, 1, 2 under "skip"."""
    losses = [5.0, 3.0, 2.0, 4.0, math.nan, 1.0, 2.0, 2.0, 0.0]
    settings = {"factor": 0.5, "patience": 0, "window": 1, "decide_every": 2}
    _, scales, reasons = scanned(greedy(**settings), losses)
    assert scales.tolist() == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0]
    assert reasons[3::2] == ["increase", "decrease", "increase"]
    _, scales, reasons = scanned(greedy(**settings, on_nonfinite="skip"), losses)
    assert scales.tolist() == [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 2.0]
    assert reasons[3::2] == ["increase", "increase", "decrease"]
    losses = [5.0, 3.0, math.nan, math.inf, 1.0, 1.0, 0.0]  # a period without any finite value
    _, scales, reasons = scanned(greedy(**settings, on_nonfinite="skip"), losses)
    assert scales.tolist() == [1.0] * 6 + [2.0]
    assert reasons[1::2] == ["none", "nonfinite", "increase"]


@pytest.mark.parametrize("on_nonfinite", ["bad", "skip"])
def test_periods_and_ramps_as_by_hand(x64, on_nonfinite):
    rng = random.Random(3)
    seen = set()
    for every, warmup_steps in [(2, 0), (3, 5), (1, 4), (5, 7)]:
        settings = random_settings(rng, rng.choice(["extend", "ignore", "hold"]))
        settings |= {"on_nonfinite": on_nonfinite, "patience": 0, "factor": 0.9, "eps": 1e-8}
        settings |= {"decide_every": every, "warmup_steps": warmup_steps}
        tx = greedy(**arguments(**settings))
        for _ in range(3):
            losses = random_losses(rng, 100)
            _, scales, reasons = scanned(tx, losses)
            expected, expected_reasons = by_hand(losses, **settings)
            np.testing.assert_allclose(scales, expected, rtol=1e-12, atol=0)
            assert reasons == expected_reasons
            seen |= set(reasons)
    assert {"increase", "decrease", "nonfinite"} <= seen


def test_scan_jit_and_eager_are_the_same(x64):
    losses = random_losses(random.Random(4), 30)
    tx = greedy(**LIVELY, decide_every=2, warmup_steps=3, warmup=2)
    compiled = jax.jit(lambda state, loss: advance(tx, state, loss))
    eager_state = jit_state = tx.init(None)
    scales, reasons = [], []
    for loss in losses:
        eager, eager_state = advance(tx, eager_state, loss)
        jitted, jit_state = compiled(jit_state, loss)
        scales.append((float(eager), float(jitted)))
        reasons.append(last_reason(jit_state))
        assert last_reason(eager_state) == reasons[-1]
    assert compiled._cache_size() == 1  # a weakly typed state would compile twice
    _, in_scan, reasons_in_scan = scanned(tx, losses)
    np.testing.assert_allclose(scales, np.stack([in_scan] * 2, axis=1), rtol=1e-12, atol=0)
    assert reasons_in_scan == reasons
    assert len(set(in_scan.tolist())) > 5


def test_state_can_be_donated_from_the_start():
    tx = optax.chain(optax.adam(1e-3), greedy())
    params = {"w": jnp.ones(3)}

    def step(params, state, loss):
        updates, state = tx.update(params, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    donating = jax.jit(step, donate_argnums=(0, 1))
    state = tx.init(params)
    for loss in (3.0, 2.0, 1.0):
        params, state = donating(params, state, loss)
    assert float(current_scale(state)) == 1.0


def test_a_batch_of_runs_equals_each_alone(x64):
    rng = random.Random(5)
    tx = greedy(**LIVELY | {"window": 3}, decide_every=2, on_nonfinite="skip")
    losses = jnp.asarray([random_losses(rng) for _ in range(4)])
    states, (scales, _) = jax.jit(jax.vmap(lambda row: scan(tx, row)))(losses)
    for run, row in enumerate(losses):
        state, alone, _ = scanned(tx, row)
        np.testing.assert_allclose(scales[run], alone, rtol=1e-12, atol=0)
        for batched, leaf in zip(jax.tree.leaves(states), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(batched[run], leaf, rtol=1e-12, atol=0)
    assert current_scale(states).shape == (4,)
    assert len({tuple(row) for row in scales.tolist()}) == 4


def test_one_runs_nan_does_not_leak_into_others():
    rng = np.random.default_rng(6)
    clean = np.exp(-np.abs(np.arange(STEPS) - 30) / 10) * (1 + 0.1 * rng.random((3, STEPS)))
    spoilt = clean.copy()
    spoilt[1, 5:] = np.nan
    run = jax.jit(jax.vmap(lambda row: scan(greedy(**LIVELY), row)))
    (states, (scales, _)), (spoilt_states, (spoilt_scales, _)) = run(clean), run(spoilt)
    for leaf, other in zip(jax.tree.leaves(states), jax.tree.leaves(spoilt_states), strict=True):
        np.testing.assert_array_equal(leaf[::2], other[::2])
        assert np.isfinite(other).all()
    np.testing.assert_array_equal(scales[::2], spoilt_scales[::2])
    assert (scales[1] != spoilt_scales[1]).any()
    assert spoilt_scales[1, -1] == np.float32(0.1)


@pytest.mark.parametrize("on_nonfinite", ["bad", "skip"])
@pytest.mark.parametrize("every", [1, 2])
def test_no_value_makes_updates_or_state_non_finite(on_nonfinite, every):
    rng = random.Random(7)
    values = [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45, 0.0, -1.0, 1.0]
    losses = [rng.choice(values) for _ in range(300)]
    tx = greedy(**LIVELY | {"window": 4}, on_nonfinite=on_nonfinite, decide_every=every)
    state, scales, reasons = scanned(tx, losses)
    assert np.isfinite(scales).all()
    assert np.float32(0.1) <= scales.min() < scales.max() <= 4.0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    assert {"nonfinite", "decrease"} <= set(reasons) or on_nonfinite == "skip"


@pytest.mark.parametrize(("on_nonfinite", "end"), [("bad", 0.1), ("skip", 1.0)])
def test_a_diverged_run_ends_at_the_lower_bound_or_holds(on_nonfinite, end):
    losses = [1.0] + [math.nan] * 40
    assert scanned(greedy(**LIVELY, on_nonfinite=on_nonfinite), losses)[1][-1] == np.float32(end)


def test_negative_losses_are_compared_the_right_way_round():
    falling = [-1.0 - step for step in range(12)]
    settings = {"factor": 0.5, "patience": 1, "window": 1, "threshold": 0.01}
    assert scanned(greedy(**settings), falling)[1][-1] == 10.0
    assert scanned(greedy(**settings), falling[::-1])[1][-1] == np.float32(0.1)


@pytest.mark.parametrize("wide", [False, True])
def test_state_is_arrays_of_the_float_type_in_force(wide):
    with jax.enable_x64(wide):
        tx = greedy(window=5, decide_every=2)
        before = tx.init({"w": jnp.ones(2, dtype=jnp.bfloat16)})
        grads = {"w": jnp.ones(2, dtype=jnp.bfloat16), "none": None}
        updates, after = tx.update(grads, before, value=jnp.float16(1.0))
        assert updates["w"].dtype == jnp.bfloat16
        for state in (before, after):
            leaves = jax.tree.leaves(state)
            assert all(isinstance(leaf, jax.Array) and not leaf.weak_type for leaf in leaves)
            floats = {leaf.dtype.name for leaf in leaves if leaf.dtype.kind == "f"}
            assert floats == {"float64" if wide else "float32"}
        kinds, kinds_after = (jax.tree.map(lambda x: x.dtype, each) for each in (before, after))
        assert kinds == kinds_after


def test_resumes_to_the_bit_from_every_step(tmp_path):
    """The rate must rise and fall after the stop, or equal trajectories would show nothing."""
    losses = [2.0 + math.sin(step / 3) + math.sin(step * step) / 20 for step in range(60)]
    losses[20] = losses[35] = math.nan
    settings = {"factor": 0.9, "patience": 0, "window": 2}
    settings |= {"config": GreedyConfig(reference="previous")}
    tx = greedy(**settings, decide_every=2, warmup_steps=3, cooldown=1)
    step = jax.jit(lambda state, loss: advance(tx, state, loss))

    def follow(state, begin):
        scales = []
        for loss in losses[begin:]:
            scale, state = step(state, loss)
            scales.append(float(scale))
        return scales, state

    state = fresh_state = tx.init(None)
    whole, end = follow(state, 0)
    moves = 0
    for stop, loss in enumerate(losses):
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        np.savez(tmp_path / "state.npz", *leaves)
        with np.load(tmp_path / "state.npz") as file:
            loaded = [jnp.asarray(file[name]) for name in file.files]
        resumed = jax.tree.unflatten(jax.tree.structure(fresh_state), loaded)
        scales, resumed_end = follow(resumed, stop)
        assert scales == whole[stop:]
        for leaf, other in zip(jax.tree.leaves(end), jax.tree.leaves(resumed_end), strict=True):
            np.testing.assert_array_equal(leaf, other)
        changes = np.diff(scales)
        moves += (changes > 0).any() and (changes < 0).any()
        _, state = step(state, loss)
    assert moves > 40
    forgetful = state._replace(seen=0 * state.seen, finite=0 * state.finite)
    assert int(state.seen) == 1
    assert follow(forgetful, 0)[0] != follow(state, 0)[0]  # a forgotten half period is noticed


def test_scale_and_reason_are_found_wherever_greedy_stands():
    params = {"w": jnp.ones(2)}
    rule = greedy(factor=0.5, patience=0, window=1)
    for tx in (
        optax.chain(optax.adam(1e-3), rule),
        optax.MultiSteps(optax.chain(optax.sgd(0.1), optax.chain(rule)), every_k_schedule=1),
        optax.masked(rule, {"w": True}),
    ):
        state = tx.init(params)
        for loss in (2.0, 1.0):
            _, state = tx.update(params, state, params, value=loss)
        assert float(current_scale(state)) == 2.0
        assert float(jax.jit(current_scale)(state)) == 2.0
        assert last_reason(state) == "increase"
    with pytest.raises(InvalidArgument, match=r"opt_state .* got '0 of them': chain greedy"):
        current_scale(optax.adam(1e-3).init(params))
    with pytest.raises(InvalidArgument, match="got '2 of them'"):
        last_reason(optax.chain(rule, rule).init(params))


def test_rides_on_a_schedule_of_the_chain():
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    tx = optax.chain(optax.sgd(schedule), greedy(factor=0.5, patience=0, window=1))
    state = tx.init(jnp.zeros(()))
    for loss, rate in zip((4.0, 3.0, 2.0, 1.0), (1.0, 0.75, 0.5 * 2.0, 0.25 * 4.0), strict=True):
        update, state = advance(tx, state, loss)
        assert float(update) == -rate


@pytest.mark.parametrize("transform", [greedy(), optax.chain(optax.adam(1e-3), greedy())])
def test_a_missing_value_is_named_with_what_to_type(transform):
    params = jnp.ones(2)
    state = transform.init(params)
    with pytest.raises(MissingLoss, match=r"tx.update\(grads, state, params, value=loss\)"):
        transform.update(params, state, params)
    with pytest.raises(MissingLoss):
        jax.jit(transform.update)(params, state, params)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(3), InvalidArgument, r"value must be one number, got 'shape \(3,\)'.*mean"),
        (np.ones((1, 2)), InvalidArgument, "one number"),
        (np.ones(0), InvalidArgument, "one number"),
        (True, WrongType, "value must be a real number, got bool"),
        (1j, WrongType, "a real number"),
        ("0.1", WrongType, "got str"),
        ([0.1], WrongType, "got list"),
    ],
)
def test_a_value_that_is_not_one_number_is_named(value, error, message):
    tx = greedy()
    state = tx.init(None)
    with pytest.raises(error, match=message):
        tx.update(jnp.ones(2), state, value=value)
    if isinstance(value, np.ndarray):
        with pytest.raises(error, match=message):  # at trace time, by its shape
            jax.jit(lambda loss: tx.update(jnp.ones(2), state, value=loss))(value)


@pytest.mark.parametrize("value", [1, 2**40, 0.5, np.float64(0.5), np.ones(1), jnp.ones((1, 1))])
def test_one_number_of_any_kind_is_taken(value):
    updates, _ = greedy().update(jnp.ones(2), greedy().init(None), value=value)
    assert updates.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"factor": 1.5}, InvalidArgument, r"factor must be a number in \(0, 1\), got 1.5"),
        ({"patience": -1}, InvalidArgument, "patience"),
        ({"mode": "mni"}, UnknownName, "min"),
        ({"config": GreedyConfig(eps_mode="abs")}, InvalidArgument, "eps_mode must be 'rel'"),
        ({"on_nonfinite": "raise"}, InvalidArgument, "compiled code cannot raise; pass 'bad'"),
        ({"on_nonfinite": "ignore"}, UnknownName, "on_nonfinite"),
        ({"decide_every": 0}, InvalidArgument, "decide_every must be an integer >= 1, got 0"),
        ({"decide_every": True}, InvalidArgument, "decide_every"),
        ({"warmup_steps": 0.5}, InvalidArgument, "warmup_steps must be an integer >= 0"),
        ({"min_scale": 1.1}, InvalidArgument, r"min_scale must be a number in \[0, 1\]"),
        ({"min_scale": -0.1}, InvalidArgument, "min_scale"),
        ({"min_scale": math.nan}, InvalidArgument, "min_scale"),
        ({"max_scale": 0.9}, InvalidArgument, "max_scale must be a finite number >= 1"),
        ({"max_scale": math.inf}, InvalidArgument, "max_scale"),
        ({"max_scale": "10"}, InvalidArgument, "max_scale"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if type(value) is dict else "",
)
def test_a_setting_outside_its_range_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        greedy(**settings)


def test_a_reason_is_of_one_run_outside_jit():
    states = jax.vmap(greedy().init)(jnp.zeros(3))
    with pytest.raises(InvalidArgument, match=r"one run, got 'runs of shape \(3,\)'.*leaf\[0\]"):
        last_reason(states)
    assert last_reason(jax.tree.map(lambda leaf: leaf[0], states)) == "none"
    with pytest.raises(WrongType, match="outside jit"):
        jax.jit(lambda state: len(last_reason(state)))(greedy().init(None))


@pytest.mark.parametrize("missing", ["optax", "jax"])
def test_without_the_library_the_extra_is_named(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "ratewise.integrations.optax")
    message = rf"ratewise.integrations.optax needs '{missing}'.*pip install 'ratewise\[optax\]'"
    with pytest.raises(MissingExtra, match=message):
        importlib.import_module("ratewise.integrations.optax")


def test_softmax_regression_on_digits_learns():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, dtype=jnp.float32), jnp.asarray(labels)
    tx = optax.chain(optax.adam(1e-3), greedy(factor=0.8, window=5))

    def loss_of(params, batch):
        logits = x[batch] @ params["w"] + params["b"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[batch]).mean()

    def step(carry, batch):
        params, state = carry
        loss, grads = jax.value_and_grad(loss_of)(params, batch)
        updates, state = tx.update(grads, state, params, value=loss)
        return (optax.apply_updates(params, updates), state), (loss, current_scale(state))

    params = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
    batches = jax.random.randint(jax.random.key(0), (400, 64), 0, 1500)
    (params, _), (losses, scales) = jax.jit(
        lambda carry: jax.lax.scan(step, carry, batches)  # train on the first 1500
    )((params, tx.init(params)))
    assert float(losses[-20:].mean()) < 0.25 * float(losses[0])
    assert float(scales.max()) > 1.5
    assert float(scales.min()) >= np.float32(0.1)
    accuracy = (jnp.argmax(x[1500:] @ params["w"] + params["b"], axis=1) == y[1500:]).mean()
    assert float(accuracy) > 0.85


def test_a_plan_is_torch_s_rates_under_jit_and_of_another_length_only_as_said():
    plan = Plan(((1, 0.0), (5, 3e-4), (30, 3e-4), (60, 0.0)))
    schedule = jax.jit(planned(plan))
    assert [float(schedule(n)) for n in range(60)] == pytest.approx(list(plan.rates()), rel=1e-5)
    with pytest.raises(InvalidArgument, match="plan is for 60 steps, the run has 119"):
        planned(plan, total_steps=119)
    stretched = planned(plan, total_steps=119, other_length="stretch")
    assert float(stretched(2 * 29)) == pytest.approx(plan.rate(30), rel=1e-5)
