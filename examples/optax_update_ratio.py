"""Train a small network in jax without choosing a rate: each leaf moves by a share of its size.

Rates a thousandfold apart end alike, as `update_ratio` stands at the end of the chain. It is told
how long the run is and how many steps a pass over the data takes. Add ``--quick`` for a short run.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from ratewise.integrations.optax import current_factors, update_ratio

TRAIN, BATCH = 1400, 64  # of 1797 images


def network(key: jax.Array) -> dict[str, jax.Array]:
    """Return the parameters of a network 64 -> 64 -> 10."""
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (64, 64)) / 8,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(second, (64, 10)) / 8,
        "b2": jnp.zeros(10),
    }


def logits(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


def loss_of(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it works")
    steps = 100 if parser.parse_args().quick else 400

    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, dtype=jnp.float32), jnp.asarray(labels)
    key, batches = jax.random.split(jax.random.key(0))

    for rate in (1e-5, 1e-3, 1.0):
        tx = optax.chain(  # 1. after the optimizer, whatever its rate
            optax.adam(rate), update_ratio(total_steps=steps, steps_per_epoch=TRAIN // BATCH)
        )

        @jax.jit
        def step(params, state, batch, tx=tx):
            grads = jax.grad(loss_of)(params, x[batch], y[batch])
            updates, state = tx.update(grads, state, params)  # 2. with the parameters
            return optax.apply_updates(params, updates), state

        params = network(key)
        state = tx.init(params)
        for count in range(steps):
            batch = jax.random.randint(jax.random.fold_in(batches, count), (BATCH,), 0, TRAIN)
            params, state = step(params, state, batch)
        right = jnp.argmax(logits(params, x[TRAIN:]), axis=1) == y[TRAIN:]
        factors = ", ".join(f"{factor:.2g}" for factor in current_factors(state))
        print(f"rate {rate:g}: right on {float(right.mean()):.1%}; factors {factors}")


if __name__ == "__main__":
    main()
