"""A warning where the rank of the data is below the number of components."""

from __future__ import annotations

import warnings

import numpy as np

from ratewise.nmf.arrays import Array, Backend, namespace, to_numpy
from ratewise.nmf.checks import RankWarning
from ratewise.nmf.rows import Rows


def warn_of_rank(batches: list[Rows], cross: Array, backend: Backend) -> None:
    """Warn where X has a smaller rank than there are components.

    Args:
        batches: X.
        cross: W^T X, [k, m], or a part of it: no factor has it have a larger rank than X, so that
            as a rule it settles that there is no reason to warn.
        backend: where the batches lie.

    Cost: O(k^2 m) as a rule, else that of `rank`.
    """
    k, m = cross.shape
    part = to_numpy(cross).astype(np.float64)
    part /= part.max() or 1.0  # squares of what is very large or small are no numbers
    if _count(part @ part.T, cross) == k:
        return
    probes = np.random.default_rng(0).standard_normal((k + 10, m))
    found = rank(batches, backend.array(probes), k)
    if found < k:
        warnings.warn(
            f"n_components={k} is more than the rank of X, {found}: as a rule some components "
            f"repeat others or stay empty, pass n_components={found}",
            RankWarning,
            stacklevel=5,
        )


def rank(batches: list[Rows], probes: Array, most: int) -> int:
    """Return the rank of X, or `most` if it is that or larger.

    It is counted in the Gram matrix of X probes^T, whose rank is that of X as long as there are
    more probes. As a rule the first batch is enough.

    Args:
        batches: X.
        probes: random rows of the normal distribution, [p, m], p > `most`.
        most: >= 1.

    Cost: O(p nnz + p^2 n), where the rank is `most` of the first batch alone.
    """
    total: Array = 0.0
    found = 0
    for count, rows in enumerate(batches, start=1):
        seen = to_numpy(rows.project(probes)).astype(np.float64)
        total = total + seen @ seen.T
        if count & (count - 1) and count < len(batches):
            continue  # looked at after 1, 2, 4, 8 ... batches
        found = _count(total, probes)
        if found >= most:
            return most
    return found


def _count(gram: Array, like: Array) -> int:
    """Return the rank of a Gram matrix: singular values below 1e-6 of the largest count as 0."""
    eps = float(namespace(like).finfo(like.dtype).eps)
    values = np.linalg.eigvalsh(gram)
    return int((values > max(1e-13, 1e3 * eps**2) * values[-1]).sum())
