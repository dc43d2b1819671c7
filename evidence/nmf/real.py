"""Real matrices that judge a learned schedule: parts of digits, faces and gene expression."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from evidence.nmf.methods import Stack
from ratewise.data import sets
from ratewise.errors import MissingData
from ratewise.nmf.noisy import Problems
from ratewise.nmf.random_problems import start

STEPS = 100
#: Noise of each kind: isotropic, in first gradients; samples, as a share of rows and columns.
LEVELS, SHARE = (0.1, 0.5), 0.1
_SEED = 20_26_4


def groups(count: int, data: str | None) -> dict[str, Callable[[], list[Stack]]]:
    """Return, by name, what makes the stacks of each real set; those whose data are absent not.

    Args:
        count: parts of a set, each a problem.
        data: folder with the data sets.
    """
    found: dict[str, Callable[[], list[Stack]]] = {"digits": lambda: _stacks(_digits(), 10, count)}
    try:
        faces, genes = _faces(data), _genes(data)
    except MissingData:
        return found
    return {
        **found,
        "faces": lambda: _stacks(faces, 16, count),
        "gene expression": lambda: _stacks(genes, 4, count),
    }


def matrices(data: str | None) -> dict[str, tuple[np.ndarray, int]]:
    """Return, by name, each whole set, [rows, columns], and its number of components."""
    sets_of: dict[str, tuple[Tensor, int]] = {"digits": (_digits(), 10)}
    with contextlib.suppress(MissingData):
        sets_of |= {"faces": (_faces(data), 16), "gene expression": (_genes(data), 4)}
    return {name: (rows.double().numpy(), k) for name, (rows, k) in sets_of.items()}


def _digits() -> Tensor:
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().data).float()  # [1797, 64]


def _faces(data: str | None) -> Tensor:
    images = torch.from_numpy(sets.faces(data)).float()[:, None]
    return torch.nn.functional.avg_pool2d(images, 4).flatten(1)  # [400, 28 * 23]


def _genes(data: str | None) -> Tensor:
    return torch.tensor(np.log1p(sets.leukemia(data))).float()  # [5000, 38]


def _stacks(rows: Tensor, k: int, count: int) -> list[Stack]:
    """Return parts of 100 random rows, once a kind of noise."""
    generator = torch.Generator().manual_seed(_SEED)
    picked = [torch.randperm(len(rows), generator=generator)[:100] for _ in range(count)]
    v = torch.stack([rows[index] for index in picked])
    v = v / v.mean((1, 2), keepdim=True)
    w, h = start(v, k, generator)
    kinds = [(level, 1.0) for level in LEVELS] + [(0.0, SHARE)]
    return [
        Stack(
            f"{'samples' if share < 1 else f'isotropic {level:g}'}",
            Problems(v, w, h, torch.full((count,), level), share),
            STEPS,
            _SEED + number,
        )
        for number, (level, share) in enumerate(kinds)
    ]
