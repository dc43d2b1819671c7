r"""A learned schedule of a factorisation's rate: a network's word, clipped to the proven bound.

At the end of each of `windows` equal parts of a run the network sees an observation x
(`ratewise.nmf.observation`) and gives an action a in [-1, 1], which is a multiple of 1 / L,

.. math:: c = \exp\left(\ln c_{\min} + \tfrac{a + 1}{2} (\ln c_{\max} - \ln c_{\min})\right),
          \qquad c_{\min} = 10^{-3}, \; c_{\max} = 1.9 < 2,

so that whatever it says stays below the limit 2 / L of docs/theory/nmf-stability.md, Theorem 1.
Where it sees what it never saw while it was trained, c falls along a cosine from 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ratewise.nmf.observation import FEATURES, empty, init, observe
from ratewise.rules import network
from ratewise.rules.checks import check_count
from ratewise.rules.network import FOLDER, Weights

#: The smallest and the largest multiple of 1 / L that a schedule may choose; below 2 it is safe.
LEAST, MOST = 1e-3, 1.9
#: The first window runs at c = 1.
FIRST = 1.0
NMF_FOLDER = FOLDER / "nmf"


def multiple(action: Any, xp: Any) -> Any:
    """Return c of an action in [-1, 1].

    >>> [round(float(multiple(np.array(a), np)), 4) for a in (-1.0, 0.0, 1.0)]
    [0.001, 0.0436, 1.9]
    """
    low, high = math.log(LEAST), math.log(MOST)
    return xp.exp(low + (xp.clip(action, -1.0, 1.0) + 1.0) / 2.0 * (high - low))


def action_of(c: float) -> float:
    """Return the action that is a multiple of 1 / L.

    >>> round(action_of(1.0), 4)
    0.83
    """
    low, high = math.log(LEAST), math.log(MOST)
    return 2.0 * (math.log(c) - low) / (high - low) - 1.0


@dataclass(frozen=True, eq=False)
class NMFPolicy(Weights):
    """A network with all that is needed to use it; equal only to itself.

    Args:
        weights: one [outputs, inputs] a layer, tanh between them; the last has one output.
        biases: one [outputs] a layer.
        low, high: [features] the range that was seen in training.
        windows: parts of a run; there is a decision at the end of each but the last.
        provenance: how it was made, plain data; it decides nothing.
        name: what it is called in messages.
    """

    windows: int = 20
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "policy"

    def __post_init__(self) -> None:
        self.check(FEATURES)
        check_count("windows", self.windows, 2)

    @property
    def digest(self) -> str:
        """What tells policies apart: 16 hexadecimal digits of all that decides."""
        return self.fingerprint(self.windows)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        self.write(path, FEATURES, {"windows": self.windows, "provenance": dict(self.provenance)})


class Schedule:
    """A policy in use, for one run or a stack of them.

    Args:
        policy: what decides.
        total_steps: of the run.
        zero: zeros of the runs' shape, float.
        xp: `numpy` or `torch`.
    """

    def __init__(self, policy: NMFPolicy, total_steps: int, zero: Any, xp: Any) -> None:
        self._network = policy.arrays(zero, xp)
        self._total, self._xp = total_steps, xp
        self._ends = {round(total_steps * i / policy.windows) for i in range(1, policy.windows + 1)}
        self._state = init(zero, action_of(FIRST))
        self._zero = zero
        self._sums = empty(zero)
        self._steps = 0
        self.c = zero + FIRST  #: of the next step
        self.outside = zero  #: decisions that fell back, so far

    def heard(self, loss: Any, inner: Any, square: Any) -> Any:
        """Take what a step saw, and return the multiple of 1 / L for the next one.

        Args:
            loss: f before the step, as its gradient saw it.
            inner: sum over the blocks of g_t . g_(t-1) / L_t.
            square: sum over the blocks of |g_t|^2 / L_t.
        """
        self._sums = self._sums.add(loss, inner, square)
        self._steps += 1
        if self._steps in self._ends and self._steps < self._total:
            self._decide()
        return self.c

    def _decide(self) -> None:
        xp = self._xp
        seen, state = observe(
            self._state, self._sums, step=self._steps, total_steps=self._total, xp=xp
        )
        action, inside = self._network(seen, xp=xp)
        back = action_of(max(LEAST, (1.0 + math.cos(math.pi * self._steps / self._total)) / 2.0))
        action = xp.where(inside, action, back)
        self.outside = self.outside + xp.where(inside, 0.0, 1.0)
        self._state = state._replace(action=action)
        self._sums = empty(self._zero)
        self.c = multiple(action, xp)


def names() -> list[str]:
    """Return the policies that ship.

    >>> "default" in names()
    True
    """
    return sorted(path.stem for path in NMF_FOLDER.glob("*.safetensors"))


def load(policy: str | Path | NMFPolicy) -> NMFPolicy:
    """Return a policy: a name of `names()`, or a file's path.

    Raises:
        UnknownName: no such policy ships, and no such file exists.
        CorruptPolicy: the file is damaged, is no policy, or is for other features.
    """
    if isinstance(policy, NMFPolicy):
        return policy
    path = network.find(policy, names(), NMF_FOLDER)
    arrays, about = network.read(path, FEATURES)
    with network.fitting(path):
        return NMFPolicy(
            **arrays,
            windows=int(about["windows"]),
            provenance=about["provenance"],
            name=path.stem,
        )
