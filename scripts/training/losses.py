"""Losses and scores inside the hole: L1, gradients, PSNR, sharpness."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, max_pool2d, pad, relu


def in_hole(difference: Tensor, mask: Tensor) -> Tensor:
    """Mean of a difference ``(B, C, h, w)`` over the pixels of a mask ``(B, 1, h, w)``."""
    return (difference * mask).sum() / (mask.sum() * difference.shape[1]).clamp(min=1)


def gradient_loss(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """L1 of the differences between neighbors in the hole."""
    error = prediction - image
    across, down = error.diff(dim=-1).abs(), error.diff(dim=-2).abs()
    return in_hole(across, mask[..., 1:]) + in_hole(down, mask[..., 1:, :])


def hole_psnr(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """PSNR of each image inside its hole, dB, ``(B,)``."""
    squared = ((prediction.clamp(0, 1) - image) ** 2 * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))
    return -10 * torch.log10(squared.clamp(min=1e-10))


def sharpness(prediction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Gradients in the hole, predicted over true; 1 is as sharp as the image."""
    inner = mask[..., 1:] * mask[..., :-1]
    return in_hole(prediction.diff(dim=-1).abs(), inner) / in_hole(image.diff(dim=-1).abs(), inner).clamp(min=1e-6)


def patches(mask: Tensor, score: Tensor) -> Tensor:
    """The mask at the size of the discriminator's score: a patch is fake where it touches the hole."""
    factor = mask.shape[-1] // score.shape[-1]
    small = max_pool2d(mask, factor)
    return nn.functional.interpolate(small, score.shape[-2:])


class Perceptual(nn.Module):
    """L1 between features of a VGG-19 up to relu3_1, which see 24 px around a pixel; larger differences than pixels.

    Args:
        path: State dict of the convolutions in order, as ``<i>.weight`` and ``<i>.bias``; the first is 1x1 and turns
            RGB in [0, 1] into what the others expect. They pad by reflection.

    Raises:
        ValueError: If there is no file, or not these convolutions in it.
    """

    POOLED = (2, 4)  # convolutions after which the features are halved
    COMPARED = (1, 3, 5)  # convolutions after whose ReLU features are compared: relu1_1, relu2_1, relu3_1

    def __init__(self, path: str | None) -> None:
        super().__init__()
        if path is None:
            raise ValueError(
                "loss.perceptual needs a VGG-19: set loss.vgg to the file of its weights, or loss.perceptual=0."
            )
        state = torch.load(Path(path), weights_only=True)
        names = [name for name in state if name.endswith(".weight")]
        kernels = [state[name].shape[-1] for name in names]
        if kernels != [1, 3, 3, 3, 3, 3]:
            raise ValueError(
                f"loss.vgg={path}: got convolutions with kernels of {kernels} px, expected one of 1 px and five of "
                "3 px, those of a VGG-19 up to relu3_1. Set loss.vgg to such a file."
            )
        for i, name in enumerate(names):
            self.register_buffer(f"weight{i}", state[name].float(), persistent=False)
            self.register_buffer(f"bias{i}", state[name.replace("weight", "bias")].float(), persistent=False)

    def features(self, image: Tensor) -> list[Tensor]:
        """Features of an image ``(B, 3, h, w)`` in [0, 1]."""
        x, compared = nn.functional.conv2d(image, self.weight0, self.bias0), []
        for i in range(1, 6):
            x = pad(x, (1, 1, 1, 1), mode="reflect")
            x = relu(nn.functional.conv2d(x, getattr(self, f"weight{i}"), getattr(self, f"bias{i}")))
            if i in self.COMPARED:
                compared.append(x)
            if i in self.POOLED:
                x = max_pool2d(x, 2)
        return compared

    def forward(self, prediction: Tensor, image: Tensor) -> Tensor:
        """Mean over the layers of the L1 between the features of both, relative to the features of the image."""
        with torch.no_grad():
            true = self.features(image)
        pairs = zip(self.features(prediction), true, strict=True)
        return torch.stack([l1_loss(a.float(), b.float()) / b.float().mean() for a, b in pairs]).mean()
