r"""Learned corrections: a small network over the features of a training, read from a weight file.

At the end of each of `windows` equal parts of a run the network sees an observation x
(`ratewise.rules.features`) and gives an action a in [-1, 1]; the anchor's ratio
(`ratewise.rules.update_ratio`) is multiplied by

.. math:: c = \exp(\beta \, a(x)), \qquad x_{\min} \le x \le x_{\max}, \qquad c = 1 \text{ else,}

so that nothing it says moves the ratio by more than :math:`e^{\beta}`, and where it sees what it
never saw while it was trained, the anchor alone decides.

A file is safetensors: float32 weights, and JSON under the metadata's key "ratewise". No pickle.

Variants: Xu et al. 2019 (arXiv 1909.09712) multiply the last rate by [0.5, 2]; a recursion that
is wrong stays wrong. Subramanian et al. 2023 (ICLR Tiny Papers) set the rate itself. Here the
action is absolute and bounded, on an anchor that does not depend on the user's rate.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptPolicy, invalid, unknown
from ratewise.rules import features
from ratewise.rules.checks import check_count
from ratewise.rules.features import FEATURES, FeatureState
from ratewise.rules.fixed import FIXED
from ratewise.rules.update_ratio import Horizon, UpdateRatioConfig

FORMAT = 1
#: A feature may lie so far beyond the range that was seen: other roundings, runs a little shorter.
MARGIN = 0.05
#: Shipped weight files.
FOLDER = Path(__file__).parent.parent / "policies"
_BYTES = 1 << 24  # nothing that calls itself a policy is larger


class LearnedState(NamedTuple):
    """What is remembered of a run."""

    features: FeatureState
    correction: Any  #: what the anchor's ratio is multiplied by
    outside: Any  #: decisions that fell back to the anchor


@dataclass(frozen=True, eq=False)
class Policy:
    """A network with all that is needed to use it; equal only to itself.

    Args:
        weights: one [outputs, inputs] a layer, tanh between them; the last has one output.
        biases: one [outputs] a layer.
        low, high: [features] the range that was seen in training.
        bound: beta: the ratio is corrected by at most exp(beta).
        windows: parts of a run; there is a decision at the end of each but the last.
        horizon: the anchor's ratio as it depends on the run's length.
        schedule: the anchor's, a name of `ratewise.rules.fixed`.
        provenance: how it was made, plain data; it decides nothing.
        name: what it is called in messages.
    """

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    bound: float
    windows: int
    horizon: Horizon
    schedule: str = "linear"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    name: str = "policy"

    def __post_init__(self) -> None:
        wide = len(FEATURES)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.ndim != 2 or weight.shape[1] != wide or bias.shape != weight.shape[:1]:
                allowed = f"layers that fit: {wide} inputs here"
                raise invalid("weights", allowed, weight.shape, "pass those of one network")
            wide = len(bias)
        if not self.weights or wide != 1:
            raise invalid("weights", "a network with one output", wide, "give the last layer one")
        for name in ("low", "high"):
            shape = getattr(self, name).shape
            if shape != (len(FEATURES),):
                raise invalid(name, f"{len(FEATURES)} numbers", shape, "one a feature")
        check_count("windows", self.windows, 2)
        if not 0 < self.bound <= 5:
            raise invalid("bound", "a number in (0, 5]", self.bound, "pass e.g. 1.5")
        if self.schedule not in FIXED:
            raise unknown("schedule", self.schedule, FIXED)

    @classmethod
    def anchor(cls, horizon: Horizon, **settings: Any) -> Policy:
        """Return a policy that leaves its anchor alone: what learning starts from.

        Args:
            horizon: the anchor's ratio.
            settings: `bound`, `windows`, `schedule`.
        """
        wide = len(FEATURES)
        zero = np.zeros((1, wide), np.float32)
        span = np.full(wide, features.MOST, np.float32)
        return cls((zero,), (zero[:, 0],), -span, span, horizon=horizon, **settings)

    @property
    def digest(self) -> str:
        """What tells policies apart: 16 hexadecimal digits of all that decides."""
        arrays = (*self.weights, *self.biases, self.low, self.high)
        numbers = (self.bound, self.windows, *self.horizon, self.schedule)
        content = b"".join(x.tobytes() for x in arrays) + repr(numbers).encode()
        return hashlib.sha256(content).hexdigest()[:16]

    def interval(self, total_steps: int) -> int:
        """Return the optimizer steps between decisions in a run of so many."""
        return max(1, round(total_steps / self.windows))

    def config(self, total_steps: int) -> UpdateRatioConfig:
        """Return the anchor's settings for a run of so many steps."""
        return UpdateRatioConfig(ratio=self.horizon.ratio(total_steps))

    def on(self, like: Any, xp: Any) -> Network:
        """Return the network as arrays of `like`'s kind and device; xp is torch or numpy."""

        def cast(array: NDArray[np.float32]) -> Any:
            if xp is np:
                return array.astype(like.dtype)
            return xp.from_numpy(array).to(like.device, like.dtype)

        layers = tuple((cast(w), cast(b)) for w, b in zip(self.weights, self.biases, strict=True))
        return Network(layers, cast(self.low), cast(self.high), self.bound)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        from safetensors.numpy import save

        tensors: dict[str, NDArray[np.float32]] = {}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            tensors |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
        about = {
            "format": FORMAT,
            "features": list(FEATURES),
            "low": [float(x) for x in self.low],
            "high": [float(x) for x in self.high],
            "bound": self.bound,
            "windows": self.windows,
            "horizon": self.horizon._asdict(),
            "schedule": self.schedule,
            "provenance": dict(self.provenance),
        }
        data = save(tensors, {"ratewise": json.dumps(about)})
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".part-{target.name}")
        part.write_bytes(data)
        part.replace(target)


class Network(NamedTuple):
    """A policy's arrays, where they are needed."""

    layers: tuple[tuple[Any, Any], ...]
    low: Any
    high: Any
    bound: float

    def __call__(self, x: Any, *, xp: Any) -> tuple[Any, Any]:
        """Return the actions and whether the features are within the range, each [...].

        Args:
            x: [features, ...].
            xp: the array namespace.
        """
        shape = (-1,) + (1,) * (x.ndim - 1)
        low, high = self.low.reshape(shape), self.high.reshape(shape)
        inside = ((x >= low - MARGIN) & (x <= high + MARGIN)).all(0)
        for index, (weight, bias) in enumerate(self.layers):
            x = weight @ x + bias.reshape(shape)
            x = xp.tanh(x) if index + 1 < len(self.layers) else x
        action = x[0]
        action = xp.where(action > 1.0, 1.0, action)
        return xp.where(action < -1.0, -1.0, action), inside


def init(zero: Any, *, xp: Any) -> LearnedState:
    """Return the state before the first step: the anchor as it is.

    Args:
        zero: an array of zeros of the runs' shape, float type and device.
        xp: the array namespace: `numpy`, `torch` or `jax.numpy`.
    """
    return LearnedState(features.init(zero, xp=xp), zero + 1.0, zero)


def decide(
    state: LearnedState, loss: Any, network: Network, *, step: int, total_steps: int, xp: Any
) -> tuple[LearnedState, Any]:
    """Look at the window that ends here, and correct the anchor for the next one.

    Returns the state, and the features, [features, ...].

    Args:
        state: the last.
        loss: the window's mean.
        network: a policy's, on the state's device.
        step: optimizer steps made.
        total_steps: of the run.
        xp: the array namespace of `state`.
    """
    seen, inner = features.observe(state.features, loss, step=step, total_steps=total_steps, xp=xp)
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
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load(policy: str | Path | Policy) -> Policy:
    """Return a policy: a name of `names()`, or a file's path.

    Raises:
        UnknownName: no such policy ships, and no such file exists.
        CorruptPolicy: the file is damaged, is no policy, or is for other features.
    """
    if isinstance(policy, Policy):
        return policy
    path = Path(policy)
    if str(policy) in names():
        path = FOLDER / f"{policy}.safetensors"
    elif not path.is_file():
        raise unknown("policy", str(policy), names())
    if path.stat().st_size > _BYTES:
        raise CorruptPolicy(f"{path}: too large for a policy: pass a file of `ratewise learn`")
    return _parse(path)


def _parse(path: Path) -> Policy:
    from safetensors import SafetensorError, safe_open

    fix = "pass a file that `ratewise learn` has written"
    try:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {})["ratewise"])
    except (OSError, SafetensorError, ValueError) as error:
        raise CorruptPolicy(f"{path}: damaged, or no safetensors file ({error}): {fix}") from error
    except (KeyError, TypeError) as error:
        raise CorruptPolicy(f"{path}: weights without a policy's metadata: {fix}") from error
    try:
        if about["format"] != FORMAT:
            raise CorruptPolicy(
                f"{path}: of format {about['format']}, this version reads {FORMAT}: "
                "install the ratewise that wrote it, or learn it again"
            )
        if about["features"] != list(FEATURES):
            odd = sorted(set(about["features"]) ^ set(FEATURES)) or "in another order"
            raise CorruptPolicy(f"{path}: trained on other features ({odd}): learn it again")
        depth = len(tensors) // 2
        found = Policy(
            weights=tuple(tensors[f"{layer}.weight"] for layer in range(depth)),
            biases=tuple(tensors[f"{layer}.bias"] for layer in range(depth)),
            low=np.array(about["low"], np.float32),
            high=np.array(about["high"], np.float32),
            bound=float(about["bound"]),
            windows=int(about["windows"]),
            horizon=Horizon(**about["horizon"]),
            schedule=about["schedule"],
            provenance=about["provenance"],
            name=path.stem,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CorruptPolicy):
            raise
        raise CorruptPolicy(f"{path}: its metadata do not fit ({error}): {fix}") from error
    numbers = [*found.weights, *found.biases, found.low, found.high]
    if not all(np.isfinite(x).all() for x in numbers) or not math.isfinite(found.bound):
        raise CorruptPolicy(f"{path}: holds numbers that are not finite: {fix}")
    return found
