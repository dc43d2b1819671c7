"""A small network over features, with the range that it was trained on, and its weight file.

A file is safetensors: float32 weights, and JSON under the metadata's key "ratewise". No pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptPolicy, invalid, unknown

FORMAT = 1
#: A feature may lie so far beyond the range that was seen: other roundings, runs a little shorter.
MARGIN = 0.05
#: Shipped weight files.
FOLDER = Path(__file__).parent.parent / "policies"
_BYTES = 1 << 24  # nothing that calls itself a policy is larger
_FIX = "pass a file that `ratewise learn` has written"


class Network(NamedTuple):
    """A network's arrays, where they are needed."""

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
            InvalidArgument: layers that do not fit.
        """
        wide = len(features)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if weight.ndim != 2 or weight.shape[1] != wide or bias.shape != weight.shape[:1]:
                allowed = f"layers that fit: {wide} inputs here"
                raise invalid("weights", allowed, weight.shape, "pass those of one network")
            wide = len(bias)
        if not self.weights or wide != 1:
            raise invalid("weights", "a network with one output", wide, "give the last layer one")
        for name in ("low", "high"):
            shape = getattr(self, name).shape
            if shape != (len(features),):
                raise invalid(name, f"{len(features)} numbers", shape, "one a feature")

    def fingerprint(self, *numbers: Any) -> str:
        """Return 16 hexadecimal digits of the arrays and of whatever else decides."""
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

    def write(self, path: str | Path, features: Sequence[str], about: Mapping[str, Any]) -> None:
        """Write the file, whole or not at all.

        Args:
            path: the file.
            features: their names, in order.
            about: what else belongs to the policy, plain data.
        """
        from safetensors.numpy import save

        tensors: dict[str, NDArray[np.float32]] = {}
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            tensors |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
        ranges = {"low": [float(x) for x in self.low], "high": [float(x) for x in self.high]}
        said = {"format": FORMAT, "features": list(features), **ranges, **about}
        data = save(tensors, {"ratewise": json.dumps(said)})
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".part-{target.name}")
        part.write_bytes(data)
        part.replace(target)


def names(folder: Path = FOLDER) -> list[str]:
    """Return the policies that lie in a folder.

    >>> "default" in names()
    True
    """
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def find(policy: str | Path, folder: Path = FOLDER) -> Path:
    """Return the file of a policy that ships, or the path that was given.

    Args:
        policy: one of `names`, or a path.
        folder: where those that ship lie.

    Raises:
        UnknownName: neither.
        CorruptPolicy: the file is too large to be one.
    """
    path = Path(policy)
    known = names(folder)
    if str(policy) in known:
        path = folder / f"{policy}.safetensors"
    elif not path.is_file():
        raise unknown("policy", str(policy), known)
    if path.stat().st_size > _BYTES:
        raise CorruptPolicy(f"{path}: too large for a policy: pass a file of `ratewise learn`")
    return path


def read(path: Path, features: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a file's arrays, as `Weights` names them, and what belongs to them.

    Raises:
        CorruptPolicy: the file is damaged, is no policy, is for other features, or holds numbers
            that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {})["ratewise"])
    except (OSError, SafetensorError, ValueError) as error:
        raise CorruptPolicy(f"{path}: damaged, or no safetensors file ({error}): {_FIX}") from error
    except (KeyError, TypeError) as error:
        raise CorruptPolicy(f"{path}: weights without a policy's metadata: {_FIX}") from error
    with fitting(path):
        if about["format"] != FORMAT:
            raise CorruptPolicy(
                f"{path}: of format {about['format']}, this version reads {FORMAT}: "
                "install the ratewise that wrote it, or learn it again"
            )
        if about["features"] != list(features):
            odd = sorted(set(about["features"]) ^ set(features)) or "in another order"
            raise CorruptPolicy(f"{path}: trained on other features ({odd}): learn it again")
        depth = len(tensors) // 2
        weights = tuple(tensors[f"{layer}.weight"] for layer in range(depth))
        biases = tuple(tensors[f"{layer}.bias"] for layer in range(depth))
        low, high = (np.array(about[name], np.float32) for name in ("low", "high"))
    numbers = [*weights, *biases, low, high]
    if not all(np.isfinite(x).all() for x in numbers):
        raise CorruptPolicy(f"{path}: holds numbers that are not finite: {_FIX}")
    return {"weights": weights, "biases": biases, "low": low, "high": high}, about


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file's metadata are taken apart into `CorruptPolicy`."""
    try:
        yield
    except CorruptPolicy:
        raise
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}: its metadata do not fit ({error}): {_FIX}"
        raise CorruptPolicy(message) from error
