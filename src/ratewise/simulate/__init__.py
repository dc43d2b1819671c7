"""Thousands of small trainings at once, on stacked parameters: `ratewise.simulate.run`."""

from __future__ import annotations

from ratewise.simulate.families import family
from ratewise.simulate.noise import Noise
from ratewise.simulate.rule import Fixed, Greedy, Plateau, Rule, Signals, Warmup
from ratewise.simulate.runner import run
from ratewise.simulate.task import Task
from ratewise.simulate.trajectories import Trajectories
from ratewise.simulate.update_ratio import Learned, UpdateRatio

__all__ = [
    "Fixed",
    "Greedy",
    "Learned",
    "Noise",
    "Plateau",
    "Rule",
    "Signals",
    "Task",
    "Trajectories",
    "UpdateRatio",
    "Warmup",
    "family",
    "run",
]
