"""UpdateRatioLR in optax: torch's factors, under jit and scan, to the bit after a resume."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from ratewise import UpdateRatioLR
from ratewise.errors import InvalidArgument, WrongType
from ratewise.integrations.optax import current_factors, greedy, update_ratio
from ratewise.rules import online
from ratewise.rules.ratio_law import default_ratio

STEPS, RATE = 90, 0.5
SHAPES = ((6, 8), (8,), (8, 3), (3,))


def weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [rng.normal(size=shape) for shape in SHAPES]
    found[1] *= 0.0  # a bias that begins at zero
    return found


def loss_of(params: Any, step: Any) -> Any:
    """A regression on a batch that the step determines; of jax alone."""
    x = jax.random.normal(jax.random.fold_in(jax.random.key(0), step), (16, 6), dtype=jnp.float64)
    y = jnp.sin(x[:, :3]) + 0.3 * x[:, 3:]
    hidden = jnp.tanh(x @ params[0] + params[1])
    return ((hidden @ params[2] + params[3] - y) ** 2).mean()


def run(tx: Any, steps: int = STEPS, **more: Any) -> tuple[Any, Any, Any, np.ndarray]:
    """Return parameters, state, gradients and factors, step by step."""
    params = [jnp.asarray(w) for w in weights()]
    state = tx.init(params)

    def step(both: Any, count: Any) -> Any:
        params, state = both
        grads = jax.grad(loss_of)(params, count)
        updates, state = tx.update(grads, state, params, grad=grads, **more)
        return (optax.apply_updates(params, updates), state), (grads, current_factors(state))

    (params, state), (grads, factors) = jax.jit(
        lambda both: jax.lax.scan(step, both, jnp.arange(steps))
    )((params, state))
    return params, state, grads, np.asarray(factors)


def in_torch(grads: Any, make: Any, **options: Any) -> tuple[np.ndarray, list[torch.Tensor]]:
    """Return torch's factors at each step on the same gradients, and the weights at the end."""
    params = [torch.nn.Parameter(torch.from_numpy(w)) for w in weights()]
    optimizer = make(params)
    scheduler = UpdateRatioLR(optimizer, **options)
    factors = []
    for step in range(STEPS):
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.from_numpy(np.array(g[step]))
        optimizer.step()
        scheduler.step()
        factors.append(scheduler.factors().double().numpy())
    return np.array(factors), params


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {"total_steps": STEPS},
    "passes": {"total_steps": STEPS, "steps_per_epoch": 5},
    "no length": {"ratio": 0.03, "measure_every": 7},
    "long": {"total_steps": 10_000, "steps_per_epoch": 100},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_factors_and_weights_are_those_of_torch(options: dict[str, Any]):
    with jax.enable_x64(True):
        tx = optax.chain(optax.sgd(RATE, momentum=0.9), update_ratio(**options))
        params, _, grads, factors = run(tx)
        ours, theirs = in_torch(
            grads, lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9), online=False, **options
        )
    np.testing.assert_allclose(factors, ours, rtol=1e-6)
    for p, t in zip(params, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(p), t.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_comparison_notices_another_setting():
    with jax.enable_x64(True):
        tx = optax.chain(optax.sgd(RATE, momentum=0.9), update_ratio(ratio=0.03, measure_every=5))
        _, _, grads, factors = run(tx)
        ours, _ = in_torch(
            grads, lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.9), **OPTIONS["no length"]
        )
    assert np.abs(factors / ours - 1).max() > 1e-3


def test_online_corrections_are_those_of_torch(monkeypatch: pytest.MonkeyPatch):
    """Torch reads the last step off Adam's state, this keeps it."""
    monkeypatch.setattr(online, "FIRST", 6)
    with jax.enable_x64(True):
        tx = optax.chain(optax.adam(RATE), update_ratio(ratio=0.02, online=True))
        _, _, grads, factors = run(tx)
        ours, _ = in_torch(grads, lambda p: torch.optim.Adam(p, lr=RATE), ratio=0.02, online=True)
        plain = run(optax.chain(optax.adam(RATE), update_ratio(ratio=0.02)))[3]
    np.testing.assert_allclose(factors, ours, rtol=2e-5)
    assert np.abs(plain / factors - 1).max() > 1e-2


def test_in_pieces_and_eagerly_it_is_the_same_to_the_bit():
    tx = optax.chain(optax.adam(RATE), update_ratio(total_steps=STEPS, online=True))

    def step(params: Any, state: Any, count: int) -> Any:
        grads = [p * (1 + count % 3) for p in params]
        updates, state = tx.update(grads, state, params, grad=grads)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step)
    params = [jnp.asarray(w, dtype=jnp.float32) + 0.1 for w in weights()]
    state = tx.init(params)
    states = [(params, state)]
    for count in range(30):
        params, state = compiled(params, state, count)
        states.append((params, state))
    assert compiled._cache_size() == 1  # nothing changes its type or shape
    again = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, states[11]))  # through a file
    for count in range(11, 30):
        again = compiled(*again, count)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(states[-1]), strict=True):
        np.testing.assert_array_equal(one, other)
    eager = states[20]
    for count in range(20, 24):
        eager = step(*eager, count)
    for one, other in zip(eager[0], states[24][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_rate_of_the_chain_does_not_matter():
    ends = []
    for rate in (1e-4, 1.0, 1e3):
        tx = optax.chain(optax.sgd(rate), update_ratio(total_steps=STEPS))
        with jax.enable_x64(True):
            ends.append([np.asarray(p) for p in run(tx)[0]])
    for end in ends[1:]:
        for one, other in zip(end, ends[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


def test_it_falls_linearly_to_nothing_or_as_it_is_told():
    for schedule, at in ((None, 0.75), (lambda count: 0.5 + 0.0 * count, 0.5)):
        tx = update_ratio(ratio=0.01, total_steps=40, schedule=schedule)
        params = jnp.ones((3, 3))
        state = tx.init(params)
        compiled = jax.jit(tx.update)
        for _ in range(10):
            _, state = compiled(params, state, params)
        updates, after = compiled(params, state, params)
        assert float(updates[0, 0]) == pytest.approx(at * float(current_factors(after)[0]))
    tx = update_ratio(total_steps=5)
    state, compiled = tx.init(params), jax.jit(tx.update)
    for _ in range(5):
        _, state = compiled(params, state, params)
    assert float(jnp.abs(compiled(params, state, params)[0]).max()) == 0.0


def test_nothing_that_is_not_finite_stays_in_the_state():
    tx = update_ratio(ratio=0.01, online=True)
    params = jnp.ones((3, 3))
    state, compiled = tx.init(params), jax.jit(tx.update)
    for value in (1.0, jnp.nan, jnp.inf, 0.0, 1.0):
        for _ in range(8):
            grads = params * value
            _, state = compiled(grads, state, params, grad=grads)
        kept = (state.rule, state.correction)
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(kept))


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"ratio": 0.0}, InvalidArgument, "ratio must be a number in"),
        ({"total_steps": 0}, InvalidArgument, "total_steps must be an integer >= 1"),
        ({"steps_per_epoch": 0}, InvalidArgument, "steps_per_epoch must be an integer >= 1"),
        ({"measure_every": 0}, InvalidArgument, "measure_every must be"),
        ({"online": "auto"}, WrongType, "online must be True or False"),
        ({"pretrained": 1}, WrongType, "pretrained must be True or False"),
        ({"schedule": "linear"}, WrongType, "schedule must be a function of the step"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], error: type, words: str):
    with pytest.raises(error, match=words):
        update_ratio(**settings)


def test_what_an_update_needs_is_named():
    params = jnp.ones(3)
    tx = update_ratio()
    with pytest.raises(InvalidArgument, match=r"call tx.update\(grads, state, params\)"):
        tx.update(params, tx.init(params))
    tx = update_ratio(online=True)
    with pytest.raises(InvalidArgument, match="grad=grads"):
        tx.update(params, tx.init(params), params)
    with pytest.raises(InvalidArgument, match="chain update_ratio"):
        current_factors(greedy().init(params))


def test_passes_are_known_as_in_torch():
    params = jnp.ones((3, 3))
    tx = update_ratio(total_steps=1000, steps_per_epoch=20)
    state, compiled = tx.init(params), jax.jit(tx.update)
    for _ in range(40):
        _, state = compiled(params, state, params)
    assert float(current_factors(state)[0]) == pytest.approx(default_ratio(1000, 20), rel=1e-3)
