"""Curves that a law made, so that what is fitted can be compared with what is true."""

from __future__ import annotations

import numpy as np

from ratewise.curves import Curve, Facts, Series, scheduled
from ratewise.curves.laws import LAWS, Law, Run
from ratewise.curves.sums import Grid

PEAK = 1e-3
#: ln of the parameters, but for exponents of the peak; in units of `PEAK`.
TRUE = {
    "functional": [*np.log([2.5, 0.8, 0.05, 0.5, 60.0, 0.05, 0.9]), 0.1, 0.2, 0.0],
    "multi-power": [*np.log([2.5, 0.8, 0.05, 0.5, 150.0, 0.6, 0.5, 0.6]), 0.1, 0.2],
}
SHAPES: dict[str, dict] = {
    "constant": {"schedule": "constant"},
    "cosine": {"schedule": "cosine"},
    "wsd 0.2": {"schedule": "wsd", "cooldown": 0.2},
    "wsd 0.6": {"schedule": "wsd", "cooldown": 0.6},
}


def rates(shape: str, peak: float = PEAK, steps: int = 2000) -> np.ndarray:
    options = dict(SHAPES[shape])
    return scheduled(options.pop("schedule"), peak, steps, warmup_steps=steps // 40, **options)


def losses(law: str, run: np.ndarray, steps: np.ndarray) -> np.ndarray:
    rule: Law = LAWS[law]
    seen = Run(run, steps, float(np.log(run.max() / PEAK)))
    return rule.losses(np.array(TRUE[law]), rule.prepare([seen], Grid(1e-5, 10.0)))[0]


def curve(
    shape: str,
    peak: float = PEAK,
    steps: int = 2000,
    *,
    law: str = "functional",
    noise: float = 0.0,
    seed: int = 0,
) -> Curve:
    run, at = rates(shape, peak, steps), np.arange(40, steps + 1, 40)
    error = noise * np.random.default_rng(seed).standard_normal(len(at))
    every = np.arange(1, steps + 1)
    return Curve(
        f"{shape} {peak:g} {steps}",
        Series.of(every, run),
        Series.of(at, losses(law, run, at) * np.exp(error)),
        facts=Facts(total_steps=steps),
    )


def several(law: str = "functional", noise: float = 2e-4) -> list[Curve]:
    """Return runs under three shapes at three peaks, of two lengths."""
    made = [
        curve(shape, peak, steps, law=law, noise=noise, seed=100 * i + 10 * j + k)
        for i, shape in enumerate(("constant", "cosine", "wsd 0.2"))
        for j, peak in enumerate((5e-4, 1e-3, 2e-3))
        for k, steps in enumerate((1000, 2000))
    ]
    return made
