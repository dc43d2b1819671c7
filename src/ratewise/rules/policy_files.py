"""Weight files of policies: safetensors, with JSON under the metadata's key "ratewise". No pickle.

A file may come from anybody, so it is data to be checked: its size, before it is opened; the
types and names of its tensors; each field of the metadata against a declared table; then the
policy as a whole; and the digest that was written with it against what was read. A file that
passes is a policy of finite numbers with bounded corrections; any other is `CorruptPolicy`.
The digest finds damage. It is no signature: who writes a file can write its digest.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import CorruptPolicy, InvalidState, unknown, wrong_type
from ratewise.files import writing
from ratewise.rules import schema
from ratewise.rules.network import LARGEST, MOST_LAYERS, Weights
from ratewise.rules.schema import Check

#: What is written. Format 1, which is read, too, had no digest.
FORMAT = 2
#: Shipped weight files.
FOLDER = Path(__file__).parent.parent / "policies"
#: Bytes of a file, characters of its metadata, and how deep lists and objects lie in them.
MOST_BYTES, MOST_CHARACTERS, MOST_DEPTH = 1 << 24, 1 << 20, 32
_FIX = "pass a file that `ratewise learn` has written"
#: Damage, however it shows itself: of the file, of the JSON, of numbers too large for a float.
_DAMAGE = (ValueError, TypeError, KeyError, ArithmeticError, RecursionError, MemoryError)


def write(path: str | Path, policy: Weights, features: Sequence[str], **about: Any) -> None:
    """Write a policy's file, whole or not at all.

    Args:
        path: the file.
        policy: its network.
        features: their names, in order.
        **about: what else belongs to the policy, plain data; `digest` of all that decides.
    """
    from safetensors.numpy import save

    tensors: dict[str, NDArray[np.float32]] = {}
    for layer, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
        tensors |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    ranges = {"low": [float(x) for x in policy.low], "high": [float(x) for x in policy.high]}
    said = {"format": FORMAT, "features": list(features), **ranges, **about}
    writing.write(path, save(tensors, {"ratewise": json.dumps(said)}))


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
        WrongType: it is no name and no path.
        CorruptPolicy: the file is too large to be one.
    """
    if not isinstance(policy, str | Path):
        raise wrong_type("policy", "a name, a path or a policy", policy, "pass 'default'")
    path = Path(policy)
    known = names(folder)
    if str(policy) in known:
        path = folder / f"{policy}.safetensors"
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):  # a name too long, or none that a file can have
        size = None
    if size is None:
        raise unknown("policy", str(policy)[:200], known)
    if size > MOST_BYTES:
        raise CorruptPolicy(f"{path}: too large for a policy (over {MOST_BYTES} bytes): {_FIX}")
    return path


def read(
    path: Path, features: Sequence[str], fields: Mapping[str, Check]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a file's arrays, as `Weights` names them, and its metadata, checked.

    Args:
        path: the file.
        features: that the policy must have been trained on.
        fields: what the metadata must hold beside the features and their ranges.

    Raises:
        CorruptPolicy: the file is damaged, is no policy, or is for other features.
    """
    about, tensors = _opened(path)
    with fitting(path):
        if type(about["format"]) is not int or not 1 <= about["format"] <= FORMAT:
            raise CorruptPolicy(
                f"{path}: of format {about['format']!r:.40}, this version reads 1 to {FORMAT}: "
                "install the ratewise that wrote it, or learn it again"
            )
        schema.several(schema.text)("features", about["features"])
        if about["features"] != list(features):
            odd = sorted(set(about["features"]) ^ set(features)) or ["in another order"]
            which = ", ".join(odd)[:200]
            raise CorruptPolicy(f"{path}: trained on other features ({which}): learn it again")
        span = schema.several(schema.number(-LARGEST, LARGEST), len(features))
        own = {"low": span, "high": span, "provenance": plain, **fields}
        own |= {"digest": schema.text} if about["format"] > 1 else {}
        for name, check in own.items():
            check(name, about[name])
        layers = range(len(tensors) // 2)
        weights = tuple(tensors.pop(f"{layer}.weight") for layer in layers)
        biases = tuple(tensors.pop(f"{layer}.bias") for layer in layers)
        if tensors:
            raise ValueError(f"tensors of no layer: {', '.join(sorted(tensors))[:80]}")
        low, high = (np.array(about[name], np.float32) for name in ("low", "high"))
    return {"weights": weights, "biases": biases, "low": low, "high": high}, about


def _opened(path: Path) -> tuple[Any, dict[str, NDArray[np.float32]]]:
    """Return what a file's metadata say, as yet unchecked, and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get("ratewise")
            names = list(file.keys())
            if len(names) > 2 * MOST_LAYERS:
                raise ValueError(f"{len(names)} tensors, more than {MOST_LAYERS} layers have")
            for name in names:
                kind = file.get_slice(name).get_dtype()
                if kind != "F32":
                    raise ValueError(f"tensor {name[:40]!r} of type {kind}, not float32")
            tensors = {name: file.get_tensor(name) for name in names}
        if text is None:
            raise CorruptPolicy(f"{path}: weights without a policy's metadata: {_FIX}")
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"metadata of over {MOST_CHARACTERS} characters")
        return json.loads(text, parse_constant=_no_number), tensors
    except CorruptPolicy:
        raise
    except (OSError, SafetensorError, *_DAMAGE) as error:
        reason = f"damaged, or no safetensors file of a policy ({_said(error)})"
        raise CorruptPolicy(f"{path}: {reason}: {_FIX}") from error


def verify(path: Path, about: Mapping[str, Any], digest: str) -> None:
    """Raise unless what was read is what was written.

    Args:
        path: the file.
        about: its metadata; those of format 1 have no digest, and pass.
        digest: of the policy that was made of them.

    Raises:
        CorruptPolicy: weights or settings were changed after they were written.
    """
    if about.get("digest", digest) != digest:
        raise CorruptPolicy(
            f"{path}: damaged: weights or settings are not those that were written (digest "
            f"{digest}, not {about['digest'][:16]!r}): take the file anew from where it came from"
        )


def plain(name: str, value: Any) -> None:
    """Check an object of JSON, at most `MOST_DEPTH` deep, that nothing depends on."""
    schema.require(isinstance(value, dict), name, "an object", value)
    layer, depth = [value], 0
    while layer:
        depth += 1
        schema.require(depth <= MOST_DEPTH, name, f"at most {MOST_DEPTH} deep", "a deeper one")
        inside = (x.values() if isinstance(x, dict) else x for x in layer)
        layer = [entry for x in inside for entry in x if isinstance(entry, dict | list)]


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn errors from reading a file's metadata into `CorruptPolicy`."""
    try:
        yield
    except CorruptPolicy:
        raise
    except InvalidState as error:  # whose last words are the fix for a state
        reason = str(error).rpartition(": ")[0]
        raise CorruptPolicy(f"{path}: its metadata do not fit ({reason}): {_FIX}") from error
    except _DAMAGE as error:
        message = f"{path}: its metadata do not fit ({_said(error)}): {_FIX}"
        raise CorruptPolicy(message) from error


def _said(error: BaseException) -> str:
    """Return what an error says, with its kind where that is all there is to say."""
    kind, words = type(error).__name__, str(error)[:300]
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, KeyError):
        return f"no {words}"
    return words or kind


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")
