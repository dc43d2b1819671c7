"""Which rows of the data each run sees at each step: its own shuffled epochs, from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class DataOrder:
    """Draws a batch a run and step, without replacement within an epoch; a short rest is left out.

    A run's order depends on its seed alone, never on the runs beside it.

    Args:
        seeds: one a run.
        size: rows of the data.
        batch_size: rows a step, at most `size`.

    >>> together, alone = DataOrder([3, 7], 10, 4), DataOrder([7], 10, 4)
    >>> all(torch.equal(together.next()[1], alone.next()[0]) for _ in range(5))
    True
    """

    def __init__(self, seeds: Sequence[int], size: int, batch_size: int) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._size, self._batch = size, batch_size
        self._epoch = torch.empty(0)
        self._at = self._batches = 0

    def next(self) -> Tensor:
        """Return the next batch's rows, [runs, batch_size]."""
        if self._at == self._batches:
            self._batches = self._size // self._batch
            used = self._batches * self._batch
            self._epoch = torch.stack(
                [torch.randperm(self._size, generator=g)[:used] for g in self._generators]
            ).view(len(self._generators), self._batches, self._batch)
            self._at = 0
        self._at += 1
        return self._epoch[:, self._at - 1]

    def strangers(self) -> tuple[Tensor, Tensor]:
        """Return a number in [0, 1) and another row for each row of a batch, [runs, batch_size].

        For noise on the data; drawn from a second generator of the run, so that the batches of a
        run are the same with and without it.
        """
        shape = (self._batch,)
        chance, row = [], []
        for own in self._others:
            chance.append(torch.rand(shape, generator=own))
            row.append(torch.randint(self._size, shape, generator=own))
        return torch.stack(chance), torch.stack(row)

    @cached_property
    def _others(self) -> list[torch.Generator]:
        seeds = (own.initial_seed() for own in self._generators)
        return [torch.Generator().manual_seed(seed ^ 0x5DEECE66D) for seed in seeds]
