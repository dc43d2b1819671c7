"""Models of images: convolutional, residual, and a transformer over patches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ratewise.models.attention import Block, explicit


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

    def __init__(
        self, widths: Sequence[int], classes: int, stem_stride: int = 1, channels: int = 3
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, stem_stride, 1)
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
        """Images [n, channels, size, size] to logits [n, classes]."""
        return self.head(self.blocks(torch.relu(self.stem(images))).mean((2, 3)))


class VGG(nn.Module):
    """Blocks of two 3x3 convolutions with ReLU and 2x2 pooling, then a linear layer; no norm."""

    def __init__(self, channels: Sequence[int], size: int, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            for read in (inputs, outputs):
                convolution = nn.Conv2d(read, outputs, 3, padding=1)
                # He et al. (2015): without it the signal fades in a deep net that has no norm.
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                blocks += [convolution, nn.ReLU()]
            blocks.append(nn.MaxPool2d(2))
            size //= 2
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels[-1] * size * size, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, channels, size, size] to logits [n, classes]."""
        return self.head(self.blocks(images).flatten(1))


class VisionTransformer(nn.Module):
    """Square patches, a linear layer, learned positions, blocks, the patches' mean, a head.

    Args:
        channels: of an image.
        size: pixels along a side, a multiple of `patch`.
        patch: pixels along a patch's side.
        width: numbers a patch.
        heads: a divisor of `width`.
        depth: blocks.
        classes: logits.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        patch: int,
        width: int,
        heads: int,
        depth: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(channels * patch * patch, width)
        self.position = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.blocks = nn.ModuleList(
            Block(width, heads, 2, causal=False, attend=explicit) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, channels, size, size] to logits [n, classes]."""
        (n, channels, size, _), patch = images.shape, self.patch
        side = size // patch
        x = images.reshape(n, channels, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5)
        x = self.embed(x.reshape(n, side * side, channels * patch * patch)) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))
