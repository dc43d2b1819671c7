"""What LearnedLR's policy learns, and how: simulated trainings, rewarded at their end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ratewise.learning import stacks
from ratewise.learning.group import drawn
from ratewise.learning.vec_env import Draw, Trainings
from ratewise.pool import Work, Workers
from ratewise.rules import features
from ratewise.rules.checks import check_count
from ratewise.rules.features import FEATURES
from ratewise.rules.learned import Policy
from ratewise.rules.ratio_law import RatioLaw


@dataclass(frozen=True)
class UpdateRatioSettings:
    """How a policy is learned.

    Args:
        decisions: total number of decisions, over all runs.
        seed: random seed of weights, settings and exploration.
        groups: settings that are trained at the same time.
        trainings: seeds of each setting.
        copies: runs of each seed under the policy.
        windows: equal parts of a run; there is a decision after each but the last.
        bound: the rule's ratio is multiplied by at least exp(-bound) and at most exp(bound).
        width: units of the two hidden layers.
        lr: Adam's learning rate, which falls linearly to 0.
        epochs, minibatch: passes over a rollout, and decisions per gradient step.
        spread: initial standard deviation of the exploration.
    """

    decisions: int = 96_000
    seed: int = 0
    groups: int = 6
    trainings: int = 2
    copies: int = 12
    windows: int = 25
    bound: float = 1.5
    width: int = 32
    lr: float = 1e-3
    epochs: int = 8
    minibatch: int = 864
    spread: float = 0.4

    def __post_init__(self) -> None:
        for name in ("decisions", "groups", "trainings", "copies", "windows", "width"):
            check_count(name, getattr(self, name), 1)
        check_count("seed", self.seed, 0)

    @property
    def a_round(self) -> int:
        """Decisions per update of the policy."""
        return self.groups * self.trainings * self.copies * (self.windows - 1)

    @property
    def rounds(self) -> int:
        """Total number of updates."""
        return -(-self.decisions // self.a_round)


class UpdateRatioRecipe:
    """What `ratewise.learning.ppo` learns for LearnedLR: corrections of UpdateRatioLR's ratio.

    Args:
        draw: called with a `numpy.random.Generator`, returns a `Setting`.
        settings: how the policy is learned.
    """

    start = 0.0  #: initial mean of the action: the rule's ratio unchanged

    def __init__(self, draw: Draw, settings: UpdateRatioSettings | None = None) -> None:
        self.settings = settings or UpdateRatioSettings()
        self._anchor = Policy.anchor(
            RatioLaw(), bound=self.settings.bound, windows=self.settings.windows
        )
        self._draw = draw

    @property
    def stacks(self) -> int:
        """How many stacks a round has: no more workers are of use."""
        return self.settings.groups

    def work(self) -> Work[Any]:
        """Return what workers do for the environment."""
        settings = self.settings
        one = partial(drawn, self._draw, self._anchor, settings.trainings, settings.copies)
        return stacks.work(one)

    def environment(self, workers: Workers | None = None) -> Trainings:
        """Return the training environment at its first round."""
        settings = self.settings
        return Trainings(
            self._draw,
            self._anchor,
            groups=settings.groups,
            trainings=settings.trainings,
            copies=settings.copies,
            seed=settings.seed,
            workers=workers,
        )

    def options(self) -> dict[str, Any]:
        """Return keyword arguments of PPO."""
        settings = self.settings
        return {
            "n_steps": settings.windows - 1,  # whole runs
            "gamma": 1.0,
            "gae_lambda": 1.0,  # a run is paid at its end, and all of it takes part in that
            # one direction of exploration a rollout: what jumps from decision to decision
            # averages out before a training notices
            "use_sde": True,
            "policy_kwargs": {
                "net_arch": [settings.width] * 2,
                "log_std_init": math.log(settings.spread / settings.width**0.5),
            },
        }

    def policy(self, arrays: Mapping[str, Any], provenance: Mapping[str, Any]) -> Policy:
        """Return the policy with these arrays, named as in `ratewise.rules.network.Weights`."""
        lengths = getattr(self._draw, "horizons", None)
        if lengths is not None:  # what was drawn from, not the hull of what was
            at = FEATURES.index("horizon")
            arrays["low"][at], arrays["high"][at] = map(features.horizon, lengths)
        return Policy(
            **arrays,
            bound=self.settings.bound,
            windows=self.settings.windows,
            law=self._anchor.law,
            schedule=self._anchor.schedule,
            provenance=provenance,
        )
