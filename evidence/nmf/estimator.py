"""StochasticNMF under each of its schedules, as they come: what a user gets without tuning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ratewise.compare.report.tables import Table
from ratewise.nmf import StochasticNMF
from ratewise.nmf.learned import NMFPolicy

SCHEDULES = ("bound", "constant", "step", "exponential", "cosine", "greedy")
#: Passes, and batches of one: 100 steps of the components.
PASSES, BATCHES = 5, 20
#: Where statistics of batches are stored, and where none are: sums that decay.
MODES: dict[str, dict[str, Any]] = {"stored": {}, "decaying": {"max_memory": 0.0}}


def measure(
    matrices: dict[str, tuple[np.ndarray, int]],
    policies: Sequence[NMFPolicy],
    seeds: int,
) -> dict[str, dict[str, list[float]]]:
    """Return |X - W H|^2 over that of "cosine", one a seed, by set and mode, then by schedule.

    Args:
        matrices: by name, [rows, columns], and its number of components.
        policies: each of them is a schedule, too.
        seeds: of random starts, and of the order of rows.
    """
    found: dict[str, dict[str, list[float]]] = {}
    named: dict[str, dict[str, Any]] = {name: {"schedule": name} for name in SCHEDULES}
    for policy in policies:
        named[f"learned {policy.name}"] = {"schedule": "learned", "policy": policy}
    for name, (x, k) in matrices.items():
        for mode, memory in MODES.items():
            rows = found.setdefault(f"{name}, {mode}", {})
            for seed in range(seeds):
                shuffled = x[np.random.default_rng(seed).permutation(len(x))]
                squares = {
                    schedule: _square(shuffled, k, seed, {**settings, **memory})
                    for schedule, settings in named.items()
                }
                for schedule, square in squares.items():
                    rows.setdefault(schedule, []).append(square / squares["cosine"])
    return found


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


def section(found: dict[str, dict[str, list[float]]], starts: int) -> list[str]:
    """Return the page's lines.

    Args:
        found: of `measure`.
        starts: how many seeds.
    """
    lines = [
        "## As schedules of StochasticNMF",
        "",
        f'`StochasticNMF(solver="sgd", init="random")`, {PASSES} passes of {BATCHES} batches, '
        f"{starts} random starts, every schedule as it comes",
        "(c = 1 at the start; nothing is tuned): |X - W H|^2, with the codes that fit H best, over "
        'that of `schedule="cosine"`:',
        "median (least to largest). With stored statistics a gradient has hardly any noise; where "
        "sums decay it has that of the",
        "batches seen lately.",
        "",
    ]
    for mode in MODES:
        sets = [name for name in found if name.endswith(f", {mode}")]
        schedules = [name for name in found[sets[0]] if name != "cosine"]
        rows = [[name, *(_spread(found[each][name]) for each in sets)] for name in schedules]
        lines += [Table(mode, ["schedule", *sets], rows).markdown(), ""]
    return lines


def _spread(ratios: Sequence[float]) -> str:
    return f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
