"""torch's ReduceLROnPlateau as a pure rule: the same bits, in every runtime, for many runs."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ratewise.errors import InvalidArgument, UnknownName
from ratewise.rules.plateau import PlateauConfig, PlateauState, init, update

STEPS = 80

# NumPy warns of overflow and of inf * 0; both are meant here
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def random_config(rng: random.Random, **fixed) -> PlateauConfig:
    settings = {
        "factor": rng.choice([0.1, 0.5, 0.9, 0.97]),
        "patience": rng.choice([0, 1, 3]),
        "threshold": rng.choice([0.0, 1e-4, 0.1, 1.0, 2.0]),
        "threshold_mode": rng.choice(["rel", "abs"]),
        "cooldown": rng.choice([0, 1, 4]),
        "min_scale": rng.choice([0.0, 1e-3, 0.3, 1.0]),
        "eps": rng.choice([0.0, 1e-8, 0.1, 0.5]),
        "mode": rng.choice(["min", "max"]),
    }
    return PlateauConfig(**(settings | fixed))


def random_losses(rng: random.Random, steps: int = STEPS) -> list[float]:
    """A loss that falls and then rises on a coarse grid, so that ties are frequent, and oddities.

    An infinitely good loss ends every improvement, so that the infinite ones come late.
    """
    odd = [1.0, 1.0, -1.0, 0.0, -0.0, math.nan, 1e308, 1e-323]
    endless = [*odd, math.inf, -math.inf, -1e308]
    smooth = [math.exp(rng.gauss(-min(t, 40 - t / 2) / 20, 0.1)) for t in range(steps)]
    return [
        rng.choice(odd if t < steps // 2 else endless) if rng.random() < 0.2 else round(loss, 2)
        for t, loss in enumerate(smooth)
    ]


def by_torch(config: PlateauConfig, losses: list[float], base: float = 1.0) -> list[tuple]:
    """What torch's own scheduler does: rate, best, bad, cooldown after each loss."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=base)
    scheduler = ReduceLROnPlateau(
        optimizer,
        mode=config.mode,
        factor=config.factor,
        patience=config.patience,
        threshold=config.threshold,
        threshold_mode=config.threshold_mode,
        cooldown=config.cooldown,
        min_lr=config.min_scale * base,
        eps=config.eps * base,
    )
    states = []
    for loss in losses:
        scheduler.step(loss)
        rate = optimizer.param_groups[0]["lr"]
        counts = (scheduler.num_bad_epochs, scheduler.cooldown_counter)
        states.append((rate, scheduler.best, *counts))
    return states


def by_rule(config: PlateauConfig, losses: list[float], xp=np, zero=None) -> list[tuple]:
    state = init(config, zero=zero, xp=xp)
    states = []
    for loss in losses:
        state = update(state, loss=loss, config=config, xp=xp)
        states.append(plain(state))
    return states


def plain(state: PlateauState, *index: int) -> tuple:
    scale, best, bad, cooldown = (field[index] if index else field for field in state)
    return float(scale), float(best), int(bad), int(cooldown)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_equals_torch_in_every_field(mode, threshold_mode):
    rng = random.Random(f"{mode}-{threshold_mode}")
    moved = rested = 0
    for _ in range(100):
        config = random_config(rng, mode=mode, threshold_mode=threshold_mode)
        losses = random_losses(rng)
        expected = by_torch(config, losses)
        assert repr(by_rule(config, losses)) == repr(expected), config  # repr tells 0.0 from -0.0
        moved += len({rate for rate, *_ in expected}) - 1
        rested += sum(cooldown > 0 for *_, cooldown in expected)
    assert moved > 100
    assert rested > 100


def test_a_base_rate_scales_bound_and_eps():
    """With a power of two nothing is rounded, so that even here the bits must agree."""
    rng = random.Random(1)
    base = 2.0**-10
    for _ in range(60):
        config, losses = random_config(rng), random_losses(rng)
        scaled = [(scale * base, *rest) for scale, *rest in by_rule(config, losses)]
        assert scaled == by_torch(config, losses, base), config


def test_torch_arrays_equal_numpy():
    rng = random.Random(2)
    zero = torch.zeros((), dtype=torch.float64)
    for _ in range(60):
        config, losses = random_config(rng), random_losses(rng)
        assert by_rule(config, losses, torch, zero) == by_rule(config, losses), config


def test_jax_arrays_equal_numpy():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        import jax.numpy as jnp

        rng = random.Random(3)
        zero = jnp.zeros((), dtype=jnp.float64)
        for _ in range(4):
            config, losses = random_config(rng), random_losses(rng)
            assert by_rule(config, losses, jnp, zero) == by_rule(config, losses), config


@pytest.mark.parametrize("xp", [np, torch])
def test_many_runs_at_once_equal_runs_alone(xp):
    rng = random.Random(4)
    for _ in range(10):
        config = random_config(rng, patience=1, min_scale=0.0)
        runs = [random_losses(rng) for _ in range(12)]
        losses = xp.asarray(runs, dtype=xp.float64)
        state = init(config, zero=xp.zeros(12, dtype=xp.float64), xp=xp)
        alone = [by_rule(config, run) for run in runs]
        for step in range(STEPS):
            state = update(state, loss=losses[:, step], config=config, xp=xp)
            assert [plain(state, run) for run in range(12)] == [run[step] for run in alone]


def test_float32_stays_float32_and_agrees_away_from_ties():
    config = PlateauConfig(factor=0.5, patience=1, threshold=0.01, cooldown=1)
    losses = [4.0, 2.0, 2.0, 2.0, 3.0, 1.0, 2.0, math.nan, 2.0, 2.0]
    expected = by_rule(config, losses)
    for xp in (np, torch):
        state = init(config, zero=xp.zeros(3, dtype=xp.float32), xp=xp)
        for step, loss in enumerate(losses):
            state = update(state, loss=loss, config=config, xp=xp)
            assert plain(state, 1) == expected[step]
        assert state.scale.dtype == state.best.dtype == xp.float32
        assert state.scale.shape == (3,)


@pytest.mark.parametrize(
    "change",
    [
        {"patience": 3},
        {"factor": 0.4},
        {"cooldown": 0},
        {"min_scale": 0.3},
        {"threshold": 0.0},
        {"threshold_mode": "abs"},
        {"mode": "max"},
        {"eps": 0.1},
    ],
)
def test_each_setting_matters(change):
    config = PlateauConfig(factor=0.5, patience=2, threshold=0.1, cooldown=2)
    losses = [4.0, 3.8, 3.7, 3.6] + [0.5 - 0.001 * step for step in range(40)]
    expected = by_torch(config, losses)
    assert by_rule(config, losses) == expected
    assert by_rule(replace(config, **change), losses) != expected


def test_one_transition_of_a_state_in_mid_life():
    config = PlateauConfig(factor=0.5, patience=2, cooldown=3, min_scale=0.2)
    state = PlateauState(*map(np.asarray, (0.3, 1.0, 2, 0)))
    assert plain(update(state, loss=1.0, config=config)) == (0.2, 1.0, 0, 3)
    assert plain(update(state, loss=math.nan, config=config)) == (0.2, 1.0, 0, 3)
    assert plain(update(state, loss=0.5, config=config)) == (0.3, 0.5, 0, 0)
    resting = state._replace(cooldown=np.asarray(1))
    assert plain(update(resting, loss=1.0, config=config)) == (0.3, 1.0, 0, 0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("factor", (0, 1, 1.0, -0.5, math.nan, True, "0.1")),
        ("patience", (-1, 1.0, True, None)),
        ("cooldown", (-1, 0.5, False)),
        ("threshold", (-1e-4, math.inf, math.nan, None)),
        ("eps", (-1.0, math.inf, True)),
        ("min_scale", (-0.1, 1.5, math.nan, [0.0])),
    ],
)
def test_names_what_is_wrong(name, values):
    for value in values:
        with pytest.raises(InvalidArgument, match=f"^{name} must be"):
            PlateauConfig(**{name: value})


def test_names_the_nearest_mode():
    with pytest.raises(UnknownName, match="unknown mode 'mim': did you mean 'min'"):
        PlateauConfig(mode="mim")
    with pytest.raises(UnknownName, match="unknown threshold_mode 'relative'"):
        PlateauConfig(threshold_mode="relative")
