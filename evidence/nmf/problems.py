"""Random factorisations of the study, from streams that no policy learned from."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from evidence.nmf.methods import Stack
from ratewise.learning import random_factorisations
from ratewise.learning.random_factorisations import Shape

#: Streams that tune one setting for all, and that judge; policies learn from [seed, round].
TUNING, JUDGING, TRANSFER, LONG = ((20_26, part) for part in (1, 2, 3, 4))


@cache
def stacks(stream: tuple[int, ...], shape: tuple[int, int]) -> list[Stack]:
    """Return random stacks: shapes as a policy was trained on, from a stream of their own."""
    rng = np.random.default_rng(stream)
    found = []
    for _ in range(shape[0]):
        one = random_factorisations.shape(rng)
        found.append(_stack(str(one), one, shape[1], rng))
    return found


def _stack(name: str, shape: Shape, count: int, rng: np.random.Generator) -> Stack:
    problems = random_factorisations.draw(shape, count, rng)
    return Stack(name, problems, shape.steps, int(rng.integers(2**31)))


def large(shape: tuple[int, int]) -> list[Stack]:
    """Return stacks of 200 x 120, larger than any that a policy was trained on."""
    rng = np.random.default_rng(TRANSFER)
    return [
        _stack(
            f"200 x 120, {'samples' if number % 2 else 'isotropic'}",
            Shape(200, 120, 10, 100, 0.1 if number % 2 else 1.0),
            shape[1],
            rng,
        )
        for number in range(shape[0])
    ]


def long(shape: tuple[int, int], steps: int) -> list[Stack]:
    """Return stacks whose runs are longer than any that a policy was trained on."""
    rng = np.random.default_rng(LONG)
    shapes = [replace(random_factorisations.shape(rng), steps=steps) for _ in range(shape[0])]
    return [_stack(str(one), one, shape[1], rng) for one in shapes]
