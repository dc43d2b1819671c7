r"""What a factorisation remembers of the rows it has seen: sums, one entry per batch.

For a batch with codes W_b: A_b = W_b^T W_b, [k, k], and B_b = W_b^T X_b, [k, m]. Their sums over
all batches are all that the components' step needs, and with |X|^2 they give the loss,

.. math:: \tfrac12 \|X - W H\|^2 = \tfrac12 \|X\|^2 - \langle B, H \rangle
          + \tfrac12 \langle A, H H^T \rangle.

A batch with an id has its entry replaced when it comes again: the sums are then exact, for the
codes as they stand. Without an id sums decay. One object holds both kinds.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Hashable
from typing import NamedTuple

from ratewise.nmf.arrays import Array
from ratewise.nmf.rows import inner


class Sums(NamedTuple):
    """Sums over rows of the data."""

    gram: Array  #: W^T W, [k, k]
    cross: Array  #: W^T X, [k, m]
    square: float  #: |X|^2
    mass: float  #: the sum of W's entries
    rows: float  #: how many rows, each with the weight that it has left

    def plus(self, other: Sums) -> Sums:
        """Return both together, as new arrays."""
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    def replacing(self, old: Sums, new: Sums) -> Sums:
        """Return these sums with the part `old` replaced by `new`, as new arrays."""
        changed = []
        for whole, before, after in zip(self, old, new, strict=True):
            change = after - before
            change += whole
            changed.append(change)
        return Sums(*changed)

    def fading(self, factor: float) -> Sums:
        """Return these sums with a weight."""
        return Sums(*(factor * a for a in self))

    def scaled(self, scale: Array) -> Sums:
        """Return these sums for codes times a scale of each component, [k]."""
        gram, cross = self.gram * scale[:, None] * scale, self.cross * scale[:, None]
        return self._replace(gram=gram, cross=cross)

    def loss(self, gram: Array, parts: Array) -> float:
        """Return |X - W H|^2 / 2, never below 0; NaN where there is one.

        It is a difference of large numbers: good to about 1e-15 |X|^2 in float64, 1e-6 |X|^2 in
        float32, whatever the loss is.

        Args:
            gram: H H^T, [k, k].
            parts: H, [k, m].
        """
        loss = self.square / 2.0 - inner(self.cross, parts) + inner(self.gram, gram) / 2.0
        return 0.0 if loss < 0.0 else loss


class Statistics:
    """The store: `put` a batch's sums, read `total`.

    Memory: k (k + m) numbers for the total, as much for what came without an id, and as much for
    each batch with one. What is new is worked out before anything is replaced, so that an
    interruption leaves what there was.

    Args:
        max_memory: bytes that the entries may take; at more, all of them become one part that
            decays, and ids are ignored from then on, with one warning.
    """

    def __init__(self, max_memory: float) -> None:
        self._max_memory = max_memory
        self._entries: dict[Hashable, Sums] = {}
        self._base: Sums | None = None
        self._keyed = True
        self._put = 0
        self.total: Sums | None = None

    @property
    def exact(self) -> bool:
        """Whether every row that was ever put counts once, with its last codes."""
        return self._base is None

    @property
    def keyed(self) -> bool:
        """Whether ids still count."""
        return self._keyed

    def put(self, sums: Sums, key: Hashable | None, keep: float) -> Sums:
        """Take a batch in, and return the total.

        Args:
            sums: of the batch.
            key: the batch's id; None lets what came without an id decay first.
            keep: factor of that decay, in [0, 1].
        """
        if key is not None and self._keyed and key not in self._entries:
            self._check_memory(sums)
        if key is None or not self._keyed:
            base = sums if self._base is None else self._base.fading(keep).plus(sums)
            total = _added(base, self._entries)
            self._base, self.total = base, total
            return total
        entries, old = {**self._entries, key: sums}, self._entries.get(key)
        self._put += 1
        if self.total is None or self._put > len(entries):
            self._put = 0
            total = _added(self._base, entries)  # once a round: differences pile rounding up
        else:
            total = self.total.plus(sums) if old is None else self.total.replacing(old, sums)
        self._entries, self.total = entries, total
        return total

    def scale(self, scale: Array) -> None:
        """Take every code times a scale of its component, [k]."""
        base = None if self._base is None else self._base.scaled(scale)
        entries = {key: sums.scaled(scale) for key, sums in self._entries.items()}
        total = None if self.total is None else self.total.scaled(scale)
        self._base, self._entries, self.total = base, entries, total

    def forget_ids(self) -> None:
        """Keep the total alone: what comes next joins it, and lets it decay if without an id."""
        self._base, self._entries, self._put = self.total, {}, 0

    def _check_memory(self, sums: Sums) -> None:
        if (len(self._entries) + 1) * entry_bytes(sums) <= self._max_memory:
            return
        count = len(self._entries) + 1
        warnings.warn(decaying(count, entry_bytes(sums), self._max_memory), stacklevel=5)
        self._keyed = False
        if self._entries:
            self._base, self._entries = _added(self._base, self._entries), {}


def _added(base: Sums | None, entries: dict[Hashable, Sums]) -> Sums:
    """Return everything added up, one after the other."""
    parts = [] if base is None else [base]
    return functools.reduce(Sums.plus, [*parts, *entries.values()])


def entry_bytes(sums: Sums) -> int:
    """Return the bytes of one batch's entry."""
    return sum(x.shape[0] * x.shape[1] * x.dtype.itemsize for x in (sums.gram, sums.cross))


def decaying(batches: int, entry: int, limit: float) -> str:
    """Return the warning that the store of so many batches, of `entry` bytes each, is too large."""
    return (
        f"the statistics of {batches} batches take {batches * entry:,} bytes, more than "
        f"max_memory={limit:,.0f}: sums that decay by forget_factor are used instead; "
        "pass a larger max_memory or batch_size"
    )
