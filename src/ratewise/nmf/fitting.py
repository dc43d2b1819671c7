"""Passes of a fit over the batches, each with its own codes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ratewise.nmf.arrays import Array, numpy_type
from ratewise.nmf.distance import distance
from ratewise.nmf.rows import Rows
from ratewise.nmf.solver import Solver
from ratewise.nmf.statistics import decaying


class Fitting:
    """The batches and their codes, while components are fitted to them.

    Args:
        steps: takes a batch in.
        batches: X.
        codes: W_b^T of each, [k, b]; None where rows were never seen.
        forget_factor: what a pass leaves of sums that decay.
        max_memory: bytes that the statistics of batches may take; beyond, sums decay, with a
            warning.
    """

    def __init__(
        self,
        steps: Solver,
        batches: list[Rows],
        codes: list[Any],
        forget_factor: float,
        max_memory: float,
    ) -> None:
        self._steps, self._batches, self.codes = steps, batches, codes
        k, m = steps.parts.shape
        entry = k * (k + m) * numpy_type(steps.parts).itemsize
        self._exact = len(batches) * entry <= max_memory
        if not self._exact:
            warnings.warn(decaying(len(batches), entry, max_memory), stacklevel=5)
        n = sum(rows.shape[0] for rows in batches)
        self._keep = [forget_factor ** (rows.shape[0] / n) for rows in batches]
        self.losses: list[float] = []  #: after each pass; where sums decay, as batches were seen

    @property
    def floor(self) -> float:
        """The loss below which only rounding is left."""
        eps = float(np.finfo(numpy_type(self._steps.parts)).eps)
        return sum(rows.square for rows in self._batches) * eps * eps

    @property
    def cross(self) -> Array:
        """W^T X, [k, m], of what is remembered; after the first batch."""
        total = self._steps.statistics.total
        return self._steps.parts if total is None else total.cross

    def one_pass(self, after: Callable[[list[Any], Array], None]) -> float:
        """Process every batch once, and return the loss.

        Args:
            after: is called with all codes and H after every batch.
        """
        seen = 0.0
        for i, rows in enumerate(self._batches):
            key = i if self._exact else None
            self.codes[i], loss = self._steps.step(rows, self.codes[i], key, self._keep[i])
            seen += loss
            after(self.codes, self._steps.parts)
        self.losses.append(self._steps.loss() if self._exact else seen)
        return self.losses[-1]

    def distance(self) -> float:
        """Return |X - W H|^2."""
        sums = self._steps.statistics.total if self._exact else None
        return distance(self._batches, self.codes, self._steps.parts, sums)
