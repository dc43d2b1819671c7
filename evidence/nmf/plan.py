"""What the study of learned factorisation rates runs: its problems, and which are kept apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np

from evidence.nmf import real
from evidence.nmf.methods import METHODS, TRIED, Stack
from ratewise.learning import random_factorisations
from ratewise.learning.random_factorisations import Shape
from ratewise.nmf.learned import names

#: Streams of random numbers that tune, and that judge; policies learn from [seed, round].
TUNING, JUDGING, TRANSFER, LONG = ((20_26, part) for part in (1, 2, 3, 4))
HELD_OUT = "held out"
MISFIT = "misfit"  #: the method whose runs are descents without noise
Chosen = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Settings:
    """The size of the study; the tests make it small."""

    tuning: tuple[int, int] = (32, 16)  #: stacks, problems of each
    judging: tuple[int, int] = (40, 16)
    transfer: tuple[int, int] = (4, 16)
    longest: int = 1000  #: steps of the runs that are longer than any in training
    tried: int = TRIED
    clean: int = 1000  #: steps without noise, whose end is the misfit
    starts: int = 5  #: of StochasticNMF, on each real set
    policies: tuple[str, ...] = field(default_factory=lambda: tuple(names()))


def tuning_units(settings: Settings) -> dict[str, str]:
    """Return each tuned method by the digest of what determines its tuning."""
    sizes = {"tuning": settings.tuning, "tried": settings.tried}
    return {_digest({"method": name, **sizes}): name for name in METHODS}


def judging_units(settings: Settings, chosen: Chosen, policies: list[str]) -> dict[str, str]:
    """Return each group of problems by the digest of what determines its runs.

    Args:
        settings: the study's size.
        chosen: the tuned settings.
        policies: their digests.
    """
    sizes = [settings.judging, settings.transfer, settings.clean]
    common = {"sizes": sizes, "chosen": chosen, "of": policies}
    return {_digest({"group": name, **common}): name for name in groups(settings, None)}


def estimator_units(settings: Settings, policies: list[str]) -> dict[str, str]:
    """Return each real set by the digest of what determines its runs of StochasticNMF."""
    common = {"starts": settings.starts, "of": policies}
    return {_digest({"estimator": name, **common}): name for name in real.SETS}


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def groups(settings: Settings, data: str | None) -> dict[str, Callable[[], list[Stack]]]:
    """Return, by name, what makes the problems that judge.

    Args:
        settings: the study's size.
        data: folder with the data sets.
    """
    count = settings.transfer[1]
    return {
        HELD_OUT: lambda: stacks(JUDGING, settings.judging),
        "200 x 120": lambda: large(settings.transfer),
        f"{settings.longest} steps": lambda: long(settings.transfer, settings.longest),
        **{name: partial(real.stacks, name, count, data) for name in real.SETS},
    }


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
