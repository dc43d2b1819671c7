"""Thousands of small trainings at once, on stacked parameters: `ratewise.simulate.run`."""

from __future__ import annotations

from ratewise.simulate.families import family
from ratewise.simulate.noise import Noise
from ratewise.simulate.rule import Fixed, Greedy, Plateau, Rule, Signals
from ratewise.simulate.runner import run
from ratewise.simulate.steered import Learned, UpdateRatio
from ratewise.simulate.task import Task
from ratewise.simulate.trajectories import Trajectories

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
    "family",
    "run",
]
