"""Plain vision transformer of ViTPose and ProbPose: no class token, learned positions, pre-norm, final norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probpose_edge.exceptions import InputError


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values come from one linear layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        # Written out rather than scaled_dot_product_attention: every exporter and quantizer knows these operators.
        weights = ((q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class Mlp(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training a branch is left out for a sample with probability `rate`
    and strengthened by ``1 / (1 - rate)`` otherwise; in eval mode, and at rate 0, it passes."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand((len(x), 1, 1), device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1 - self.rate)


class Block(nn.Module):
    """Pre-norm attention and MLP with shortcuts."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.drop_path = DropPath()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """(N, 3, 256, 192) → (N, width, 16, 12): 16×16 patches with padding 2.

    drop_path: rate of stochastic depth in the last block, growing linearly from 0 in the first (see `set_drop_path`).
    """

    def __init__(self, width: int = 384, depth: int = 12, heads: int = 12, *, drop_path: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(
                f"Attention heads must divide the channels evenly, got {heads} heads for {width} channels."
            )
        self.patch_embed = nn.Conv2d(3, width, 16, stride=16, padding=2)
        self.pos_embed = nn.Parameter(torch.zeros(1, 192, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.set_drop_path(drop_path)

    def set_drop_path(self, rate: float) -> None:
        """Set the rate of the last block, in [0, 1); those before it follow. Raises `InputError`."""
        if not 0 <= rate < 1:
            raise InputError(f"drop_path is a probability in [0, 1), got {rate}. The published value is 0.1.")
        layers = [module for module in self.modules() if isinstance(module, DropPath)]
        for index, layer in enumerate(layers):
            layer.rate = rate * index / max(1, len(layers) - 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        n, width, rows, columns = x.shape
        x = x.flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x).transpose(1, 2).reshape(n, width, rows, columns)
