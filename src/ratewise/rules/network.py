"""A small network over features, with the range that it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import invalid
from ratewise.rules.checks import check_count

#: A feature may lie so far beyond the range that was seen: other roundings, runs a little shorter.
MARGIN = 0.05
#: No weight is larger: so nothing overflows in float32, and what comes out is a number.
LARGEST = 1e6
#: Layers, and units of one, that a network may have.
MOST_LAYERS, MOST_UNITS = 32, 65536
#: Decisions in a run, at most.
MOST_WINDOWS = 10_000


class Network(NamedTuple):
    """A network's arrays, on the device where it is used."""

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


@dataclass(frozen=True, eq=False)
class Weights:
    """What was learned: layers with tanh between them, and the range of each feature.

    Args:
        weights: one [outputs, inputs] a layer; the last has one output.
        biases: one [outputs] a layer.
        low, high: [features] the range that was seen in training.
    """

    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def check(self, features: Sequence[str]) -> None:
        """Raise unless this is one network over so many features.

        Raises:
            InvalidArgument: layers that do not fit, or numbers outside [-`LARGEST`, `LARGEST`].
        """
        wide, layers = len(features), len(self.weights)
        if layers > MOST_LAYERS or len(self.biases) != layers:
            allowed = f"at most {MOST_LAYERS} layers, with a bias each"
            raise invalid("weights", allowed, (layers, len(self.biases)), "pass one network's")
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.ndim != 2 or weight.shape[1] != wide or bias.shape != weight.shape[:1]:
                allowed = f"layers that fit: {wide} inputs here"
                raise invalid("weights", allowed, weight.shape, "pass those of one network")
            wide = len(bias)
            if wide > MOST_UNITS:
                raise invalid("weights", f"layers of <= {MOST_UNITS} units", wide, "pass fewer")
        if not self.weights or wide != 1:
            raise invalid("weights", "a network with one output", wide, "give the last layer one")
        for name in ("low", "high"):
            shape = getattr(self, name).shape
            if shape != (len(features),):
                raise invalid(name, f"{len(features)} numbers", shape, "one a feature")
        for array in (*self.weights, *self.biases, self.low, self.high):
            if array.dtype != np.float32:
                raise invalid("weights and ranges", "float32", array.dtype, "convert them")
            if not (abs(array) <= LARGEST).all():
                allowed = f"finite numbers within {LARGEST:g} of 0"
                raise invalid("weights and ranges", allowed, "others", "learn it again")

    @staticmethod
    def check_windows(windows: int) -> None:
        """Raise unless this is a number of decisions that a run may have.

        Raises:
            InvalidArgument: it is no integer from 2 to `MOST_WINDOWS`.
        """
        check_count("windows", windows, 2)
        if windows > MOST_WINDOWS:
            raise invalid("windows", f"an integer from 2 to {MOST_WINDOWS}", windows, "pass 25")

    def fingerprint(self, *numbers: Any) -> str:
        """Return 16 hexadecimal digits: a hash of the arrays and of `numbers`."""
        arrays = (*self.weights, *self.biases, self.low, self.high)
        content = b"".join(x.tobytes() for x in arrays) + repr(numbers).encode()
        return hashlib.sha256(content).hexdigest()[:16]

    def arrays(self, like: Any, xp: Any, bound: float = 1.0) -> Network:
        """Return the network as arrays of `like`'s kind and device; xp is torch or numpy."""

        def cast(array: NDArray[np.float32]) -> Any:
            if xp is np:
                return array.astype(like.dtype)
            return xp.from_numpy(array).to(like.device, like.dtype)

        layers = tuple((cast(w), cast(b)) for w, b in zip(self.weights, self.biases, strict=True))
        return Network(layers, cast(self.low), cast(self.high), bound)
