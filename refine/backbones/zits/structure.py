"""The networks around the edges and lines of ZITS: the encoder of structure for the generator, and the enlargement.

Written anew from the facts of DQiaole/ZITS_inpainting at commit 6f4a47b; parameter names equal those of the official
checkpoints, section ``str_encoder``, and ``StructureUpsampling.pth``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POSITIONS = 128  # distances from the known pixels that are told apart
DIRECTIONS = 4


class GateConv(nn.Module):
    """A convolution, or with ``up`` a transposed one, each of whose outputs has a gate of its own."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 4, stride: int = 2, pad: int = 1, up: bool = False
    ) -> None:
        super().__init__()
        self.gate_conv = (
            nn.ConvTranspose2d(inputs, 2 * outputs, kernel, stride, pad)
            if up
            else nn.Conv2d(inputs, 2 * outputs, kernel, stride, pad, padding_mode="zeros" if stride > 1 else "reflect")
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` -> ``(B, outputs, ...)``."""
        values, gate = self.gate_conv(x).chunk(2, dim=1)
        return values * torch.sigmoid(gate)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Two convolutions, the first dilated; no activation after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.ReflectionPad2d(2), nn.Conv2d(channels, channels, 3, dilation=2))
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3))
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape unchanged."""
        return x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))  # type: ignore[no-any-return]


class StructureEncoder(nn.Module):
    """Edges and lines, and the place of each pixel in the hole, as features for the generator.

    What is added to the generator has a learned factor each (``alpha``), 0 when training began.

    Args:
        width: Channels after the first convolution, that of the generator.
        blocks: Residual blocks.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        c = width
        self.alpha1, self.alpha2, self.alpha3, self.alpha4 = (nn.Parameter(torch.ones([])) for _ in range(4))
        self.alpha5, self.alpha6 = (nn.Parameter(torch.ones([])) for _ in range(2))  # of distances and directions
        self.conv1 = GateConv(3, c, 7, 1, 3)
        self.conv2 = GateConv(c, 2 * c)
        self.conv3 = nn.Conv2d(2 * c, 4 * c, 4, 2, 1)
        self.conv4 = nn.Conv2d(4 * c, 8 * c, 4, 2, 1)
        self.middle = nn.Sequential(*(ResidualBlock(8 * c) for _ in range(blocks)))
        self.convt1 = GateConv(8 * c, 4 * c, up=True)
        self.convt2 = GateConv(4 * c, 2 * c, up=True)
        self.convt3 = GateConv(2 * c, c, up=True)
        self.bn1, self.bn2, self.bn3, self.bn4 = (nn.BatchNorm2d(c << depth) for depth in range(4))
        self.bnt1, self.bnt2, self.bnt3 = (nn.BatchNorm2d(c << depth) for depth in (2, 1, 0))
        self.rel_pos_emb, self.direct_emb = nn.Embedding(POSITIONS, c), nn.Embedding(DIRECTIONS, c)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Edges, lines and mask ``(B, 3, h, w)`` -> features at 1, 1/2, 1/4 and 1/8 of the size."""
        for i in range(1, 5):
            x = torch.relu(self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x)))
        x = self.middle(x)
        features = [x * self.alpha1]
        for i, alpha in enumerate((self.alpha2, self.alpha3, self.alpha4), start=1):
            x = torch.relu(self.get_submodule(f"bnt{i}")(self.get_submodule(f"convt{i}")(x)))
            features.append(x * alpha)  # the factor is for the generator alone
        return features[::-1]

    def positions(self, rel_pos: Tensor, direct: Tensor) -> Tensor:
        """The embedded masked positions.

        Args:
            rel_pos: Distance from the known pixels, ``(B, h, w)`` int64, 0 to 127.
            direct: Directions they lie in, ``(B, h, w, 4)`` with values {0, 1}.

        Returns:
            ``(B, width, h, w)``.
        """
        embedded = self.rel_pos_emb(rel_pos) * self.alpha5 + direct @ self.direct_emb.weight * self.alpha6
        return embedded.permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class StructureUpsampling(nn.Module):
    """Doubles the size of a map of edges or lines, which stay thin.

    Args:
        width: Channels between the convolutions.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        c = width
        between = [layer for _ in range(2) for layer in (nn.Conv2d(c, c, 3, padding=1), nn.ReLU(inplace=True))]
        first = [nn.ReflectionPad2d(3), nn.Conv2d(1, c, 7), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*first, *between, nn.Conv2d(c, 1, 3, padding=1))
        # The way back to the size it came from, for training alone; the official file has it.
        self.out = nn.Sequential(nn.Conv2d(1, c // 2, 4, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(c // 2, 1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 1, h, w)`` -> ``(B, 1, 2h, 2w)``, before the activation."""
        return self.convs(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))  # type: ignore[no-any-return]

    def doubled(self, soft: Tensor) -> Tensor:
        """A map of twice the size.

        Args:
            soft: ``(B, 1, h, w)`` in [0, 1].

        Returns:
            ``(B, 1, 2h, 2w)`` in [0, 1].
        """
        return torch.sigmoid((self(soft) + 2) * 2)
