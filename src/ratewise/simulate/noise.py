"""Noise of nine kinds in three places, the same for every rule that a run is trained under.

A kind is a signal n[t], about 1 in size; a place says what it disturbs; the strength s scales it:

* "loss": the rule sees l[t] + s * l[0] * n[t]; the parameters feel nothing (the way of
  arXiv 2512.14527, whose noise was added to the loss value).
* "gradient": the optimizer sees g + s * n[t] * |g| * u, with u a random direction of length 1.
* "data": each target of the batch is another row's with probability min(1, s * |n[t]|): flipped
  labels where the signal is small, a batch spoilt altogether at a spike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ratewise.errors import invalid, unknown
from ratewise.rules.checks import is_number

PLACES = ("loss", "gradient", "data")
#: What `strength=None` means: a tenth of the initial loss, noise as long as the gradient, 30% of
#: the targets.
DEFAULT_STRENGTH = {"loss": 0.1, "gradient": 1.0, "data": 0.3}

_Signal = Callable[[np.random.Generator, int], np.ndarray]


def _spikes_by_chance(rng: np.random.Generator, steps: int) -> np.ndarray:
    """10 at each step with a chance of 2%."""
    return 10.0 * (rng.random(steps) < 0.02)


def _periodic(rng: np.random.Generator, steps: int) -> np.ndarray:
    """10 at every 50th step."""
    return 10.0 * (np.arange(steps) % 50 == 49)


def _wave(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A sine of height 2 and a period of 40 steps, its phase the run's own."""
    return 2.0 * np.sin(2.0 * math.pi * (np.arange(steps) / 40.0 + rng.random()))


def _burst(rng: np.random.Generator, steps: int) -> np.ndarray:
    """Gaussian noise of deviation 3 for 10 steps, begun with a chance of 2% a step."""
    begins = rng.random(steps) < 0.02
    inside = np.convolve(begins, np.ones(10))[:steps] > 0
    return 3.0 * rng.standard_normal(steps) * inside


def _stretches(rng: np.random.Generator, steps: int) -> np.ndarray:
    """1 in 20 steps of every 60, its phase the run's own: nothing new arrives there."""
    return ((np.arange(steps) + rng.integers(60)) % 60 < 20).astype(float)


#: kind -> its signal over the steps. A "plateau" says when what the place carries (the loss, the
#: gradient, the batch) stands still; an "adversarial" one is multiplied by minus the loss's trend.
_SIGNALS: dict[str, _Signal] = {
    "none": lambda rng, steps: np.zeros(steps),
    "gaussian": lambda rng, steps: rng.standard_normal(steps),
    "periodic-spike": _periodic,
    "random-spike": _spikes_by_chance,
    "plateau": _stretches,
    "oscillating": _wave,
    "drift": lambda rng, steps: 3.0 * np.arange(steps) / steps,
    "burst": _burst,
    "adversarial": lambda rng, steps: np.ones(steps),
}
KINDS = tuple(_SIGNALS)


@dataclass(frozen=True)
class Noise:
    """One kind of noise in one place.

    Args:
        kind: one of `KINDS`.
        place: "loss", "gradient" or "data".
        strength: s above, >= 0; None is 0.1, 1 and 0.3 in these places.

    Raises:
        UnknownName, InvalidArgument: what is named is not there, or is negative.

    >>> Noise("gaussian").strength
    0.1
    >>> Noise("gausian")
    Traceback (most recent call last):
    ...
    ratewise.errors.UnknownName: unknown noise 'gausian': did you mean 'gaussian'? known: \
adversarial, burst, drift, gaussian, none, oscillating, periodic-spike, plateau, random-spike
    """

    kind: str = "none"
    place: str = "loss"
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _SIGNALS:
            raise unknown("noise", self.kind, _SIGNALS)
        if self.place not in PLACES:
            raise unknown("place of noise", self.place, PLACES)
        if self.strength is None:
            object.__setattr__(self, "strength", DEFAULT_STRENGTH[self.place])
        if not is_number(self.strength) or not 0.0 <= float(self.strength or 0.0) < math.inf:
            fix = "pass e.g. 0.1, or None for the place's default"
            raise invalid("strength", "a finite number >= 0", self.strength, fix)


def signal(kind: str, seed: int, steps: int) -> np.ndarray:
    """Return n[t] of one run, [steps]; it depends on the kind and the run's seed alone.

    >>> bool((signal("burst", 3, 50) == signal("burst", 3, 50)).all())
    True
    """
    return _SIGNALS[kind](np.random.default_rng([seed, KINDS.index(kind)]), steps)


def signals(noises: Sequence[Noise], seeds: Sequence[int], steps: int) -> np.ndarray:
    """Return s * n[t] of every run, [runs, steps]."""
    rows = [
        float(noise.strength or 0.0) * signal(noise.kind, seed, steps)
        for noise, seed in zip(noises, seeds, strict=True)
    ]
    return np.stack(rows)


def offsets(seeds: Sequence[int], steps: int, choices: int) -> np.ndarray:
    """Return which direction the gradient's noise takes at each step, [runs, steps]."""
    key = len(KINDS)
    return np.stack(
        [np.random.default_rng([seed, key]).integers(choices, size=steps) for seed in seeds]
    )
