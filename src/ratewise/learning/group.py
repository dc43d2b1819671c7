"""The core of the environments: trainings that step together and are corrected from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ratewise.learning.tasks import RATES, Setting
from ratewise.rules import features, learned
from ratewise.rules.learned import LearnedState, Policy
from ratewise.simulate import arguments
from ratewise.simulate.rule import Signals
from ratewise.simulate.runner import Training
from ratewise.simulate.stack import Tensors
from ratewise.simulate.update_ratio import Learned

#: Losses below this share of the initial one count as equal to it.
FLOOR = 1e-2
#: And as at most so many times the initial one: divergence.
CAP = 10.0
#: Scores are no further from 0 than that: one broken run must not outweigh all others.
MOST = 1.0


class Driven(Learned):
    """A learned rule that waits for its actions; one object a stack of runs.

    Args:
        policy: gives bound, interval and anchor; its network is not asked.
        run: what is known of the runs beside their length.
    """

    state: Any
    seen: Tensor

    def start(self, zero: Tensor, steps: int) -> tuple[Tensor, Any]:
        """Return the schedule's first height; the state stays here."""
        scale, self.state = super().start(zero, steps)
        return scale, None

    def update(self, state: Any, seen: Signals) -> tuple[Tensor, Any]:
        """Hear the step, observe at a window's end, and return the schedule's height."""
        scale, self.state = super().update(self.state, seen)
        return scale, None

    def decide(self, state: LearnedState, loss: Tensor, step: int, total: int) -> LearnedState:
        """Keep the observation for the next call of `act`."""
        self.seen, window = features.observe(
            state.features, loss, step=step, run=self._of(total), xp=torch
        )
        return state._replace(features=window)

    def factors(self, state: Any) -> Tensor:
        """Return the factors between measurements."""
        return super().factors(self.state)

    def steer(
        self, state: Any, seen: Tensors, step: int, lr: Tensor, scale: Tensor
    ) -> tuple[Tensor, Any]:
        """Return the factors for this step."""
        applied, self.state = super().steer(self.state, seen, step, lr, scale)
        return applied, None

    def act(self, actions: Tensor) -> None:
        """Correct the anchor for the next window; [runs], in [-1, 1]."""
        inside = torch.ones_like(actions, dtype=torch.bool)
        inner = learned.act(self.state.learned, actions, inside, self.policy.bound, xp=torch)
        self.state = self.state._replace(learned=inner)


class Group:
    """One setting, trained for each seed once under the anchor and in copies under the policy.

    All runs of a seed have the same weights, batches and noise, so that any difference is due to
    the policy.

    Args:
        setting: what is trained; its length must be a multiple of the policy's windows.
        policy: the anchor, and how it may be corrected.
        seeds: one per training.
        copies: runs of each seed under the policy.
        lr: base rate of each seed.
    """

    def __init__(
        self, setting: Setting, policy: Policy, seeds: list[int], copies: int, lr: list[float]
    ) -> None:
        self._interval, self._copies = policy.interval(setting.steps), copies
        self._rule = Driven(policy, setting.run)
        runs = len(seeds) * (1 + copies)
        request = arguments.check(
            setting.task,
            setting.optimizer,
            self._rule,
            runs=runs,
            steps=setting.steps,
            lr=np.repeat(lr, 1 + copies).tolist(),
            noise=setting.noise,
            seed=np.repeat(seeds, 1 + copies).tolist(),
            device="cpu",
            dtype=torch.float32,
            every=setting.steps,
            memory=1 << 30,
            compile=False,
        )
        self._training = Training(request, range(runs))
        initial = self._training.clean().reshape(-1, 1 + copies)[:, :1]
        self._initial = np.where(np.isfinite(initial) & (initial > 0), initial, 1.0)
        self.steps = setting.steps

    def window(self) -> NDArray[np.float32]:
        """Train to the window's end, and return what the policy's runs show, [runs, features]."""
        for _ in range(self._interval):
            self._training.step()
        seen = self._rule.seen.numpy().reshape(len(features.FEATURES), -1, self._copies + 1)
        return np.moveaxis(seen[:, :, 1:], 0, -1).reshape(-1, len(seen)).astype(np.float32)

    @property
    def done(self) -> bool:
        """Whether the trainings have ended."""
        return self._training.steps >= self.steps

    def act(self, actions: NDArray[Any]) -> None:
        """Correct the anchor until the next decision.

        Args:
            actions: [runs] in [-1, 1].
        """
        mine = np.clip(actions, -1.0, 1.0).reshape(-1, self._copies)
        everyone = np.concatenate([np.zeros((len(mine), 1)), mine], axis=1)
        self._rule.act(torch.from_numpy(everyone.reshape(-1).astype(np.float64)))

    def result(self) -> NDArray[np.float64] | None:
        """Return the scores, once the trainings have ended."""
        return self.scores() if self.done else None

    def scores(self) -> NDArray[np.float64]:
        """Return ln(anchor's loss / own loss) at the end, [seeds, copies], within +-`MOST`.

        The mean of those of the rows trained on and of the rows held out.
        """
        ends = (self._training.clean(), self._training.held_out())
        return np.mean([self._against_anchor(end) for end in ends], axis=0)

    def _against_anchor(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        losses = losses.reshape(len(self._initial), -1)
        low, high = FLOOR * self._initial, CAP * self._initial
        logs = np.log(np.where(np.isfinite(losses), np.clip(losses, low, high), high))
        return np.clip(logs[:, :1] - logs[:, 1:], -MOST, MOST)


def whole_windows(setting: Setting, policy: Policy) -> Setting:
    """Return the setting with its length rounded to a multiple of the policy's windows."""
    return replace(setting, steps=policy.windows * max(1, round(setting.steps / policy.windows)))


def drawn(
    draw: Callable[[np.random.Generator], Setting],
    policy: Policy,
    trainings: int,
    copies: int,
    number: int,
    rng: np.random.Generator,
) -> tuple[str, Callable[[], Group]]:
    """Return the name of a setting that is drawn, and a function that begins its group.

    Args:
        draw: draws it.
        policy: the anchor, and how it may be corrected.
        trainings: seeds of the setting.
        copies: runs of each seed under the policy.
        number: of the group in its round; all are drawn in one way.
        rng: what is drawn comes from it, and beginning takes nothing more.
    """
    setting = draw(rng)
    seeds = rng.integers(2**31, size=trainings).tolist()
    low, high = np.log(RATES)
    rates = np.exp(rng.uniform(low, high, trainings)).tolist()
    setting = whole_windows(setting, policy)
    return setting.name, partial(Group, setting, policy, seeds, copies, rates)
