"""One rule, several runtimes: NumPy, torch and jax arrays, and the branching floats."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from ratewise.rules.greedy import REASONS, GreedyState, init, update
from ratewise.rules.greedy_config import GreedyConfig, GreedyLimits
from ratewise.rules.greedy_float import FloatGreedy

RUNS, STEPS = 40, 60


def random_config(rng: random.Random, **fixed) -> GreedyConfig:
    settings = {
        "criterion": rng.choice(["count", "significance"]),
        "factor": rng.choice([0.5, 0.9, 0.95]),
        "patience": rng.choice([0, 1, 3]),
        "window": rng.choice([1, 2, 3, 5, 8]),
        "threshold": rng.choice([0.0, 1e-4, 0.1]),
        "threshold_mode": rng.choice(["rel", "abs"]),
        "reference": rng.choice(["best", "previous"]),
        "plateau": rng.choice(["bad", "neutral"]),
        "warmup": rng.choice([0, 1, 4]),
        "cooldown": rng.choice([0, 1, 4]),
        "stage": rng.choice(["extend", "ignore", "hold"]),
        "mode": rng.choice(["min", "max"]),
        "reset_after": rng.choice([None, 1, 3]),
        "eps": rng.choice([0.0, 1e-8, 0.2]),
        "eps_mode": rng.choice(["rel", "abs"]),
        "first": rng.choice(["none", "good"]),
        "on_nonfinite": rng.choice(["bad", "skip", "raise"]),
    }
    settings |= fixed
    if settings["criterion"] == "significance" and "window" not in fixed:
        settings["window"] = rng.choice([7, 8, 13, 20, 200])
    return GreedyConfig(**settings)


def random_limits(rng: random.Random) -> GreedyLimits:
    groups = rng.choice([1, 2])
    return GreedyLimits((0.1, 0.2)[:groups], (4.0, 10.0)[:groups], (1e-3, 1e-2)[:groups])


def random_losses(rng: random.Random, steps: int = STEPS) -> list[float]:
    """A loss that falls and then rises, with the odd constant, jump and non-finite value."""
    odd = [1.0, 1.0, -1.0, 0.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 1e-323]
    smooth = [math.exp(rng.gauss(-min(t, 40 - t / 2) / 20, 0.1)) for t in range(steps)]
    return [rng.choice(odd) if rng.random() < 0.2 else loss for loss in smooth]


def fields(state: GreedyState, config: GreedyConfig) -> dict[str, object]:
    """The state of the shared definition in the words of `FloatGreedy.state`."""
    ring = (
        {}
        if config.smoothing == 1
        else {
            "values": [float(value) for value in state.ring.values],
            "position": int(state.ring.position),
            "count": int(state.ring.count),
        }
    )
    evidence = {}
    if state.evidence is not None:
        e = state.evidence
        evidence = {
            "values": [float(value) for value in e.values[: int(e.count)]],
            "best": [float(value) for value in e.best[: int(e.best_count)]],
            **{k: float(getattr(e, k)) for k in ("mean", "before", "errors")},
        }
    return ring | {
        "evidence": evidence or None,
        "scale": [float(scale) for scale in state.scale],
        "reference": float(state.reference),
        "known": bool(state.known),
        **{k: int(getattr(state, k)) for k in ("good", "bad", "stage", "floored", "reason")},
    }


def assert_equal_along(rng: random.Random, xp, zero, runs: int) -> set[str]:
    """Follow `runs` random runs in both, compare every field, return the reasons that came up."""
    reasons = set()
    for _ in range(runs):
        config, limits = random_config(rng), random_limits(rng)
        floats = FloatGreedy(config, limits)
        state = init(config, groups=len(limits.lower), zero=zero, xp=xp)
        for step, loss in enumerate(random_losses(rng)):
            floats.update(loss)
            state = update(state, loss=loss, config=config, limits=limits, xp=xp)
            shared = fields(state, config)
            if state.evidence is not None:
                pairs = int(state.evidence.trend), int(state.evidence.excess)
                assert pairs == (floats.evidence.trend, floats.evidence.excess), (config, step)
            assert shared == {k: v for k, v in floats.state().items() if k in shared}, (
                config,
                step,
            )
            reasons.add(REASONS[floats.reason])
    return reasons


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of overflow; it is meant here
def test_floats_equal_numpy_in_every_field():
    assert assert_equal_along(random.Random(0), np, None, 300) == set(REASONS)


def test_floats_equal_torch_in_every_field():
    zero = torch.zeros((), dtype=torch.float64)
    assert assert_equal_along(random.Random(1), torch, zero, RUNS) == set(REASONS)


def test_floats_equal_jax_in_every_field():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        import jax.numpy as jnp

        zero = jnp.zeros((), dtype=jnp.float64)
        assert len(assert_equal_along(random.Random(2), jnp, zero, 6)) > 4


@pytest.mark.parametrize(("above", "at_bound"), [(0, True), (1, True), (8, True), (64, False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scale_a_few_roundings_above_its_bound_is_at_it(above, at_bound, dtype):
    config = GreedyConfig(factor=0.5, patience=0, window=1, reset_after=9)
    low = 0.5 / (1.0 + above * torch.finfo(dtype).eps)  # 1 -> 0.5, above `low` by roundings
    limits = GreedyLimits((low,), (4.0,), (0.0,))
    state = init(config, zero=torch.zeros((), dtype=dtype), xp=torch)
    floats = FloatGreedy(config, limits)
    for loss in (1.0, 1.0):
        state = update(state, loss=torch.tensor(loss), config=config, limits=limits, xp=torch)
        floats.update(loss)
    assert int(state.floored) == at_bound
    if dtype == torch.float64:
        assert floats.floored == at_bound


def test_jit_compiles_the_rule():
    jax = pytest.importorskip("jax")
    import jax.numpy as jnp

    config = GreedyConfig(factor=0.5, patience=1, window=3)
    step = jax.jit(lambda state, loss: update(state, loss=loss, config=config, xp=jnp))
    state = init(config, zero=jnp.zeros(()), xp=jnp)
    for loss in (4.0, 3.0, 2.0, 1.0):
        state = step(state, loss)
    assert float(state.scale[0]) == 2.0


def test_a_batch_of_runs_equals_single_runs():
    rng = random.Random(3)
    for _ in range(10):
        config, limits = random_config(rng), random_limits(rng)
        losses = torch.tensor([random_losses(rng) for _ in range(8)], dtype=torch.float64)
        zero = torch.zeros(8, dtype=torch.float64)
        batch = init(config, groups=len(limits.lower), zero=zero, xp=torch)
        singles = [FloatGreedy(config, limits) for _ in range(8)]
        for step in range(STEPS):
            batch = update(batch, loss=losses[:, step], config=config, limits=limits, xp=torch)
            for run, single in enumerate(singles):
                single.update(losses[run, step].item())
                assert [float(scale[run]) for scale in batch.scale] == single.scale


def test_float32_agrees_away_from_its_thresholds():
    rng = random.Random(4)
    for _ in range(10):
        config = random_config(rng, threshold=0.01, threshold_mode="rel", eps=1e-6)
        limits = GreedyLimits.relative()
        double, single = (
            init(config, zero=torch.zeros((), dtype=kind), xp=torch)
            for kind in (torch.float64, torch.float32)
        )
        for step in range(STEPS):
            loss = 2.0 ** (-step % 7) * (1 + rng.random())
            double = update(double, loss=loss, config=config, limits=limits, xp=torch)
            single = update(single, loss=loss, config=config, limits=limits, xp=torch)
            assert single.scale[0].dtype == torch.float32
            torch.testing.assert_close(single.scale[0].double(), double.scale[0], rtol=1e-5, atol=0)


def test_a_changed_transcription_would_be_noticed():
    class Careless(FloatGreedy):
        """Forgets that an increase ends a row of good steps."""

        def update(self, loss: float) -> None:
            good = self.good
            super().update(loss)
            if self.good < good:
                self.good = good

    config = GreedyConfig(factor=0.5, patience=1, window=1)
    careless, right = (kind(config, GreedyLimits.relative()) for kind in (Careless, FloatGreedy))
    for loss in (5.0, 4.0, 3.0, 2.0):
        careless.update(loss)
        right.update(loss)
    assert careless.state() != right.state()


def test_state_does_not_grow_with_the_run():
    rule = FloatGreedy(GreedyConfig(window=50), GreedyLimits.relative())
    rule.update(1.0)
    size = len(repr(rule.state()).split(","))
    for step in range(5000):
        rule.update(1.0 / (step + 1))
    assert len(repr(rule.state()).split(",")) == size
