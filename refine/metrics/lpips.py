"""LPIPS with SqueezeNet features, of the whole image and of the hole's box; needs no torchvision.

Torchmetrics computes the same number, but takes its networks from torchvision, whose builds must match torch's. The
linear weights of LPIPS v0.1 are torchmetrics' own; SqueezeNet's come from a file, 3 to 5 MB, that the user names or
that lies where torch hub keeps it.
"""

from pathlib import Path

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn.functional import normalize

from refine.weights.checkpoint import UnusableWeights, load_strictly, read_checkpoint

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1], per channel
STAGES = (1, 4, 7, 9, 10, 11, 12)  # layers of SqueezeNet whose output is compared
CHANNELS = (64, 128, 256, 384, 384, 512, 512)  # of these outputs
SMALLEST_BOX = 64  # px; the deepest features of a smaller crop would see little but padding
URL = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"


class Fire(nn.Module):
    """Block of SqueezeNet: 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side.

    Args:
        channels: Channels of the input.
        squeezed: Channels in between.
        expanded: Channels of each of the two outputs, which are concatenated.
    """

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(B, C, H, W)`` -> ``(B, 2 * expanded, H, W)``."""
        squeezed = self.squeeze(features).relu()
        return torch.cat([self.expand1x1(squeezed).relu(), self.expand3x3(squeezed).relu()], dim=1)


def squeezenet() -> nn.Sequential:
    """The convolutional layers of SqueezeNet 1.1 (Iandola et al. 2016), with random weights."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        _pool(),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        _pool(),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        _pool(),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
    )


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, version 0.1, with SqueezeNet 1.1 (Zhang et al. 2018).

    Args:
        weights: File of SqueezeNet 1.1, as torchvision publishes it or its ``features`` alone; None takes
            ``squeezenet1_1-*.pth`` from torch hub's folder of checkpoints.

    Raises:
        UnusableWeights: There is no such file, or it holds another network.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__()
        self.features = squeezenet()
        self.linear = nn.ModuleDict({f"lin{i}": nn.Conv2d(n, 1, 1, bias=False) for i, n in enumerate(CHANNELS)})
        path = _hub_file() if weights is None else Path(weights).expanduser()
        state = read_checkpoint(path).state
        features = {name.removeprefix("features."): v for name, v in state.items() if not name.startswith("classifier")}
        load_strictly(self.features, features, str(path))
        heads = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/squeeze.pth"
        state = read_checkpoint(heads).state
        load_strictly(self.linear, {name.replace(".model.1.", "."): value for name, value in state.items()}, str(heads))
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """The distance of each pair.

        Args:
            image: Result, ``(B, 3, H, W)`` in [0, 1], sides of at least 32 px.
            truth: Truth, ``(B, 3, H, W)`` in [0, 1].

        Returns:
            ``(B,)``, lower is better.
        """
        shift, scale = (image.new_tensor(values).view(3, 1, 1) for values in (SHIFT, SCALE))
        stages = [(2 * tensor - 1 - shift) / scale for tensor in (image, truth)]
        distance = image.new_zeros(len(image))
        heads = dict(zip(STAGES, self.linear.values(), strict=True))
        for index, layer in enumerate(self.features):
            stages = [layer(stage) for stage in stages]
            if index in heads:
                first, second = (normalize(stage, dim=1, eps=1e-8) for stage in stages)
                distance = distance + heads[index]((first - second) ** 2).mean(dim=(1, 2, 3))
        return distance

    def in_box(self, image: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        """The distance within the bounding box of the hole, grown to 64 px a side where the image has them.

        Args:
            image: Result, ``(1, 3, H, W)`` in [0, 1].
            truth: Truth, ``(1, 3, H, W)`` in [0, 1].
            mask: Mask, ``(1, 1, H, W)``, 1 = hole.

        Returns:
            ``(1,)``, lower is better; NaN if there is no hole.
        """
        hole = mask[0, 0] > 0
        if not hole.any():
            return image.new_full((1,), torch.nan)
        box = (..., _span(hole.any(1)), _span(hole.any(0)))
        distance: Tensor = self(image[box], truth[box])
        return distance


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _span(occupied: Tensor) -> slice:
    """From the first to the last True, at least 64 px where there is room; the shortfall is shared by both ends."""
    indices = occupied.nonzero()
    start, stop, length = int(indices[0]), int(indices[-1]) + 1, len(occupied)
    missing = max(0, min(SMALLEST_BOX, length) - (stop - start))
    start = min(max(0, start - missing // 2), length - (stop - start) - missing)
    return slice(start, max(stop, start + min(SMALLEST_BOX, length)))


def _hub_file() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    files = sorted(folder.glob("squeezenet1_1-*.pth"))
    if not files:
        raise UnusableWeights(
            f"metrics=[lpips_squeeze] needs the weights of SqueezeNet 1.1, and {folder} has no squeezenet1_1-*.pth. "
            f"Download {URL} to it, or give a file by lpips_weights=."
        )
    return files[0]
