"""A causal transformer on random tokens: what optimizers and schedulers are timed on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ratewise.models.sequence import CharTransformer


class Size(NamedTuple):
    """A transformer's size, and its batch."""

    depth: int
    width: int
    heads: int
    alphabet: int
    length: int
    batch: int

    def model(self) -> CharTransformer:
        """Return a new model."""
        return CharTransformer(self.alphabet, self.length, self.width, self.heads, self.depth)

    def tokens(self) -> Tensor:
        """Return random tokens [batch, length + 1]."""
        return torch.randint(self.alphabet, (self.batch, self.length + 1))


def loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return the mean cross-entropy of each token given those before it."""
    return nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
