"""Perceptrons: plain, and with shortcuts."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


def mlp(*widths: int) -> nn.Sequential:
    """Return a perceptron with GELU between linear layers of these widths."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class ResidualMLP(nn.Module):
    """A linear layer, pre-norm blocks of one hidden layer around shortcuts, a linear layer."""

    def __init__(self, inputs: int, width: int, depth: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), *mlp(width, width, width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Vectors [n, inputs] to [n, outputs]."""
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)
