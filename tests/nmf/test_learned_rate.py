"""A learned rate: below the bound, as it was trained, falling back, and read from files alone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ratewise.errors import CorruptPolicy, InvalidArgument, UnknownName
from ratewise.nmf import learned
from ratewise.nmf.learned import FLOOR, LEAST, MOST, REACH, NMFPolicy, PolicySchedule, multiple
from ratewise.nmf.observation import FEATURES
from ratewise.rules import learned as neural

WIDE = len(FEATURES)


def policy(bias: float = 0.0, **changes: Any) -> NMFPolicy:
    rng = np.random.default_rng(0)
    span = np.full(WIDE, 5.0, np.float32)
    settings: dict[str, Any] = {
        "weights": (0.5 * rng.standard_normal((1, WIDE)).astype(np.float32),),
        "biases": (np.array([bias], np.float32),),
        "low": -span,
        "high": span,
        "windows": 4,
    }
    return NMFPolicy(**{**settings, **changes})


@pytest.mark.parametrize("bias", [-100.0, 0.0, 100.0])
def test_whatever_the_network_says_the_rate_is_below_the_bound(bias: float):
    schedule = PolicySchedule(policy(bias), 20, np.zeros(3))
    for step in range(20):
        c = schedule.observe(np.full(3, 1.0 / (step + 1)), np.full(3, 0.1), np.ones(3))
        assert (c >= LEAST * 0.999).all()
        assert (c <= MOST * 1.001).all()
    assert (schedule.outside == 0).all()
    if bias:
        wanted = max(FLOOR, (1 + np.cos(np.pi)) / 2) * np.exp(np.sign(bias) * REACH)
        np.testing.assert_allclose(c, np.clip(wanted, LEAST, MOST), rtol=1e-6)


def test_decisions_come_at_the_windows_ends_whatever_the_length():
    for steps in (4, 10, 21):
        schedule = PolicySchedule(policy(0.3), steps, np.zeros(1))
        corrections = [0.0]
        for step in range(steps):
            value = np.array([1.0 / (1 + step)])
            c = float(schedule.observe(value, value / 3, value)[0])
            anchor = float(multiple(np.zeros(1), (step + 1) / steps, np)[0])
            corrections.append(round(float(np.log(c / anchor)), 6))
        changes = sum(a != b for a, b in itertools.pairwise(corrections))
        assert changes == 3, (steps, corrections)


def test_out_of_the_range_it_is_the_cosine_and_counts():
    narrow = np.zeros(WIDE, np.float32)
    schedule = PolicySchedule(policy(1.0, low=narrow, high=narrow), 40, np.zeros(2))
    free = PolicySchedule(policy(1.0), 40, np.zeros(2))
    for step in range(1, 40):
        c = schedule.observe(np.ones(2), np.ones(2), np.ones(2))
        np.testing.assert_allclose(c, max(FLOOR, (1 + np.cos(np.pi * step / 40)) / 2), rtol=1e-6)
        own = free.observe(np.ones(2), np.ones(2), np.ones(2))
        assert (own > c).all() == (step >= 10)  # inside the range the network has its say
    assert (schedule.outside == 3).all()
    assert (free.outside == 0).all()


def test_numpy_and_torch_decide_the_same():
    rng = np.random.default_rng(1)
    losses = rng.random((30, 5)) + 0.1
    both = [
        PolicySchedule(policy(0.1), 30, np.zeros(5)),
        PolicySchedule(policy(0.1), 30, torch.zeros(5, dtype=torch.float64)),
    ]
    for row in losses:
        ours = both[0].observe(row, row / 2, row)
        theirs = both[1].observe(*(torch.tensor(x) for x in (row, row / 2, row)))
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-9)


def test_a_file_gives_the_same_policy_and_foreign_ones_are_named(tmp_path: Path):
    own = policy(0.2, provenance={"tasks": ["nmf"]})
    own.save(tmp_path / "own.safetensors")
    found = learned.load(tmp_path / "own.safetensors")
    assert found.digest == own.digest
    assert found.provenance == {"tasks": ["nmf"]}
    assert found.name == "own"
    assert learned.load(found) is found
    with pytest.raises(CorruptPolicy, match="other features"):
        learned.load(neural.FOLDER / "default.safetensors")
    whole = (tmp_path / "own.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    with pytest.raises(CorruptPolicy, match="damaged"):
        learned.load(tmp_path / "cut.safetensors")
    broken = replace(own)
    object.__setattr__(broken, "biases", (np.array([np.nan], np.float32),))
    broken.save(tmp_path / "nan.safetensors")
    with pytest.raises(CorruptPolicy, match="finite numbers"):
        learned.load(tmp_path / "nan.safetensors")
    with pytest.raises(UnknownName, match="policy"):
        learned.load("defaul")


def test_a_network_that_does_not_fit_is_refused():
    with pytest.raises(InvalidArgument, match="weights"):
        policy(weights=(np.zeros((1, 3), np.float32),))
    with pytest.raises(InvalidArgument, match="low"):
        policy(low=np.zeros(2, np.float32))
