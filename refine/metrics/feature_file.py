"""A network of the user's, from a TorchScript file, whose features FID and KID compare."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refine.io.files import hash_file

TRIAL = 299  # px, side of the image that a network is tried with, as Inception v3 takes it
WHOLE = "return_features"  # argument of StyleGAN's detectors, which take bytes and would else return class scores


class FeatureFile(nn.Module):
    """Features of images by a TorchScript network: images ``(B, 3, H, W)`` in [0, 1] -> ``(B, D)``.

    It is given the images as they are. Detectors as published with StyleGAN, whose ``forward`` has an argument
    ``return_features``, get it, and images in [0, 255]. Unlike weights, TorchScript is a program: it is run.

    Args:
        path: TorchScript file.

    Raises:
        ValueError: It is no TorchScript file, or does not give one row of features per image.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        file = Path(path).expanduser()
        try:
            self.name, self.sha256 = file.name, hash_file(file)
            self.network = torch.jit.load(file, map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"fid_network={path}: not a TorchScript file ({reason}); save one by torch.jit.save."
            ) from None
        self.is_detector = WHOLE in {argument.name for argument in self.network.forward.schema.arguments}
        self.num_features = self._tried(path)

    def _tried(self, path: str | Path) -> int:
        expected = "images (B, 3, H, W) in [0, 1] -> features (B, D)"
        try:
            features = self(torch.rand(2, 3, TRIAL, TRIAL))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"fid_network={path}: expected a network {expected}; it fails: {reason}") from None
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"fid_network={path}: expected a network {expected}; for two images it gives {got}.")
        return features.shape[1]

    @torch.no_grad()
    def forward(self, images: Tensor) -> Any:
        """Features of images, float32; see the class."""
        return self.network(images * 255, return_features=True) if self.is_detector else self.network(images)

    def facts(self) -> dict[str, str]:
        """What scores say of it: file name, SHA-256 (hex) of the file, and how images are resized."""
        return {"network": self.name, "resize": "the network's own", "weights_sha256": self.sha256}
