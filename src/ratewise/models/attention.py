"""Self-attention in two forms of one result, and the transformer block around it.

`fused` is torch's own kernel, the faster one for a single model. It has no batching rule, so that
under `torch.func.vmap` it works model after model; `explicit` are the three steps it consists of.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ratewise.models.dense import mlp

#: (queries, keys, values, causal): tensors [n, heads, length, d] to one of that shape.
Attend = Callable[[Tensor, Tensor, Tensor, bool], Tensor]


def fused(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """softmax(q k' / sqrt(d)) v by `scaled_dot_product_attention`."""
    return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def explicit(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """softmax(q k' / sqrt(d)) v (Vaswani et al. 2017, eq. 1), by products and a softmax."""
    length, d = q.shape[-2:]
    scores = (q * d**-0.5) @ k.transpose(-1, -2)  # [n, heads, length, length]
    if causal:
        later = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device)
        scores = scores + later.triu(1)
    return scores.softmax(-1) @ v


def mix(qkv: Tensor, heads: int, attend: Attend, causal: bool) -> Tensor:
    """Let positions attend to each other: [n, length, 3 * width] to [n, length, width]."""
    n, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.view(n, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    return attend(q, k, v, causal).transpose(1, 2).reshape(n, length, width)


class Block(nn.Module):
    """Self-attention and a perceptron, each behind a layer norm and a shortcut.

    Args:
        width: numbers a position.
        heads: a divisor of `width`.
        expansion: the perceptron's hidden width over `width`.
        causal: let no position see a later one.
        attend: `fused` or `explicit`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        expansion: int = 4,
        causal: bool = True,
        attend: Attend = fused,
    ) -> None:
        super().__init__()
        self.heads, self.causal, self.attend = heads, causal, attend
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = mlp(width, expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Positions [n, length, width] to the same shape."""
        mixed = mix(self.qkv(self.norm1(x)), self.heads, self.attend, self.causal)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))
