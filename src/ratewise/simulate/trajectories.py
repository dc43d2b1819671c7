"""The results of N simulated runs as arrays: a row per run, a column per recorded step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Trajectories:
    """The result of `ratewise.simulate.run`; K = recorded steps.

    A run that diverged keeps its rows: what followed is NaN or infinite there.
    """

    step: np.ndarray  #: [K] optimizer steps made when recorded, from 1; the last is `steps`
    loss: np.ndarray  #: [N, K] of the step's batch, before the step; float64
    seen: np.ndarray  #: [N, K] what the rule was shown: the loss, and noise on it
    lr: np.ndarray  #: [N, K] the rate that the step used
    grad_norm: np.ndarray  #: [N, K] |g|, noise on the gradient included
    update_ratio: np.ndarray  #: [N, K] |dp| / |p| of the step
    initial: np.ndarray  #: [N] clean loss of the untrained weights, on the evaluation rows
    final: np.ndarray  #: [N] the same after the last step
    held_out: np.ndarray  #: [N] after the last step on `Task.held_out` rows, NaN if there are none
    diverged_at: np.ndarray  #: [N] first step whose loss was not finite, 0 where there was none
    seeds: tuple[int, ...]  #: [N] of each run
    chunk: int  #: runs that were stacked together
    seconds: float  #: wall-clock of the training itself

    @property
    def runs(self) -> int:
        """The number of runs, N."""
        return len(self.loss)

    def diverged(self) -> np.ndarray:
        """Return which runs had a loss that was not finite, at a step or at the end, [N]."""
        return (self.diverged_at > 0) | ~np.isfinite(self.final)

    @classmethod
    def joined(cls, parts: list[Trajectories], chunk: int, seconds: float) -> Trajectories:
        """Return the runs of several chunks as one result, in their order."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in (*PER_STEP, "initial", "final", "held_out", "diverged_at")
        }
        seeds = tuple(seed for part in parts for seed in part.seeds)
        return cls(step=parts[0].step, **arrays, seeds=seeds, chunk=chunk, seconds=seconds)


#: The histories of a run.
PER_STEP = ("loss", "seen", "lr", "grad_norm", "update_ratio")
