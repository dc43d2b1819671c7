"""How far factors are from the data, with all the digits that the data's type allows."""

from __future__ import annotations

from ratewise.nmf.arrays import Array, namespace
from ratewise.nmf.rows import Rows, blocks, inner
from ratewise.nmf.statistics import Sums


def distance(
    batches: list[Rows], codes: list[Array], parts: Array, sums: Sums | None = None
) -> float:
    """Return |X - W H|^2, as accurate as the data's type allows; NaN where there is one.

    Args:
        batches: X.
        codes: W_b^T of each, [k, b].
        parts: H, [k, m].
        sums: over all rows with these codes, where they are at hand.

    Cost: O(k nnz), nothing with `sums`; where the distance is tiny O(k n m) and small blocks of
    memory.
    """
    gram = parts @ parts.T
    whole = sum(rows.square for rows in batches)
    if sums is not None:
        found = 2.0 * sums.loss(gram, parts)
    else:
        found = whole
        for rows, own in zip(batches, codes, strict=True):
            found += inner(own @ own.T, gram) - 2.0 * inner(own, rows.project(parts))
    return found if _trusted(found, whole, parts) else _residual(batches, codes, parts)


def _residual(batches: list[Rows], codes: list[Array], parts: Array) -> float:
    """Return |X - W H|^2 by one pass over the data, made dense a small block at a time.

    Exact where the loss is so small that a difference of inner products is rounding.
    """
    total = 0.0
    for rows, own in zip(batches, codes, strict=True):
        for start, stop in blocks(rows):
            left = rows.dense(start, stop) - own[:, start:stop].T @ parts
            total += inner(left, left)
    return total


def _trusted(square: float, whole: float, parts: Array) -> bool:
    """Return whether |X - W H|^2 as a difference of sums as large as |X|^2 has its digits left."""
    eps = float(namespace(parts).finfo(parts.dtype).eps)
    return square > 30.0 * eps**0.5 * whole
