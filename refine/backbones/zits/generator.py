"""The generator of ZITS, which paints the texture: a LaMa of fast Fourier convolutions to which structure is added.

Written anew from the facts of DQiaole/ZITS_inpainting at commit 6f4a47b; parameter names equal those of the section
``generator`` of the official checkpoints. The layers of the trunk are LaMa's own.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from refine.autograd.functions import memory_format
from refine.backbones.lama.fourier import Concat, FFCNormAct, Pair

STRIDE = 8
LOCAL_SHARE = 4  # one channel in four is local, the others see the whole picture


class Divide(nn.Module):
    """The channels of one tensor become the two branches; the inverse of LaMa's ``Concat``.

    Args:
        local: Channels of the local branch, the first ones.
    """

    def __init__(self, local: int) -> None:
        super().__init__()
        self.local = local

    def forward(self, x: Tensor) -> Pair:
        """``(B, C, h, w)`` -> its branches."""
        layout = memory_format(x)
        return Pair(*(part.contiguous(memory_format=layout) for part in (x[:, : self.local], x[:, self.local :])))


class Block(nn.Module):
    """Residual block of two FFCs; no activation after the sum.

    Args:
        channels: Channels of the local and the global branch.
    """

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.ffc1 = FFCNormAct(channels, channels, 3, pad=1)
        self.ffc2 = FFCNormAct(channels, channels, 3, pad=1)

    def forward(self, x: Pair) -> Pair:
        """Both branches -> both branches."""
        y = self.ffc2(self.ffc1(x))
        assert x.rest is not None
        return Pair(x.local + y.local, x.rest + y.rest)


class Generator(nn.Module):
    """Encoder, trunk and decoder, with the official names.

    Args:
        width: Channels after the first convolution.
        blocks: Residual blocks of the trunk.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        c = width
        local = STRIDE * c // LOCAL_SHARE
        self.conv1 = nn.Conv2d(4, c, 7, padding=3, padding_mode="reflect")
        self.conv2 = nn.Conv2d(c, 2 * c, 3, 2, 1)
        self.conv3 = nn.Conv2d(2 * c, 4 * c, 3, 2, 1)
        self.conv4 = nn.Conv2d(4 * c, 8 * c, 3, 2, 1)
        self.divide, self.concat = Divide(local), Concat()
        self.middle = nn.Sequential(*(Block((local, 8 * c - local)) for _ in range(blocks)))
        self.convt1 = nn.ConvTranspose2d(8 * c, 4 * c, 3, 2, 1, output_padding=1)
        self.convt2 = nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, output_padding=1)
        self.convt3 = nn.ConvTranspose2d(2 * c, c, 3, 2, 1, output_padding=1)
        self.convt4 = nn.Conv2d(c, 3, 7, padding=3, padding_mode="reflect")
        self.bn1, self.bn2, self.bn3, self.bn4 = (nn.BatchNorm2d(c << depth) for depth in range(4))
        self.bnt1, self.bnt2, self.bnt3 = (nn.BatchNorm2d(c << depth) for depth in (2, 1, 0))
        self.relu, self.tanh = nn.ReLU(inplace=True), nn.Tanh()

    def stem(self, x: Tensor, positions: Tensor, structure: Sequence[Tensor]) -> Tensor:
        """What enters the trunk.

        Args:
            x: Known image and mask, ``(B, 4, h, w)``.
            positions: Embedded masked positions, ``(B, width, h, w)``.
            structure: Features of edges and lines at 1, 1/2, 1/4 and 1/8 of the size, one added at each.

        Returns:
            ``(B, 8 * width, h / 8, w / 8)``.
        """
        x = self.relu(self.bn1(self.conv1(x) + positions))
        finer = ((self.conv2, self.bn2), (self.conv3, self.bn3), (self.conv4, self.bn4))
        for (conv, norm), features in zip(finer, structure, strict=False):
            x = self.relu(norm(conv(x + features)))
        return x + structure[-1]

    @property
    def sequence(self) -> nn.Sequential:
        """All behind the stem: its output -> prediction ``(B, 3, h, w)`` in [-1, 1]."""
        up = ((self.convt1, self.bnt1), (self.convt2, self.bnt2), (self.convt3, self.bnt3))
        decoder = (layer for conv, norm in up for layer in (conv, norm, self.relu))
        return nn.Sequential(self.divide, *self.middle, self.concat, *decoder, self.convt4, self.tanh)


def read_generator_sizes(state: dict[str, Tensor]) -> tuple[int, int]:
    """Width and number of blocks of a generator, read from its weights.

    Args:
        state: State dict of a generator.
    """
    return state["conv1.weight"].shape[0], len({key.split(".")[1] for key in state if key.startswith("middle.")})
