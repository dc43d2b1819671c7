"""Real matrices that judge a learned schedule: parts of digits, faces and gene expression."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from evidence.nmf.methods import Stack
from ratewise.data import sets
from ratewise.learning.noisy_descent import Problems
from ratewise.learning.random_factorisations import start

STEPS = 100
#: Noise of each kind: isotropic, in first gradients; samples, as a share of rows and columns.
LEVELS, SHARE = (0.1, 0.5), 0.1
_SEED = 20_26_4


#: set -> components
SETS = {"digits": 10, "faces": 16, "gene expression": 4}


def rows(name: str, data: str | None) -> Tensor:
    """Return a set, [rows, columns].

    Raises:
        MissingData: it is not in the data folder.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        return torch.tensor(load_digits().data).float()  # [1797, 64]
    if name == "faces":
        images = torch.from_numpy(sets.faces(data)).float()[:, None]
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)  # [400, 28 * 23]
    return torch.tensor(np.log1p(sets.leukemia(data))).float()  # [5000, 38]


def matrix(name: str, data: str | None) -> tuple[np.ndarray, int]:
    """Return a whole set, [rows, columns], and its number of components."""
    return rows(name, data).double().numpy(), SETS[name]


def stacks(name: str, count: int, data: str | None) -> list[Stack]:
    """Return the stacks of a real set, `count` parts of it in each."""
    return _stacks(rows(name, data), SETS[name], count)


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
