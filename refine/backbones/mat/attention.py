"""Attention within windows, where what is unknown is not attended to; written anew from fenglinglwb/MAT at d273d89.

Tokens are ``(B, h, w, C)``; known is ``(B, h, w, 1)``, 1 = known. There is no normalization and no residual around
attention and MLP: block input and attended tokens are fused by a linear map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refine.backbones.mat.layers import Linear, PartialConv

MASKED = -100.0  # added to the logits of what is not to be attended to


class Attention(nn.Module):
    """Multi-head attention with the cosine of tokens in place of their product."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (Linear(channels, channels) for _ in range(4))
        self.heads = heads

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Each window for itself.

        Args:
            x: ``(windows, tokens, C)``.
            bias: Added to the logits, ``(windows, 1, 1 or tokens, tokens)``; None for nothing.

        Returns:
            As ``x``.
        """
        least = max(1e-12, torch.finfo(x.dtype).tiny)  # float16 has no 1e-12, and some tokens are 0
        unit = F.normalize(x, dim=-1, eps=least)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.q(unit), self.k(unit), self.v(x)))
        bias = None if bias is None else bias.to(q.dtype)  # autocast does not see to it
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear maps and an activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(channels, 2 * channels, active=True), Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` -> the same shape."""
        return self.fc2(self.fc1(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention within windows, fused with the input.

    Args:
        channels: Channels of a token.
        heads: Heads of the attention.
        window: Side of a window, tokens.
        shifted: Whether windows lie half a side further, so that they join what those of the block before divide.
    """

    def __init__(self, channels: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.attn = Attention(channels, heads)
        self.fuse = Linear(2 * channels, channels, active=True)
        self.mlp = MLP(channels)
        self.window, self.shift = window, window // 2 if shifted else 0

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens, sides multiples of the window's, and known -> the same; a window is known if any token of it is."""
        height, width = x.shape[1:3]
        windows = self._windows(x)
        bias = _apart(height, width, self.window, self.shift, x).repeat(x.shape[0], 1, 1) if self.shift else None
        if known is not None:
            known = self._windows(known)
            unknown = MASKED * (known == 0).to(x.dtype).transpose(1, 2)  # (windows, 1, tokens)
            bias = unknown if bias is None else bias + unknown
            known = self._merged(known.amax(1, keepdim=True).expand_as(known), height, width)
        attended = self.attn(windows, None if bias is None else bias.unsqueeze(1))
        fused = self.fuse(torch.cat([x, self._merged(attended, height, width)], dim=-1))
        return self.mlp(fused), known

    def _windows(self, x: Tensor) -> Tensor:
        """``(B, h, w, C)`` -> ``(B * windows, tokens, C)``."""
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        return windows_of(x, self.window)

    def _merged(self, x: Tensor, height: int, width: int) -> Tensor:
        """The inverse of :meth:`_windows`."""
        side, channels = self.window, x.shape[-1]
        x = x.reshape(-1, height // side, width // side, side, side, channels)
        x = x.transpose(2, 3).reshape(-1, height, width, channels)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x


def windows_of(x: Tensor, side: int) -> Tensor:
    """``(B, h, w, C)`` -> ``(B * windows, side * side, C)``, row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(2, 3).reshape(-1, side * side, channels)


def _apart(height: int, width: int, window: int, shift: int, like: Tensor) -> Tensor:
    """Bias that keeps apart, ``(windows, tokens, tokens)``, what only the cyclic shift has brought into one window."""

    def part(side: int) -> Tensor:
        at = torch.arange(side, device=like.device)
        return (at >= side - window).to(like.dtype) + (at >= side - shift).to(like.dtype)

    parts = 3 * part(height)[:, None] + part(width)
    parts = windows_of(parts[None, ..., None], window)[..., 0]
    return MASKED * (parts[:, None] != parts[:, :, None]).to(like.dtype)


class Resampling(nn.Module):
    """A partial convolution that changes the resolution; upstream's name for one that doubles it is downsample too."""

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.conv = PartialConv(channels, channels, factor)

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """As :class:`PartialConv`."""
        return self.conv(x, known)  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Blocks at one resolution, every second one shifted, with a convolution and a residual around them.

    Args:
        channels: Channels of a token.
        heads: Heads of the attention.
        depth: Number of blocks.
        window: Side of a window, tokens.
        shifted: Whether every second block is shifted.
        factor: Change of the resolution before the blocks: 0.5, 1 or 2.
    """

    def __init__(self, channels: int, heads: int, depth: int, window: int, shifted: bool, factor: float) -> None:
        super().__init__()
        self.downsample = Resampling(channels, factor) if factor != 1 else None
        self.blocks = nn.ModuleList(Block(channels, heads, window, shifted and i % 2 == 1) for i in range(depth))
        self.conv = PartialConv(channels, channels)

    def forward(self, x: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Features ``(B, C, h, w)`` and known ``(B, 1, h, w)`` -> both at the new resolution."""
        if self.downsample is not None:
            x, known = self.downsample(x, known)
        tokens = x.permute(0, 2, 3, 1)
        known = None if known is None else known.permute(0, 2, 3, 1)
        for block in self.blocks:
            tokens, known = block(tokens, known)
        known = None if known is None else known.permute(0, 3, 1, 2)
        y, known = self.conv(tokens.permute(0, 3, 1, 2), known)
        return x + y, known
