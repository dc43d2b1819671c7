"""Small models of the usual families; normalised without running statistics, without dropout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(*widths: int) -> nn.Sequential:
    """Return a perceptron with GELU between linear layers of these widths."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, group norm, GELU and 2x2 pooling, then a linear layer."""

    def __init__(self, channels: Sequence[int], size: int, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            blocks += [
                nn.Conv2d(inputs, outputs, 3, padding=1),
                nn.GroupNorm(min(4, outputs), outputs),
                nn.GELU(),
                nn.MaxPool2d(2),
            ]
            size //= 2
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels[-1] * size * size, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, channels, size, size] to logits [n, classes]."""
        return self.head(self.blocks(images).flatten(1))


class _Residual(nn.Module):
    """Two 3x3 convolutions with group norm around a shortcut; the first may stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(4, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(4, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.first(x)))
        return torch.relu(self.norm2(self.second(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, one residual block a width (halving the image), mean pooling, a linear layer."""

    def __init__(self, widths: Sequence[int], classes: int, stem_stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, stem_stride, 1)
        self.blocks = nn.Sequential(
            *(
                _Residual(inputs, outputs, 2 if i else 1)
                for i, (inputs, outputs) in enumerate(
                    zip((widths[0], *widths), widths, strict=False)
                )
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, size, size] to logits [n, classes]."""
        return self.head(self.blocks(torch.relu(self.stem(images))).mean((2, 3)))


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

    def __init__(self, alphabet: int, length: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(alphabet, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, alphabet)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes [n, length] to logits [n, length, alphabet]."""
        x = self.embed(codes) + self.position[: codes.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class _Block(nn.Module):
    """Causal self-attention and a perceptron, each behind a layer norm and a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = mlp(width, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


class WordBag(nn.Module):
    """The mean of word embeddings, then a perceptron; word 0 is padding."""

    def __init__(self, buckets: int, width: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(buckets, width, mode="mean", padding_idx=0)
        self.head = mlp(width, 2 * width, classes)

    def forward(self, words: Tensor) -> Tensor:
        """Words [n, length] to logits [n, classes]."""
        return self.head(self.embed(words))
