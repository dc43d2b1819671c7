"""Weight files of policies that were damaged, or made to do harm.

Promised: a file is refused by a named error, or it is a policy whose every word is a finite number
within its bounds, whatever training it steers.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from tests.fuzz.harness import Fault
from tests.rules.policies import random_nmf_policy, random_policy, rewrite, said

from ratewise import LearnedLR, StochasticNMF
from ratewise.errors import CorruptPolicy, RatewiseError
from ratewise.nmf import learned as nmf
from ratewise.nmf.learned import LEAST, MOST
from ratewise.rules import learned
from ratewise.rules.learned import MOST_BOUND

#: Values that no field is ready for.
HOSTILE: tuple[Any, ...] = (
    *(None, True, "", "x", "linear", [], {}, [[]], {"a": 1}, -0.0, 0, 1, 2, -1, 0.5, 1e-320, 1e38),
    *(1e39, 1e300, -1e300, 2**31, 2**63, -(2**63), 10**400, 10**4000, 10**5000),
    *(math.inf, -math.inf, math.nan, "NaN", "1e999", "\0", "\ud800", "x" * 100_000, [0.0] * 50_000),
)
_NO_POLICY = (
    *(ValueError, TypeError, KeyError, OverflowError, RecursionError),
    *(SafetensorError, struct.error),
)
NUMBERS = np.array(
    [math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e6, 1e-45, 0.0, -0.0], np.float32
)


def case(rng: np.random.Generator, folder: Path) -> str:
    path = folder / "own.safetensors"
    steering = bool(rng.random() < 0.5)
    _begin(rng, path, steering)
    for _ in range(rng.integers(1, 4)):
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        try:
            mutation(rng, path)
        except _NO_POLICY:
            break  # the last one left nothing that could be taken apart
        if not path.is_file():
            break
    return tried(path, steering)


def tried(path: Path, steering: bool) -> str:
    """Open a file and use what it holds; return the outcome."""
    module: Any = learned if steering else nmf
    try:
        policy = module.load(path)
    except RatewiseError as error:
        if len(str(error)) > 2000 + len(str(path)):
            raise Fault(f"a message of {len(str(error))} characters") from error
        return f"refused {type(error).__name__}"
    if steering:
        _steers(policy)
    else:
        _factorises(policy)
    return "held"


def _begin(rng: np.random.Generator, path: Path, steering: bool) -> None:
    """Write a sound file: of random weights, or one that ships."""
    module: Any = learned if steering else nmf
    if rng.random() < 0.3:
        name = module.names()[rng.integers(len(module.names()))]
        module.load(name).save(path)
    else:
        make: Any = random_policy if steering else random_nmf_policy
        make(int(rng.integers(1000)), provenance={"seed": 1, "tasks": ["a", "b"]}).save(path)


def _steers(policy: Any) -> None:
    """Raise unless a training under a policy stays finite, and its corrections bounded."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = LearnedLR(optimizer, policy=policy, total_steps=12)
    x = torch.linspace(-1, 1, 24).reshape(8, 3)
    for step in range(12):
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        scheduler.step(loss if step != 7 else math.nan)
        correction = float(scheduler.correction())
        if not math.exp(-MOST_BOUND) * 0.99 <= correction <= math.exp(MOST_BOUND) * 1.01:
            raise Fault(f"a correction of {correction} after step {step}")
        if not all(torch.isfinite(p).all() for p in model.parameters()):
            raise Fault(f"weights that are not finite after step {step}")


def _factorises(policy: Any) -> None:
    """Raise unless a factorisation under a policy is finite, and its rates below the bound."""
    x = np.linspace(0.0, 1.0, 120).reshape(20, 6)
    fitted = StochasticNMF(
        *(2,), solver="sgd", schedule="learned", policy=policy, max_iter=9, tol=0.0, random_state=0
    )
    w = fitted.fit_transform(x)
    if not (np.isfinite(w).all() and np.isfinite(fitted.components_).all()):
        raise Fault("factors that are not finite")
    rates = fitted.rate_history_
    if not ((rates >= LEAST) & (rates <= MOST)).all():
        raise Fault(f"rates from {rates.min()} to {rates.max()}")


def _flip(rng: np.random.Generator, path: Path) -> None:
    whole = bytearray(path.read_bytes())
    for _ in range(int(2 ** rng.integers(0, 5))):
        whole[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
    path.write_bytes(whole)


def _flip_a_weight(rng: np.random.Generator, path: Path) -> None:
    whole = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    whole[rng.integers(min(start, len(whole) - 1), len(whole))] ^= 1 << int(rng.integers(8))
    path.write_bytes(whole)


def _cut(rng: np.random.Generator, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: rng.integers(len(whole) + 1)])


def _grow(rng: np.random.Generator, path: Path) -> None:
    whole, more = path.read_bytes(), rng.bytes(int(rng.integers(1, 64)))
    at = int(rng.choice([0, 8, len(whole)]))
    path.write_bytes(whole[:at] + more + whole[at:])


def _other_length(rng: np.random.Generator, path: Path) -> None:
    whole = path.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    lengths = [0, 1, max(0, length - 1), length // 2, len(whole), 2**31, 2**63, 2**64 - 1]
    path.write_bytes(struct.pack("<Q", lengths[rng.integers(len(lengths))]) + whole[8:])


def _header(rng: np.random.Generator, path: Path) -> None:
    """Change what the file says of a tensor's type, shape or place."""
    whole = path.read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    name = sorted(header)[rng.integers(len(header))]
    field = ["dtype", "shape", "data_offsets"][rng.integers(3)]
    values: list[Any] = [*("F64", "I8", "BF16", "F8_E4M3", "BOOL"), [2**62, 4], [-1], [0, 2**63]]
    values += [[], [0], [1] * 1000, "x", None, [12, 8], [8, 12], [0, 0], [4, 0]]
    header[name] = {**header[name], field: values[rng.integers(len(values))]}
    if rng.random() < 0.2:
        header[name] = _hostile(rng)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _setting(rng: np.random.Generator, path: Path) -> None:
    """Replace, remove or add a leaf of the metadata; half of them without a digest that tells."""

    def change(about: dict[str, Any], tensors: dict[str, Any]) -> None:
        inside: Any = about
        key: Any = list(about)[rng.integers(len(about))]
        while isinstance(inside[key], dict | list) and len(inside[key]) and rng.random() < 0.7:
            inside = inside[key]
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            key = keys[rng.integers(len(keys))]
        if rng.random() < 0.2:
            del inside[key]
        else:
            inside[key] = _near(rng, inside[key]) if rng.random() < 0.3 else _hostile(rng)
        if rng.random() < 0.6:
            _unsign(about)

    rewrite(path, change)


def _text(rng: np.random.Generator, path: Path) -> None:
    """Replace the metadata by text that is no JSON, or JSON that is no object."""
    text = json.dumps(said(path))
    deep = int(10 ** rng.uniform(1, 5.5))
    texts = [
        text[: rng.integers(len(text))],
        text.replace("1.5", "1" + "0" * 400),
        text.replace("1.5", "9" * 5000),
        text.replace("1.5", ["Infinity", "-Infinity", "NaN", "1e999", "1.5.5"][rng.integers(5)]),
        text.replace("{", '{"a":' * deep, 1),
        "[" * deep + "]" * deep,
        '{"provenance":' * deep + "1" + "}" * deep,
        json.dumps(_hostile(rng)),
        text * 2,
        "\ufeff" + text,
        text.replace(":", ": " * 3),
        text[:-1] + ', "windows": 9223372036854775808}',
    ]
    chosen = texts[rng.integers(len(texts))]
    rewrite(path, lambda about, tensors: chosen)


def _provenance(rng: np.random.Generator, path: Path) -> None:
    deep: Any = 1
    for _ in range(int(10 ** rng.uniform(0, 2.6))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    rewrite(path, lambda about, tensors: about.update(provenance={"a": deep}))


def _tensors(rng: np.random.Generator, path: Path) -> None:
    """Change numbers, types, shapes and names of tensors."""

    def change(about: dict[str, Any], tensors: dict[str, Any]) -> None:
        name = sorted(tensors)[rng.integers(len(tensors))]
        array = tensors[name]
        way = rng.integers(8)
        if way <= 2 and array.size:
            array.flat[rng.integers(array.size)] = NUMBERS[rng.integers(len(NUMBERS))]
        elif way == 3:
            tensors[name] = array * np.float32(10.0 ** rng.integers(-40, 38))
        elif way == 4:
            kinds = ["float64", "float16", "int8", "int64", "bool"]
            tensors[name] = array.astype(kinds[rng.integers(len(kinds))])
        elif way == 5:
            shapes = [(-1,), (1, -1), (*array.shape, 1), array.shape[::-1]]
            tensors[name] = array.reshape(shapes[rng.integers(4)]).copy()
        elif way == 6:
            del tensors[name]
        else:
            odd = ["2.weight", "00.bias", "0.weight ", "", "../x", "9" * 500, "-1.bias", "x"]
            tensors[odd[rng.integers(len(odd))]] = array.copy()
        if rng.random() < 0.8:
            _unsign(about)

    rewrite(path, change)


def _foreign(rng: np.random.Generator, path: Path) -> None:
    """Put something else in the file's place."""
    way = rng.integers(5)
    path.unlink()
    if way == 0:
        path.write_bytes(rng.bytes(int(rng.integers(0, 300))))
    elif way == 1:
        path.write_bytes(pickle.dumps(_Bomb()))
    elif way == 2:
        path.mkdir()
    elif way == 3:
        path.symlink_to(path)
    else:
        os.mkfifo(path)


class _Bomb:
    """What must never be unpickled: it ends the process."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (7,)


def _unsign(about: dict[str, Any]) -> None:
    """Make a file one of the first format, which had no digest: what an attacker would do."""
    about["format"] = 1
    about.pop("digest", None)


def _hostile(rng: np.random.Generator) -> Any:
    return HOSTILE[rng.integers(len(HOSTILE))]


def _near(rng: np.random.Generator, value: Any) -> Any:
    """Return a number that may still be legal."""
    if isinstance(value, int | float):
        factors = [0.5, 2.0, 10.0, -1.0, 1.0 + 1e-9, 1e6]
        near = value * factors[rng.integers(len(factors))]
        return int(near) if isinstance(value, int) and math.isfinite(near) else near
    return value


MUTATIONS: tuple[Callable[[np.random.Generator, Path], None], ...] = (
    *(_flip, _flip_a_weight, _cut, _grow, _other_length, _header),
    *(_setting, _setting, _setting, _text, _provenance, _tensors, _tensors, _foreign),
)


def _refused(change: Callable[[dict[str, Any], dict[str, Any]], Any], *, steering: bool) -> Any:
    """Return a regression: a file with this change must be refused as a corrupt policy."""

    def regression(folder: Path) -> None:
        path = folder / "own.safetensors"
        (random_policy() if steering else random_nmf_policy()).save(path)
        rewrite(path, change)
        try:
            outcome = tried(path, steering)
        except CorruptPolicy as error:
            raise Fault("refused only when it was used") from error
        if outcome != "refused CorruptPolicy":
            raise Fault(f"{outcome}, not refused")

    return regression


def _of_settings(*keys: str, value: Any, steering: bool = True) -> Any:
    def change(about: dict[str, Any], tensors: dict[str, Any]) -> None:
        _unsign(about)
        for key in keys[:-1]:
            about = about[key]
        about[keys[-1]] = value

    return _refused(change, steering=steering)


def _of_weights(value: float, steering: bool) -> Any:
    def change(about: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors["0.weight"][0] = [value, -value] * (tensors["0.weight"].shape[1] // 2)
        _unsign(about)

    return _refused(change, steering=steering)


def _another_weight(about: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["1.bias"][0] += np.float32(0.25)


def _another_setting(about: dict[str, Any], tensors: dict[str, Any]) -> None:
    about["windows"] += 1


_DEEP = "[" * 100_000 + "]" * 100_000

REGRESSIONS: dict[str, Callable[[Path], None]] = {
    "2^63 windows of a factorisation": _of_settings("windows", value=2**63, steering=False),
    "2^63 windows of a training": _of_settings("windows", value=2**63),
    "10^400 windows": _of_settings("windows", value=10**400),
    "windows in words": _of_settings("windows", value="20", steering=False),
    "a bound of 10^400": _of_settings("bound", value=10**400),
    "a bound that is no number": _of_settings("bound", value=math.nan),
    "an infinite level": _of_settings("law", "known", "level", value=math.inf),
    "a level of 10^400": _of_settings("law", "known", "level", value=10**400),
    "a power in words": _of_settings("law", "unknown", "power", value="x"),
    "no law": _of_settings("law", value=[1, 2]),
    "a schedule that is a list": _of_settings("schedule", value=["linear"]),
    "metadata nested too deeply": _refused(lambda about, tensors: _DEEP, steering=True),
    "nested too deeply, of a factorisation": _refused(lambda about, tensors: _DEEP, steering=False),
    "a weight that was changed": _refused(_another_weight, steering=True),
    "a setting that was changed": _refused(_another_setting, steering=False),
    "huge weights that cancel to no number": _of_weights(3e38, True),
    "huge weights, of a factorisation": _of_weights(3e38, False),
    "infinite weights": _of_weights(math.inf, True),
}
