"""Policies: files that are refused by name, bounds that hold, one definition for three runtimes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.rules.policies import WIDE, random_policy

from ratewise.errors import CorruptPolicy, InvalidArgument, UnknownName
from ratewise.rules import features, learned
from ratewise.rules.features import FEATURES
from ratewise.rules.learned import Policy
from ratewise.rules.ratio_law import Outlook, RatioLaw

pytestmark = pytest.mark.numerics


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def run(xp: Any, array: Any, scale: float = 1.0, decisions: int = 12) -> tuple[list, list]:
    """Return actions' corrections and features over a made-up training in one runtime."""
    rng = np.random.default_rng(3)
    policy = random_policy()
    zero = array(np.zeros(2))
    network = policy.on(zero, xp)
    state = learned.init(zero, xp=xp)
    corrections, seen = [], []
    for step in range(1, decisions + 1):
        for _ in range(3):
            state = state._replace(
                features=features.look(
                    state.features,
                    gradient=array(scale * (1 + rng.random(2))),
                    alignment=array(rng.random(2)),
                    decrease=array(scale * rng.random(2)),
                    size=array(scale * (5 + step + rng.random(2))),
                    xp=xp,
                )
            )
        loss = array(scale * (3 / step + 0.1 * rng.random(2)))
        state, x = learned.decide(state, loss, network, step=step, run=Outlook(12), xp=xp)
        corrections.append(np.asarray(state.correction))
        seen.append(np.asarray(x))
    return corrections, seen


def test_three_runtimes_decide_alike():
    reference, _ = run(np, lambda x: np.asarray(x, np.float64))
    in_torch, _ = run(torch, lambda x: torch.as_tensor(x, dtype=torch.float64))
    np.testing.assert_allclose(in_torch, reference, rtol=1e-12)
    assert np.ptp(np.array(reference)) > 0.1  # it does something


def test_features_do_not_depend_on_the_scale_of_losses_weights_and_gradients():
    _, plain = run(np, np.asarray)
    _, scaled = run(np, np.asarray, scale=1000.0)
    np.testing.assert_allclose(np.array(scaled), np.array(plain), atol=1e-6)
    other = features.init(np.zeros(()), xp=np)  # and they do depend on what happens
    first, other = features.observe(other, np.asarray(2.0), step=1, run=Outlook(4), xp=np)
    second, _ = features.observe(other, np.asarray(1.0), step=2, run=Outlook(4), xp=np)
    level = FEATURES.index("level")
    assert first[level] == 0
    assert second[level] == pytest.approx(math.log(0.5) / 2)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_leaves_everything_finite(loss: float):
    state = features.init(np.zeros(()), xp=np)
    _, state = features.observe(state, np.asarray(2.0), step=1, run=Outlook(4), xp=np)
    seen, state = features.observe(state, np.asarray(loss), step=2, run=Outlook(4), xp=np)
    assert np.isfinite(seen).all()
    assert float(state.last) == 2.0


def test_the_correction_is_bounded_whatever_the_network_says():
    huge = [np.full_like(w, 100.0) for w in random_policy().weights]
    policy = random_policy(weights=tuple(huge), bound=0.7)
    zero = np.zeros(())
    state = learned.init(zero, xp=np)
    for sign in (1.0, -1.0):
        network = policy.on(zero, np)._replace(
            layers=tuple((w * sign, b) for w, b in policy.on(zero, np).layers)
        )
        after, _ = learned.decide(state, zero + 1.0, network, step=3, run=Outlook(4), xp=np)
        assert abs(math.log(after.correction)) <= 0.7 * (1 + 1e-12)
        assert abs(math.log(after.correction)) > 0.6


def test_outside_what_was_seen_the_anchor_stands():
    narrow = np.zeros(WIDE, np.float32)
    policy = random_policy(low=narrow - 0.01, high=narrow + 0.01)
    zero = np.zeros(())
    state = learned.init(zero, xp=np)
    outside, _ = learned.decide(
        state, zero + 1.0, policy.on(zero, np), step=3, run=Outlook(4), xp=np
    )
    assert (float(outside.correction), float(outside.outside)) == (1.0, 1.0)
    inside, _ = learned.decide(
        state, zero + 1.0, random_policy().on(zero, np), step=3, run=Outlook(4), xp=np
    )
    assert float(inside.correction) != 1.0
    assert float(inside.outside) == 0.0


def test_a_file_comes_back_as_it_was(tmp_path: Path):
    policy = random_policy(provenance={"seed": 3})
    policy.save(tmp_path / "own.safetensors")
    again = learned.load(tmp_path / "own.safetensors")
    pairs = zip(policy.weights + policy.biases, again.weights + again.biases, strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)
    assert (again.bound, again.windows, again.law) == (1.5, 12, RatioLaw())
    assert (again.name, dict(again.provenance)) == ("own", {"seed": 3})


def damaged(path: Path, how: str) -> None:
    """Spoil a policy's file in one way."""
    whole = path.read_bytes()
    tensors = load_file(path)
    size = int.from_bytes(whole[:8], "little")
    about = json.loads(json.loads(whole[8 : 8 + size])["__metadata__"]["ratewise"])
    if how == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
        return
    if how == "empty":
        path.write_bytes(b"")
        return
    if how == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
        return
    if how == "foreign":
        save_file(tensors, path)
        return
    if how == "no JSON":
        save_file(tensors, path, {"ratewise": "{"})
        return
    if how == "newer":
        about["format"] = 99
    elif how == "other features":
        about["features"] = [*about["features"][:-1], "temperature"]
    elif how == "no bound":
        del about["bound"]
    elif how == "a layer missing":
        tensors.pop("0.weight")
    elif how == "not finite":
        tensors["0.weight"][0, 0] = np.nan
    save_file(tensors, path, {"ratewise": json.dumps(about)})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "damaged, or no safetensors file"),
        ("empty", "damaged, or no safetensors file"),
        ("pickle", "damaged, or no safetensors file"),
        ("foreign", "without a policy's metadata"),
        ("no JSON", "damaged, or no safetensors file"),
        ("newer", "of format 99, this version reads 1"),
        ("other features", "trained on other features .*temperature"),
        ("no bound", "metadata do not fit"),
        ("a layer missing", "metadata do not fit"),
        ("not finite", "finite numbers"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, how: str, message: str):
    path = tmp_path / "own.safetensors"
    random_policy().save(path)
    damaged(path, how)
    with pytest.raises(CorruptPolicy, match=message) as error:
        learned.load(path)
    assert "own.safetensors" in str(error.value)


def test_an_unknown_name_lists_those_that_ship():
    with pytest.raises(UnknownName, match="default"):
        learned.load("defualt")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"bound": 0.0}, InvalidArgument),
        ({"bound": math.nan}, InvalidArgument),
        ({"windows": 1}, InvalidArgument),
        ({"low": zeros(3)}, InvalidArgument),
        ({"schedule": "cosin"}, UnknownName),
        (
            {"weights": (np.zeros((8, 3), np.float32), np.zeros((1, 8), np.float32))},
            InvalidArgument,
        ),
        ({"weights": (), "biases": ()}, InvalidArgument),
    ],
)
def test_a_policy_that_cannot_be_is_refused(changes: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        random_policy(**changes)


def test_windows_make_intervals():
    policy = random_policy(windows=25)
    assert [policy.interval(steps) for steps in (1, 30, 100, 1000)] == [1, 1, 4, 40]


def test_the_anchor_policy_leaves_everything_alone():
    policy = Policy.anchor(RatioLaw(), bound=1.5, windows=25)
    zero = np.zeros(())
    state, _ = learned.decide(
        learned.init(zero, xp=np), zero + 1, policy.on(zero, np), step=1, run=Outlook(9), xp=np
    )
    assert float(state.correction) == 1.0


@pytest.mark.parametrize("name", learned.names())
def test_what_ships_is_small_and_says_where_it_comes_from(name: str):
    assert (learned.FOLDER / f"{name}.safetensors").stat().st_size < 200_000
    policy = learned.load(name)
    assert {"settings", "tasks", "made_by", "version"} <= set(policy.provenance)
