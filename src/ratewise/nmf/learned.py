r"""A learned schedule of a factorisation's rate: a network's output, clipped to the proven bound.

At the end of each of `windows` equal parts of a run the network sees an observation x
(`ratewise.nmf.observation`) and gives an action a in [-1, 1]. It corrects a cosine, and until the
next decision the rate of a step at progress t in [0, 1) is c / L with

.. math:: c(t) = \mathrm{clip}\bigl(e^{3 a} \max(0.02, \tfrac{1 + \cos \pi t}{2}),
          \; 10^{-3}, \; 1.9\bigr),

so that whatever the network says stays below the limit 2 / L of docs/theory/nmf-stability.md,
Theorem 1. Where an observation is outside the range seen in training, a is 0: the plain cosine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ratewise.nmf.arrays import Array, namespace
from ratewise.nmf.observation import FEATURES, empty, init, observe
from ratewise.rules import policy_files, schema
from ratewise.rules.network import MOST_WINDOWS, Weights
from ratewise.rules.policy_files import FOLDER

#: The smallest and the largest multiple of 1 / L that a schedule may choose; below 2 it is safe.
LEAST, MOST = 1e-3, 1.9
#: A correction is at most exp(+-REACH); the cosine ends at FLOOR.
REACH, FLOOR = 3.0, 0.02
NMF_FOLDER = FOLDER / "nmf"
#: What a policy's file says beside its features, with the range of each.
FIELDS = {"windows": schema.count(2, MOST_WINDOWS)}


def multiple(action: Any, progress: float, xp: Any) -> Any:
    """Return c, the multiple of 1 / L.

    Args:
        action: the correction, in [-1, 1]; cut to that.
        progress: share of the run that is over, in [0, 1].
        xp: `numpy` or `torch`.

    >>> import numpy as np
    >>> [round(float(multiple(np.array(a), 0.5, np)), 4) for a in (-1.0, 0.0, 1.0)]
    [0.0249, 0.5, 1.9]
    """
    anchor = max(FLOOR, (1.0 + math.cos(math.pi * progress)) / 2.0)
    return xp.clip(anchor * xp.exp(REACH * xp.clip(action, -1.0, 1.0)), LEAST, MOST)


@dataclass(frozen=True, eq=False)
class NMFPolicy(Weights):
    """A network with all that is needed to use it; equal only to itself.

    Args:
        weights: one [outputs, inputs] a layer, tanh between them; the last has one output.
        biases: one [outputs] a layer.
        low, high: [features] the range seen in training.
        windows: parts of a run; there is a decision at the end of each but the last.
        provenance: how it was made, as plain data; it has no effect.
        name: its name in messages.
    """

    windows: int = 20
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "policy"

    def __post_init__(self) -> None:
        self.check(FEATURES)
        self.check_windows(self.windows)

    @property
    def digest(self) -> str:
        """Identity of the policy: 16 hexadecimal digits of a hash of all that decides."""
        return self.fingerprint(self.windows)

    def save(self, path: str | Path) -> None:
        """Write the file, completely or not at all."""
        about = {"windows": self.windows, "provenance": dict(self.provenance)}
        policy_files.write(path, self, FEATURES, **about, digest=self.digest)


class PolicySchedule:
    """A policy in use, for one run or a stack of them.

    Args:
        policy: what decides.
        total_steps: of the run.
        zero: zeros of the runs' shape, a float array or tensor.
    """

    def __init__(self, policy: NMFPolicy, total_steps: int, zero: Array) -> None:
        xp = namespace(zero)
        self._network = policy.arrays(zero, xp)
        self._total = total_steps
        self._ends = {round(total_steps * i / policy.windows) for i in range(1, policy.windows + 1)}
        self._state, self._sums = init(zero), empty(zero)
        self._zero, self._steps = zero, 0
        self.c = multiple(zero, 0.0, xp)  #: of the next step
        self.outside = zero  #: decisions that fell back, so far

    def observe(self, loss: Any, inner: Any, square: Any) -> Any:
        """Record what was measured at a step, and return c for the next one.

        Args:
            loss: f before the step, as its gradient saw it.
            inner: sum over the blocks of g_t . g_(t-1) / L_t.
            square: sum over the blocks of |g_t|^2 / L_t.
        """
        self._sums = self._sums.add(loss, inner, square)
        self._steps += 1
        if self._steps in self._ends and self._steps < self._total:
            self._decide()
        self.c = multiple(self._state.action, self._steps / self._total, namespace(self._zero))
        return self.c

    def _decide(self) -> None:
        xp = namespace(self._zero)
        seen, state = observe(
            self._state, self._sums, step=self._steps, total_steps=self._total, xp=xp
        )
        action, inside = self._network(seen, xp=xp)
        action = xp.clip(xp.where(inside, action, 0.0), -1.0, 1.0)
        self.outside = self.outside + xp.where(inside, 0.0, 1.0)
        self._state, self._sums = state._replace(action=action), empty(self._zero)


def names() -> list[str]:
    """Return the policies that ship.

    >>> "default" in names()
    True
    """
    return policy_files.names(NMF_FOLDER)


def load(policy: str | Path | NMFPolicy) -> NMFPolicy:
    """Return a policy: a name of `names()`, or a file's path.

    Raises:
        UnknownName: no such policy ships, and no such file exists.
        CorruptPolicy: the file is damaged, is no policy, or is for other features.
    """
    if isinstance(policy, NMFPolicy):
        return policy
    path = policy_files.find(policy, NMF_FOLDER)
    arrays, about = policy_files.read(path, FEATURES, FIELDS)
    with policy_files.fitting(path):
        settings = {name: about[name] for name in ("windows", "provenance")}
        found = NMFPolicy(**arrays, **settings, name=path.stem)
    policy_files.verify(path, about, found.digest)
    return found
