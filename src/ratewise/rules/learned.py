r"""Learned corrections: a small network over the features of a training, read from a weight file.

At the end of each of `windows` equal parts of a run the network sees an observation x
(`ratewise.rules.features`) and gives an action a in [-1, 1]; the anchor's ratio
(`ratewise.rules.update_ratio`) is multiplied by

.. math:: c = \exp(\beta \, a(x)), \qquad x_{\min} \le x \le x_{\max}, \qquad c = 1 \text{ else,}

so that nothing it says moves the ratio by more than :math:`e^{\beta}`, and where it sees what it
never saw while it was trained, the anchor alone decides.

Variants: Xu et al. 2019 (arXiv 1909.09712) multiply the last rate by [0.5, 2]; a recursion that
is wrong stays wrong. Subramanian et al. 2023 (ICLR Tiny Papers) set the rate itself. Here the
action is absolute and bounded, on an anchor that does not depend on the user's rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ratewise.errors import invalid, unknown
from ratewise.rules import features, policy_files, schema
from ratewise.rules.checks import is_number
from ratewise.rules.features import FEATURES, FeatureState
from ratewise.rules.fixed import FIXED
from ratewise.rules.network import MARGIN, MOST_WINDOWS, Network, Weights
from ratewise.rules.policy_files import FOLDER
from ratewise.rules.ratio_law import Horizon, Outlook, Passes, RatioLaw
from ratewise.rules.update_ratio import UpdateRatioConfig

#: A correction is at most exp(MOST_BOUND).
MOST_BOUND = 5.0
_SHARE = schema.above(0.0, 1.0)
_FALL = {"level": schema.above(0.0, 1e3), "power": schema.number(-4.0, 4.0)}
_ENDS = {"least": _SHARE, "most": _SHARE}
#: What a policy's file says beside its features, with the range of each.
FIELDS = {
    "bound": schema.above(0.0, MOST_BOUND),
    "windows": schema.count(2, MOST_WINDOWS),
    "law": schema.record(
        {
            "unknown": schema.record({**_FALL, **_ENDS, "unknown": _SHARE}),
            "known": schema.record(
                {**_FALL, **_ENDS, "free": schema.above(0.0), "fall": schema.number(-4.0, 4.0)}
            ),
            "pretrained": _SHARE,
        }
    ),
    "schedule": schema.choice(*FIXED),
}


class LearnedState(NamedTuple):
    """What is remembered of a run."""

    features: FeatureState
    correction: Any  #: what the anchor's ratio is multiplied by
    outside: Any  #: decisions that fell back to the anchor


@dataclass(frozen=True, eq=False)
class Policy(Weights):
    """A network with everything that is needed to use it. Two policies are equal only if identical.

    Args:
        weights: one [outputs, inputs] a layer, tanh between them; the last has one output.
        biases: one [outputs] a layer.
        low, high: [features] the range that was seen in training.
        bound: beta: the ratio is corrected by at most exp(beta).
        windows: parts of a run; there is a decision at the end of each but the last.
        law: the anchor's ratio as it depends on the run.
        schedule: the anchor's, a name of `ratewise.rules.fixed`.
        provenance: how it was made, plain data; it decides nothing.
        name: what it is called in messages.
    """

    bound: float
    windows: int
    law: RatioLaw
    schedule: str = "linear"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "policy"

    def __post_init__(self) -> None:
        self.check(FEATURES)
        self.check_windows(self.windows)
        if not (is_number(self.bound) and 0 < self.bound <= MOST_BOUND):
            raise invalid("bound", f"a number in (0, {MOST_BOUND:g}]", self.bound, "pass e.g. 1.5")
        if self.schedule not in FIXED:
            raise unknown("schedule", self.schedule, FIXED)

    @classmethod
    def anchor(cls, law: RatioLaw, **settings: Any) -> Policy:
        """Return a policy whose correction is always 1: what learning starts from.

        Args:
            law: the anchor's ratio.
            settings: `bound`, `windows`, `schedule`.
        """
        wide = len(FEATURES)
        zero = np.zeros((1, wide), np.float32)
        span = np.full(wide, features.MOST, np.float32)
        return cls((zero,), (zero[:, 0],), -span, span, law=law, **settings)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the policy: a hash of everything it decides by."""
        law = map(float, (*self.law.unknown, *self.law.known, self.law.pretrained))
        return self.fingerprint(float(self.bound), self.windows, *law, self.schedule)

    def interval(self, total_steps: int) -> int:
        """Return the optimizer steps between decisions in a run of so many."""
        return max(1, round(total_steps / self.windows))

    @property
    def lengths(self) -> tuple[int, int]:
        """The least and the greatest length that was seen in training, in optimizer steps."""
        at = FEATURES.index("horizon")
        # no training is so long, and no float holds what lies far beyond
        low, high = (min(float(x[at]), features.MOST) for x in (self.low, self.high))
        return max(1, features.length(low)), features.length(high)

    def knows(self, total_steps: int) -> bool:
        """Return whether the network decides in a run of so many steps; else the anchor alone."""
        at = FEATURES.index("horizon")
        seen = min(features.MOST, max(-features.MOST, features.horizon(total_steps)))
        return bool(self.low[at] - MARGIN <= seen <= self.high[at] + MARGIN)

    def config(self, run: Outlook) -> UpdateRatioConfig:
        """Return the anchor's settings for a run."""
        return UpdateRatioConfig(ratio=self.law.ratio(run))

    def on(self, like: Any, xp: Any) -> Network:
        """Return the network as arrays of `like`'s kind and device; xp is torch or numpy."""
        return self.arrays(like, xp, self.bound)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        policy_files.write(
            path,
            self,
            FEATURES,
            bound=self.bound,
            windows=self.windows,
            law={
                "unknown": self.law.unknown._asdict(),
                "known": self.law.known._asdict(),
                "pretrained": self.law.pretrained,
            },
            schedule=self.schedule,
            provenance=dict(self.provenance),
            digest=self.digest,
        )


def init(zero: Any, *, xp: Any) -> LearnedState:
    """Return the state before the first step, with a correction of 1.

    Args:
        zero: an array of zeros of the runs' shape, float type and device.
        xp: the array namespace: `numpy`, `torch` or `jax.numpy`.
    """
    return LearnedState(features.init(zero, xp=xp), zero + 1.0, zero)


def decide(
    state: LearnedState, loss: Any, network: Network, *, step: int, run: Outlook, xp: Any
) -> tuple[LearnedState, Any]:
    """Observe the window that ends here, and set the correction for the next one.

    Returns the state, and the features, [features, ...].

    Args:
        state: the last.
        loss: the window's mean.
        network: a policy's, on the state's device.
        step: optimizer steps made.
        run: what is known of it; its length is.
        xp: the array namespace of `state`.
    """
    seen, inner = features.observe(state.features, loss, step=step, run=run, xp=xp)
    action, inside = network(seen, xp=xp)
    return act(state._replace(features=inner), action, inside, network.bound, xp=xp), seen


def act(state: LearnedState, action: Any, inside: Any, bound: float, *, xp: Any) -> LearnedState:
    """Take an action in [-1, 1] where `inside`; the anchor stays as it is elsewhere."""
    action = xp.where(inside, action, 0.0)
    return LearnedState(
        state.features._replace(action=action),
        xp.exp(bound * action),
        state.outside + xp.where(inside, 0.0, 1.0),
    )


def names() -> list[str]:
    """Return the policies that ship.

    >>> "default" in names()
    True
    """
    return policy_files.names(FOLDER)


def load(policy: str | Path | Policy) -> Policy:
    """Return a policy: a name of `names()`, or a file's path.

    Raises:
        UnknownName: no such policy ships, and no such file exists.
        CorruptPolicy: the file is damaged, is no policy, or is for other features.
    """
    if isinstance(policy, Policy):
        return policy
    path = policy_files.find(policy)
    arrays, about = policy_files.read(path, FEATURES, FIELDS)
    with policy_files.fitting(path):
        parts = about["law"]
        law = RatioLaw(Horizon(**parts["unknown"]), Passes(**parts["known"]), parts["pretrained"])
        settings = {name: about[name] for name in ("bound", "windows", "schedule", "provenance")}
        found = Policy(**arrays, **settings, law=law, name=path.stem)
    policy_files.verify(path, about, found.digest)
    return found
