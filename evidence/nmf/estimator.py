"""StochasticNMF under each of its schedules, as they come: what a user gets without tuning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ratewise.nmf import StochasticNMF
from ratewise.nmf.learned import NMFPolicy

SCHEDULES = ("bound", "constant", "step", "exponential", "cosine", "greedy")
#: Passes, and batches of one: 100 steps of the components.
PASSES, BATCHES = 5, 20
#: Where statistics of batches are stored, and where none are: sums that decay.
MODES: dict[str, dict[str, Any]] = {"stored": {}, "decaying": {"max_memory": 0.0}}


def measure(
    matrix: tuple[np.ndarray, int], policies: Sequence[NMFPolicy], seeds: int
) -> Iterator[tuple[str, int, str, float]]:
    """Yield mode, seed, schedule, and |X - W H|^2 over that of "cosine".

    Args:
        matrix: [rows, columns], and its number of components.
        policies: each of them is a schedule, too.
        seeds: of random starts, and of the order of rows.
    """
    named: dict[str, dict[str, Any]] = {name: {"schedule": name} for name in SCHEDULES}
    for policy in policies:
        named[f"learned {policy.name}"] = {"schedule": "learned", "policy": policy}
    x, k = matrix
    for mode, memory in MODES.items():
        for seed in range(seeds):
            shuffled = x[np.random.default_rng(seed).permutation(len(x))]
            squares = {
                schedule: _square(shuffled, k, seed, {**settings, **memory})
                for schedule, settings in named.items()
            }
            for schedule, square in squares.items():
                yield mode, seed, schedule, square / squares["cosine"]


def _square(x: np.ndarray, k: int, seed: int, settings: dict[str, Any]) -> float:
    """Return |X - W H|^2 with the codes that fit H best."""
    size = -(-len(x) // BATCHES)
    model = StochasticNMF(
        k,
        solver="sgd",
        init="random",
        batch_size=size,
        max_iter=PASSES,
        tol=0.0,
        random_state=seed,
        transform_max_iter=200,
        **settings,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sums decay is what is asked for
        model.fit(x)
    return float(np.square(x - model.inverse_transform(model.transform(x))).sum())
