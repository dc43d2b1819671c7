"""The bounds on real data: faces, gene expression, digits."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.nmf.problems import (
    Stack,
    candidates,
    losses,
    never_rises,
    norm,
    relative_noise,
    start,
    steps,
)
from tests.nmf.test_stability_joint import joint_losses

from ratewise.nmf import stability

RANKS = {"faces": 10, "leukaemia": 3, "digits": 10}


def file(*parts: str) -> Path:
    """Return a file of the data folder; skip where it is not."""
    root = os.environ.get("RATEWISE_DATA")
    if root is None:
        pytest.skip("RATEWISE_DATA names no folder with real data")
    path = Path(root).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"no {'/'.join(parts)} in the folder that RATEWISE_DATA names")
    return path


def matrix(name: str) -> np.ndarray:
    if name == "faces":  # one pixel in 64 of the ORL faces
        with np.load(file("orl-faces", "orl-faces.npz")) as data:
            return data["images"][:, ::8, ::8].reshape(400, -1) / 255.0
    if name == "leukaemia":
        return np.loadtxt(file("all-aml", "ALL_AML_data.txt"))[::3] / 1e4
    return pytest.importorskip("sklearn.datasets").load_digits().data[::3] / 16.0


@functools.cache
def problem(name: str) -> Stack:
    return start(matrix(name), RANKS[name]).balanced()


@pytest.mark.parametrize("name", RANKS)
def test_alternating_steps_and_their_edge(name: str) -> None:
    c, first = candidates([0.5, 1.0, 1.9, 1.99, 2.5, 3.0], problem(name))
    monotone = never_rises(losses(first, c, 40, keep=Stack.balanced))
    assert monotone.tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize("name", RANKS)
def test_joint_steps_and_their_edge(name: str) -> None:
    c, first = candidates([1.0, 1.9, 3.01, 3.5], problem(name))
    monotone = never_rises(joint_losses(first, c, 100, "trial, slopes"))
    assert monotone.tolist() == [True, True, False, False]


@pytest.mark.parametrize("name", RANKS)
def test_half_the_gradient_of_noise_never_lifts_the_loss_above_its_start(name: str) -> None:
    c, first = candidates([0.5, 1.0, 4 / 3, 1.9], problem(name))
    generator = torch.Generator().manual_seed(0)
    seen = losses(first, c, 40, noise=relative_noise(0.5, generator), keep=Stack.balanced)
    assert (seen <= seen[0]).all()
    assert (seen[-1] < 0.5 * seen[0]).all()


@pytest.mark.parametrize("name", RANKS)
def test_one_rate_from_the_caps_is_safe_for_ever(name: str) -> None:
    first = problem(name)
    cap = float(stability.norm_cap(float(norm(first.v)), float(first.loss())))
    limit = torch.tensor(2 / (RANKS[name] * cap**2), dtype=torch.float64)
    seen = losses(first, 1.9, 40, limit=lambda *_: limit, keep=lambda now: now.capped(cap))
    assert never_rises(seen)
    assert seen[-1] < seen[0]


@pytest.mark.parametrize("name", RANKS)
def test_the_certified_eigenvalue_over_a_run(name: str) -> None:
    warm: dict[str, Any] = {}
    for step in steps(problem(name), 1.0, 30, keep=Stack.balanced):
        gram = step.before.gram(step.block)
        exact = torch.linalg.eigvalsh(gram)[-1]
        cold, _ = stability.largest_eigenvalue(gram)
        bound, warm[step.block] = stability.largest_eigenvalue(gram, warm.get(step.block))
        slack = 8 * gram.shape[-1] * torch.finfo(torch.float64).eps  # LAPACK's, and a sum's
        for value in (cold, bound):
            assert exact * (1 - slack) <= value <= exact * 1.01
