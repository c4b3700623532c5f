"""Refinement in a few lines of Python: overrides -> :class:`Refiner`, and any kind of image in, the same kind out.

import refine
filled = refine.inpaint(photo, mask)                                     # path, PIL, array or tensor
refiner = refine.load("backbone=big_lama", "backbone.weights=big-lama.zip", "refiner.steps=30")
result = refiner(image, mask)                                            # tensors; result.image, result.levels
"""

import functools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from refine.config import build, compose
from refine.images import (
    Picture,
    as_mask,
    encode,
    fill,
    mask_to_tensor,
    read_mask,
    read_picture,
    to_tensor,
    write_atomic,
)
from refine.refiner import Refiner

Kind = TypeVar("Kind", str, Path, Image.Image, np.ndarray, Tensor)


def load(*overrides: str) -> Refiner:
    """Load a backbone and make its refiner.

    Args:
        *overrides: The command line's own, such as ``"backbone=lama"``, ``"backbone.weights=<file>"``,
            ``"preset=paper"``, ``"refiner.steps=30"``, ``"device=cuda"``, ``"config_dir=<folder>"``.

    Raises:
        ConfigError: If an override is malformed, or names what is not there.
        UnusableWeights: If the weights cannot be used.
        ValueError: If a value is out of range.
    """
    return make_refiner(compose("predict", overrides))


def make_refiner(config: DictConfig) -> Refiner:
    """The refiner of a composed configuration, on its device.

    Args:
        config: As :func:`refine.config.compose` gives it.
    """
    known = [key for key in config.backbone if key not in ("card", "tiny")]  # the rest is about it, not for it
    backbone = build(OmegaConf.masked_copy(config.backbone, known))
    refiner = build(config.refiner, backbone=backbone, pyramid=build(config.pyramid), objective=build(config.objective))
    return place(refiner, config.device)


def place(refiner: Refiner, device: str) -> Refiner:
    """Move a refiner to a device, or to the CPU where the device lacks an operation of the network, and say so.

    Args:
        refiner: To move.
        device: ``auto`` for the best there is, or torch's name of one.

    Raises:
        ValueError: If there is no such device.
    """
    chosen = best_device() if device == "auto" else _checked_device(device)
    refiner.to(chosen)
    if chosen.type == "cpu":
        return refiner
    try:
        _probe(refiner)
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).splitlines()[0]
        warnings.warn(f"device {chosen} cannot run this network ({reason}); using the CPU instead.", stacklevel=2)
        refiner.to("cpu")
    return refiner


def best_device() -> torch.device:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _checked_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name}: expected auto, cpu, cuda, cuda:1 or mps.") from None
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(device.type, False):
        raise ValueError(f"device={name}: this machine or this build of torch has none; use device=cpu or device=auto.")
    return device


def _probe(refiner: Refiner) -> None:
    """Run the network once on the smallest image it takes."""
    side = refiner.backbone.minimum_side
    image = torch.zeros(1, 3, side, side, device=refiner.backbone.device, dtype=refiner.backbone.dtype)
    with torch.no_grad():
        refiner.backbone(image, image[:, :1])


@functools.lru_cache(maxsize=2)
def _cached(overrides: tuple[str, ...]) -> tuple[Refiner, DictConfig]:
    config = compose("predict", overrides)
    return make_refiner(config), config


def inpaint(image: Kind, mask: Any, *overrides: str) -> Kind:
    """Fill the hole of one image. The model stays loaded for the next call with the same overrides.

    Args:
        image: A path; a PIL image; an array ``uint8`` or ``uint16`` ``(H,W)``, ``(H,W,1)``, ``(H,W,3)`` or
            ``(H,W,4)``; or a float tensor ``(3,H,W)`` or ``(B,3,H,W)`` in [0, 1].
        mask: White is the hole. A path, a PIL image, a bool, uint8, uint16 or float array ``(H,W)``, or a tensor
            ``(H,W)``, ``(1,H,W)`` or ``(B,1,H,W)``. Subject to ``mask_threshold``, ``mask_invert``, ``mask_dilate``.
        *overrides: As for :func:`load`.

    Returns:
        The same kind as ``image``, at the same size; alpha, 16 bit and known pixels are kept. For a path, the path of
        a new file: ``output=<file>`` if that is among the overrides, else ``<stem>_inpainted.png`` beside the image.

    Raises:
        UnreadableImage: If a file cannot be read.
        TypeError: For another kind of image.
        ValueError: If image and mask do not fit together; and as :func:`load`.
    """
    output = [override.removeprefix("output=") for override in overrides if override.startswith("output=")]
    refiner, config = _cached(tuple(override for override in overrides if not override.startswith("output=")))
    if isinstance(image, Tensor):
        batch = image if image.ndim == 4 else image[None]
        result = refiner(batch, _mask_batch(mask, batch, config)).image
        return result if image.ndim == 4 else result[0]  # type: ignore[return-value]
    picture = _picture(image)
    hole = _hole(mask, config)
    if hole.shape != picture.size:
        raise ValueError(f"image and mask must have one size; got {picture.size} and {hole.shape} (height, width).")
    filled = fill(picture, refiner(to_tensor(picture), mask_to_tensor(hole)).image.cpu(), hole)
    if isinstance(image, str | Path):
        return type(image)(_write(filled, Path(image), output))
    return _back(filled, image)  # type: ignore[return-value]


def _picture(image: Any) -> Picture:
    if isinstance(image, str | Path):
        return read_picture(image)
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            raise ValueError(f"a PIL image must have mode L, LA, RGB or RGBA; got {image.mode}. Convert it first.")
        image = np.asarray(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a path, PIL image, numpy array or torch tensor; got {type(image).__name__}.")
    planes = image[..., None] if image.ndim == 2 else image
    if image.dtype not in (np.uint8, np.uint16) or planes.ndim != 3 or planes.shape[2] not in (1, 2, 3, 4):
        raise ValueError(
            f"an image array must be uint8 or uint16, (H,W) or (H,W,1..4); got {image.dtype} {image.shape}. "
            "Use a float tensor (3,H,W) for values in [0,1]."
        )
    colors = planes.shape[2] - (planes.shape[2] in (2, 4))
    alpha = planes[..., colors] if colors < planes.shape[2] else None
    return Picture(np.ascontiguousarray(planes[..., :colors]), alpha, None, None)


def _back(picture: Picture, like: Image.Image | np.ndarray) -> Image.Image | np.ndarray:
    planes = picture.planes
    if isinstance(like, np.ndarray):
        return planes.reshape(like.shape)
    made = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    made.info.update(like.info)
    return made


def _write(picture: Picture, source: Path, output: Sequence[str]) -> Path:
    target = Path(output[-1]).expanduser() if output else source.with_name(f"{source.stem}_inpainted.png")
    format = target.suffix.lower().removeprefix(".")
    data = encode(picture, {"jpeg": "jpg", "tif": "tiff"}.get(format, format))
    write_atomic(target, data, target.parent)
    return target


def _hole(mask: Any, config: DictConfig) -> np.ndarray:
    """The hole as a bool array ``(H, W)``."""
    options = (config.mask_threshold, config.mask_invert, config.mask_dilate)
    if isinstance(mask, str | Path):
        return read_mask(mask, *options)
    if isinstance(mask, Image.Image):
        mask = np.asarray(mask if mask.mode in ("1", "L", "RGB", "RGBA") else mask.convert("L"))
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu().numpy()
        mask = mask.reshape(mask.shape[-2:]) if mask.size == np.prod(mask.shape[-2:]) else mask
    return as_mask(np.asarray(mask), *options)


def _mask_batch(mask: Any, batch: Tensor, config: DictConfig) -> Tensor:
    """One mask per image, or one for all of them."""
    if isinstance(mask, Tensor) and mask.ndim == 4 and mask.shape[0] > 1:
        holes = [_hole(one, config) for one in mask]
    else:
        holes = [_hole(mask, config)] * batch.shape[0]
    return torch.cat([mask_to_tensor(hole) for hole in holes]).to(batch)
