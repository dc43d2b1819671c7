"""Train a small network in jax under GreedyLR: one more transformation at the end of the chain.

Adam's rate of 1e-3 is only where the run begins. `greedy` hears the loss with every update, inside
jit, and multiplies what Adam proposes: up while the loss falls, down when it does not. What it is
doing can be asked of the optimizer's state. Add ``--quick`` for a short run.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from ratewise.integrations.optax import current_scale, greedy, last_reason

TRAIN = 1400  # of 1797 images


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
    steps = 400 if parser.parse_args().quick else 1200

    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(images / 16, dtype=jnp.float32), jnp.asarray(labels)
    key, batches = jax.random.split(jax.random.key(0))

    tx = optax.chain(optax.adam(1e-3), greedy())  # 1. after the optimizer

    @jax.jit
    def step(params, state, batch):
        loss, grads = jax.value_and_grad(loss_of)(params, x[batch], y[batch])
        updates, state = tx.update(grads, state, params, value=loss)  # 2. with the training loss
        return optax.apply_updates(params, updates), state, loss

    params = network(key)
    state = tx.init(params)
    last = "none"
    for count in range(1, steps + 1):
        batch = jax.random.randint(jax.random.fold_in(batches, count), (64,), 0, TRAIN)
        params, state, loss = step(params, state, batch)
        reason = last_reason(state)
        last = last if reason == "none" else reason
        if count % (steps // 8) == 0:
            scale = float(current_scale(state))
            print(f"step {count:4d}  loss {float(loss):.4f}  scale {scale:5.2f}  last: {last}")

    right = jnp.argmax(logits(params, x[TRAIN:]), axis=1) == y[TRAIN:]
    print(f"right on {float(right.mean()):.1%} of {len(right)} images it never saw")


if __name__ == "__main__":
    main()
