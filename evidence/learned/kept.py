"""What is kept of a run of the study, and what the page's numbers read of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evidence import judged
from evidence.learned import plan
from evidence.learned.plan import Settings
from evidence.results import Results
from evidence.simulated import ends
from ratewise.simulate import Trajectories


@dataclass(frozen=True)
class Run:
    """One training."""

    task: str
    family: str
    schedule: str  #: the method, as tables call it
    base_lr: float  #: its rate, or the ratio of a tuned UpdateRatioLR
    seed: int
    steps: int
    seconds: float
    initial: float  #: the clean loss of the untrained weights
    final: float  #: the same at the end; infinite where the run diverged
    held_out: float  #: at the end, on rows held out
    at: list[int]  #: the steps that were recorded, up to the one that diverged
    losses: list[float]  #: of the batches there
    sizes: list[float]  #: ||change|| / ||parameters|| there; NaN where it was not measured

    @property
    def diverged(self) -> bool:
        """Whether a loss was not finite."""
        return not math.isfinite(self.final)


def marks(result: Trajectories, row: int) -> list[float]:
    """Return what is kept of a run: its ends, then its losses, then as many updates' sizes."""
    end = int(result.diverged_at[row]) or result.step[-1]
    count = int(np.searchsorted(result.step, end, "right"))
    histories = result.loss[row, :count], result.update_ratio[row, :count]
    return ends(result, row) + np.concatenate(histories).tolist()


def load(results: Results, settings: Settings) -> list[Run]:
    """Return the runs of these settings: there may be others', of an older policy say.

    Raises:
        StoreError: a run is missing.
    """
    found = []
    for name, unit in plan.wanted(settings).items():
        one = judged.named(unit.task)
        recorded = plan.recorded(one.steps)
        for run, kept in zip(plan.planned(settings, unit), results.of(name), strict=True):
            initial, final, held_out, *histories = kept.losses
            count = len(histories) // 2
            found.append(
                Run(
                    task=one.name,
                    family=one.family,
                    schedule=run.schedule,
                    base_lr=run.base_lr,
                    seed=run.seed,
                    steps=one.steps,
                    seconds=kept.seconds,
                    initial=initial,
                    final=final,
                    held_out=held_out,
                    at=recorded[:count],
                    losses=histories[:count],
                    sizes=histories[count:],
                )
            )
    return found
