"""The transformer of ZITS, which continues edges and lines into the hole, on a small square picture.

Written anew from the facts of DQiaole/ZITS_inpainting (``src/models/TSR_model.py`` and ``transformer.py``, commits
70de94e and 810eb50, and ``SampleEdgeLineLogits`` of ``src/utils.py``); parameter names equal those of
``best_transformer_places2.pth``. Upstream runs it in half precision; here it runs in that of the weights.
"""

import math
import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 8  # px a side of what one token stands for
ROUNDS = 5  # in which the hole is completed
EDGE = 0.25  # least probability of an edge
LINE_SHIFT, LINE_GAIN = 0.05, 4.0  # of the logits of lines


@dataclass(frozen=True)
class TransformerConfig:
    """All that tells one transformer from another.

    Attributes:
        width: Channels after the first convolution.
        channels: Channels of a token.
        layers: Blocks, axial and global in turn.
        heads: Heads of attention.
        grid: Tokens a side.
    """

    width: int = 64
    channels: int = 256
    layers: int = 16
    heads: int = 8
    grid: int = 32

    @property
    def side(self) -> int:
        """Side of the picture, px."""
        return PATCH * self.grid


class Attention(nn.Module):
    """Attention of several heads, possibly with a bias for each pair of tokens."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key, self.query = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value, self.proj = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(B, T, C)`` and ``(heads, T, T)`` -> ``(B, T, C)``."""
        layers = (self.query, self.key, self.value)
        query, key, value = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in layers)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=None if bias is None else bias[None])
        return self.proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class AxialBlock(nn.Module):
    """Attention within each column and within each row, side by side, and a perceptron."""

    def __init__(self, sizes: TransformerConfig) -> None:
        super().__init__()
        c, relative = sizes.channels, 2 * sizes.grid - 1
        self.rln1, self.cln1, self.ln2 = (nn.LayerNorm(c, eps=1e-4) for _ in range(3))
        self.attn_row, self.attn_col = Attention(c, sizes.heads), Attention(c, sizes.heads)
        self.ff = nn.Sequential(nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c))
        self.row_rel_pos_bias = nn.Linear(relative, sizes.heads, bias=False)
        self.col_rel_pos_bias = nn.Linear(relative, sizes.heads, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, grid, grid, C)``, shape unchanged."""
        columns = x.transpose(1, 2).flatten(0, 1)
        down = self.attn_row(self.rln1(columns), _biases(self.row_rel_pos_bias.weight))
        across = self.attn_col(self.cln1(x.flatten(0, 1)), _biases(self.col_rel_pos_bias.weight))
        x = x + down.unflatten(0, (len(x), -1)).transpose(1, 2) + across.view_as(x)
        return x + self.ff(self.ln2(x))  # type: ignore[no-any-return]


def _biases(weight: Tensor) -> Tensor:
    """``(heads, 2 * grid - 1)`` by relative position -> ``(heads, grid, grid)``."""
    place = torch.arange((weight.shape[1] + 1) // 2, device=weight.device)
    return weight[:, place[None, :] - place[:, None] + len(place) - 1]


class QuickGELU(nn.Module):
    """An approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape unchanged."""
        return x * torch.sigmoid(1.702 * x)


class GlobalBlock(nn.Module):
    """Attention of every token to every other, and a perceptron."""

    def __init__(self, sizes: TransformerConfig) -> None:
        super().__init__()
        c = sizes.channels
        self.ln1, self.ln2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.attn = Attention(c, sizes.heads)
        self.mlp = nn.Sequential(nn.Linear(c, 4 * c), QuickGELU(), nn.Linear(4 * c, c))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, grid, grid, C)``, shape unchanged."""
        x = x + self.attn(self.ln1(x).flatten(1, 2)).view_as(x)
        return x + self.mlp(self.ln2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Convolutions to tokens, blocks of attention, and convolutions back, with the official names.

    Args:
        sizes: What to build.
    """

    def __init__(self, sizes: TransformerConfig) -> None:
        super().__init__()
        w, c = sizes.width, sizes.channels
        self.sizes = sizes
        self.conv1 = nn.Conv2d(6, w, 7, padding=3, padding_mode="reflect")
        self.conv2, self.conv3 = nn.Conv2d(w, 2 * w, 4, 2, 1), nn.Conv2d(2 * w, 4 * w, 4, 2, 1)
        self.conv4 = nn.Conv2d(4 * w, c, 4, 2, 1)
        self.pos_emb = nn.Parameter(torch.zeros(1, sizes.grid**2, c))
        kinds = (AxialBlock, GlobalBlock)
        self.blocks = nn.Sequential(*(kinds[i % 2](sizes) for i in range(sizes.layers)))
        self.ln_f = nn.LayerNorm(c)
        self.convt1, self.convt2 = nn.ConvTranspose2d(c, 4 * w, 4, 2, 1), nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1)
        self.convt3 = nn.ConvTranspose2d(2 * w, w, 4, 2, 1)
        self.convt4 = nn.Conv2d(w, 2, 7, padding=3, padding_mode="reflect")

    def forward(self, image: Tensor, edge: Tensor, line: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of edges and lines.

        Args:
            image: ``(B, 3, side, side)``, RGB in [-1, 1].
            edge: ``(B, 1, side, side)``, in [0, 1].
            line: ``(B, 1, side, side)``, in [0, 1].
            mask: ``(B, 1, side, side)``, 1 = still to complete, and not seen.

        Returns:
            Two tensors ``(B, 1, side, side)``.
        """
        x = torch.cat([torch.cat([image, edge, line], dim=1) * (1 - mask), mask], dim=1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = torch.relu(conv(x))
        x = x.permute(0, 2, 3, 1)
        x = self.ln_f(self.blocks(x + self.pos_emb.view(1, *x.shape[1:]))).permute(0, 3, 1, 2).contiguous()
        for up in (self.convt1, self.convt2, self.convt3):
            x = torch.relu(up(x))
        edges, lines = self.convt4(x).chunk(2, dim=1)
        return edges, lines


def complete(
    transformer: Transformer, image: Tensor, edge: Tensor, line: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Continue the edges and lines of one image into its hole, the surest pixels first.

    Args:
        transformer: Network that does so.
        image: ``(1, 3, side, side)``, RGB in [0, 1].
        edge: ``(1, 1, side, side)``, in [0, 1].
        line: ``(1, 1, side, side)``, in [0, 1].
        mask: ``(1, 1, side, side)``, 1 = hole; what the three hold there is not seen.

    Returns:
        Edges, {0, 1}, and lines, in [0, 1].
    """
    image, edge, line, left = (2 * image - 1) * (1 - mask), edge * (1 - mask), line * (1 - mask), mask.clone()
    for i in range(ROUNDS):
        edges, lines = transformer(image, edge, line, left)
        edges, lines = torch.sigmoid(edges), torch.sigmoid((lines + LINE_SHIFT) * LINE_GAIN)
        edge = (edge + edges * left >= EDGE).to(edge)
        line = line + lines * left
        # How sure it is of a pixel: that there is an edge counts more than that there is none.
        sure = torch.maximum(1 - edges, edges + 0.5) + torch.maximum(1 - lines, lines + 0.5)
        order = (sure - 200 * (1 - left)).flatten().argsort(descending=True, stable=True)
        done = int((i + 1) / ROUNDS * left.sum())
        left.view(-1)[order[:done]] = 0
        edge, line = edge * (1 - left), line * (1 - left)
    return edge, line


def read_transformer_sizes(state: dict[str, Tensor]) -> TransformerConfig:
    """Read the architecture off the weights.

    Args:
        state: State dict of a transformer.
    """
    return TransformerConfig(
        width=state["conv1.weight"].shape[0],
        channels=state["pos_emb"].shape[2],
        layers=len({match[0] for key in state if (match := re.match(r"blocks\.\d+\.", key))}),
        heads=state["blocks.0.row_rel_pos_bias.weight"].shape[0],
        grid=math.isqrt(state["pos_emb"].shape[1]),
    )
