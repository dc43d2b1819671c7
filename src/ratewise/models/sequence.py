"""Models of sequences: characters by a GRU or a transformer, words in a bag, rows of numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ratewise.models.attention import Attend, Block, explicit, fused, mix
from ratewise.models.dense import mlp
from ratewise.models.recurrent import GRU


class CharGRU(nn.Module):
    """Embedding, one GRU layer, a linear layer: the next character at each position."""

    def __init__(self, alphabet: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(alphabet, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, alphabet)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [n, length] to logits [n, length, alphabet]."""
        return self.head(self.gru(self.embed(codes))[0])


class CharTransformer(nn.Module):
    """A causal transformer with learned positions and pre-norm blocks."""

    def __init__(
        self,
        alphabet: int,
        length: int,
        width: int,
        heads: int,
        depth: int,
        expansion: int = 4,
        attend: Attend = fused,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(alphabet, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, expansion, attend=attend) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, alphabet)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [n, length] to logits [n, length, alphabet]."""
        x = self.embed(codes) + self.position[: codes.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class WordBag(nn.Module):
    """The mean of word embeddings, then a perceptron; word 0 is padding."""

    def __init__(self, buckets: int, width: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(buckets, width, mode="mean", padding_idx=0)
        self.head = mlp(width, 2 * width, classes)

    def forward(self, words: Tensor) -> Tensor:
        """Words [n, length] to logits [n, classes]."""
        return self.head(self.embed(words))


class RecurrentNet(nn.Module):
    """Symbols or vectors, the elementary `GRU`, a linear layer at every position or at the last.

    Args:
        inputs: the alphabet's size, or numbers a vector.
        width: numbers of the state.
        outputs: logits a position.
        symbols: read codes [n, length] instead of vectors [n, length, inputs].
        last: answer once, after the last position.
    """

    def __init__(self, inputs: int, width: int, outputs: int, symbols: bool, last: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(inputs, width) if symbols else nn.Identity()
        self.gru = GRU(width if symbols else inputs, width)
        self.head = nn.Linear(width, outputs)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """Sequences to logits [n, length, outputs], or [n, outputs]."""
        states = self.gru(self.embed(x))
        return self.head(states[:, -1] if self.last else states)


class AttentionNet(nn.Module):
    """Symbols or vectors with learned positions, one self-attention layer, mean pooling, a head.

    Args:
        inputs: the alphabet's size, or numbers a vector.
        length: positions.
        width: numbers a position.
        heads: a divisor of `width`.
        outputs: logits.
        symbols: read codes [n, length] instead of vectors [n, length, inputs].
    """

    def __init__(
        self, inputs: int, length: int, width: int, heads: int, outputs: int, symbols: bool
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(inputs, width) if symbols else nn.Linear(inputs, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.head = nn.Linear(width, outputs)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Sequences to logits [n, outputs]."""
        x = self.embed(x) + self.position
        mixed = mix(self.qkv(self.norm(x)), self.heads, explicit, causal=False)
        return self.head((x + self.out(mixed)).mean(1))
