"""Refinement in a few lines of Python: overrides -> :class:`Refiner`, and any kind of image in, the same kind out.

Example::

    filled = refine.inpaint(photo, mask)  # path, PIL image, array or tensor
    refiner = refine.load("big_lama", weights="big-lama.zip", steps=30)
    result = refiner(image, mask)  # tensors in; result.image, result.levels
"""

import functools
import json
import os
import re
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refine.config import ConfigError, InpaintConfig, PredictConfig
from refine.core.memory import refine_in_memory
from refine.core.refiner import Refiner
from refine.factory import make_refiner
from refine.io.encode import check_format, encode
from refine.io.exif import upright_image
from refine.io.files import write_atomic
from refine.io.formats import WRITTEN
from refine.io.in_memory import image_like, mask_of, picture_of
from refine.io.mask import MaskOptions, as_mask, read_mask
from refine.io.picture import Picture, fill, mask_to_tensor, read_picture, to_tensor
from refine.io.transparency import ALPHA, doubt, network_view, transparent_hole

KEYWORDS = {
    "weights": "backbone.weights",
    "cut": "backbone.cut",
    "native_size": "backbone.native_size",
    "preset": "preset",
    "steps": "refiner.steps",
    "lr": "refiner.lr",
    "optimize": "refiner.optimize",
    "precision": "refiner.precision",
    "gradient_checkpointing": "refiner.gradient_checkpointing",
    "window": "refiner.window",
    "device": "device",
    "config_dir": "config_dir",
}  # of load -> setting
SECTIONS = (*InpaintConfig.model_fields, "preset", "config_dir", "output")  # what an override may begin with
_LOCKS: defaultdict[tuple[str, ...], threading.RLock] = defaultdict(threading.RLock)  # by what is loaded
Kind = TypeVar("Kind", str, Path, Image.Image, np.ndarray, Tensor)


def load(
    *overrides: str,
    weights: str | Path | None = None,
    cut: str | None = None,
    native_size: int | None = None,
    preset: str | None = None,
    steps: int | Sequence[int] | None = None,
    lr: float | Sequence[float] | None = None,
    optimize: Sequence[str] | None = None,
    precision: int | str | None = None,
    gradient_checkpointing: bool | None = None,
    window: int | str | None = None,
    device: str | None = None,
    config_dir: str | Path | None = None,
) -> Refiner:
    """Load a backbone and make its refiner: ``load("big_lama", weights="big-lama.zip", steps=30)``.

    Args:
        *overrides: The backbone's name or the path of its YAML file, then overrides as on the command line, such as
            ``"refiner.steps=30"``. The keywords say the same; None leaves what is configured.
        weights: File of the backbone's weights, or ``random``.
        cut: Layer at which the backbone is cut in two.
        native_size: Side in px that the backbone was trained at.
        preset: Name of a preset, such as ``paper``.
        steps: Updates per level, or a list of them, coarse to fine.
        lr: Learning rate, or a list of them, coarse to fine.
        optimize: Names of the tensors at the cut that are optimized.
        precision: Precision of the network: 32, ``bf16`` or 16.
        gradient_checkpointing: Whether activations are computed again instead of kept.
        window: ``auto`` refines large images only around their holes; a number is also the largest side of such a
            window, px.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        config_dir: Folder that adds backbones, presets and so on.

    Raises:
        ConfigError: If an override is malformed, or names what is not there.
        UnusableWeights: If the weights cannot be used.
        ValueError: If a value is out of range.
    """
    keywords = {key: value for key, value in locals().items() if key in KEYWORDS}
    return make_refiner(InpaintConfig.compose(as_overrides(overrides, keywords)))


def as_overrides(overrides: Sequence[str], keywords: Mapping[str, Any]) -> list[str]:
    """Keywords of :func:`load` as overrides.

    Args:
        overrides: Positional arguments of :func:`load`.
        keywords: Values by their names in :data:`KEYWORDS`; None is left out.

    Raises:
        TypeError: If a keyword is unknown, or a value of another kind.
        ConfigError: If an override is for the command line alone.
    """
    for key in keywords:
        if key not in KEYWORDS:
            raise TypeError(f"there is no keyword '{key}'; there are: {', '.join(KEYWORDS)}.")
    for override in overrides:
        if not isinstance(override, str):
            raise TypeError(f"overrides are text, such as 'refiner.steps=30'; got {override!r}.")
        name = re.split(r"[.=]", override.lstrip("+~"))[0]
        if "=" in override and name not in SECTIONS and (override[0] == "+" or name in PredictConfig.model_fields):
            raise ConfigError(f"{override}: this is for the command line; from Python there are {', '.join(SECTIONS)}.")
    named = overrides and "=" not in overrides[0]
    first = [f"backbone={overrides[0]}", *overrides[1:]] if named else list(overrides)
    return first + [f"{KEYWORDS[key]}={_written(key, value)}" for key, value in keywords.items() if value is not None]


def _written(key: str, value: Any) -> str:
    """A value in Hydra's grammar; paths are taken as they are."""
    if key in ("weights", "config_dir", "device"):
        return str(value)
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    try:
        listed = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else plain
        return json.dumps(listed, default=np.generic.tolist)
    except TypeError:
        raise TypeError(f"{key} must be a number, a text or a list of such; got {type(value).__name__}.") from None


def _cached(overrides: tuple[str, ...]) -> tuple[Refiner, InpaintConfig]:
    with _LOCKS[overrides]:  # threads that come at once need one network, not one each
        return _loaded(overrides)


@functools.lru_cache(maxsize=2)
def _loaded(overrides: tuple[str, ...]) -> tuple[Refiner, InpaintConfig]:
    config = InpaintConfig.compose(overrides)
    return make_refiner(config), config


def inpaint(image: Kind, mask: Any, *overrides: str, **keywords: Any) -> Kind:
    """Fill the hole of one image. The model stays loaded for the next call with the same overrides.

    Args:
        image: A path; a PIL image; an array ``uint8`` or ``uint16`` ``(H,W)`` or ``(H,W,1..4)`` (gray, gray + alpha,
            RGB, RGBA); or a float tensor ``(3,H,W)`` or ``(B,3,H,W)`` in [0, 1].
        mask: White is the hole. A path, a PIL image, a bool, uint8, uint16 or float array ``(H,W)``, or a tensor
            ``(H,W)``, ``(1,H,W)`` or ``(B,1,H,W)``; or ``"alpha"``: the transparent part of the image. Subject to
            ``mask_channel``, ``mask_threshold``, ``mask_invert``, ``mask_dilate``; what is not black and white is
            recognized, see :func:`refine.io.as_mask`.
        *overrides: Backbone and overrides, as for :func:`load`.
        **keywords: Settings by the names of :data:`KEYWORDS`, as for :func:`load`.

    Returns:
        The same kind as ``image``, at the same size; known pixels, 16 bit and alpha are kept, the hole is opaque. Fully
        transparent pixels are unknown to the network, and not filled unless the mask says so. PIL images come back
        upright, without EXIF orientation; those with a palette as RGB, those of 1 bit as gray, those in which a color
        stands for no color with alpha. For a path, the path of the result: ``output=<file>`` if that is among the
        overrides, else ``<stem>_inpainted.<format>`` beside the image.

    Raises:
        UnreadableImage: If a file cannot be read.
        TypeError: For another kind of image.
        ValueError: If image and mask do not fit together; and as :func:`load`.
    """
    overrides = tuple(as_overrides(overrides, keywords))
    output = [override.removeprefix("output=") for override in overrides if override.startswith("output=")]
    if output and not isinstance(image, str | Path):
        raise ValueError(f"output={output[-1]}: only an image given as a path has one; leave it out.")
    refiner, config = _cached(tuple(override for override in overrides if not override.startswith("output=")))
    if isinstance(image, Tensor):
        return _filled_tensor(image, mask, refiner, config)
    given: Any = upright_image(image) if isinstance(image, Image.Image) else image
    picture = read_picture(given) if isinstance(given, str | Path) else picture_of(given)
    target = None
    if isinstance(image, str | Path):
        target = Path(output[-1] if output else Path(image).with_name(f"{Path(image).stem}_inpainted.{config.format}"))
        target = _checked_target(target.expanduser(), picture, image, mask)
    filled = _filled(picture, mask, refiner, config)
    if target is not None:
        _write(filled, target)
        kind: Callable[[Path], Kind] = type(image)
        return kind(target)
    return image_like(filled, given)  # type: ignore[return-value]


def _filled_tensor(image: Tensor, mask: Any, refiner: Refiner, config: InpaintConfig) -> Tensor:
    batch = image if image.ndim == 4 else image[None]
    result = refine_in_memory(refiner, batch, _mask_batch(mask, batch, config)).image
    return result if image.ndim == 4 else result[0]


def _filled(picture: Picture, mask: Any, refiner: Refiner, config: InpaintConfig) -> Picture:
    if isinstance(mask, str) and mask == ALPHA:
        hole = transparent_hole(picture, MaskOptions(*config.mask_options))
    else:
        hole = _hole(mask, config, picture)
    if hole.shape != picture.size:
        raise ValueError(
            f"image and mask must have one size; got {picture.size} and {hole.shape} (height, width), both "
            "upright, after their EXIF orientation. Masks are never resized: make them the same size."
        )
    if (found := doubt(hole, picture, config.mask_invert)) is not None:
        warnings.warn(f"the mask {found}", stacklevel=3)
    seen, unknown = network_view(picture, hole)
    result = refine_in_memory(refiner, to_tensor(seen), mask_to_tensor(unknown)).image
    return fill(picture, result.cpu(), hole)


def _checked_target(target: Path, picture: Picture, *inputs: Any) -> Path:
    """Where the result goes; asked before the work, so that a name it cannot have costs no time."""
    if os.path.realpath(target) in {os.path.realpath(file) for file in inputs if isinstance(file, str | Path)}:
        raise ValueError(f"output={target} would overwrite an input; give another file.")
    if target.is_dir() or target.suffix.lower() not in WRITTEN:
        raise ValueError(f"output={target}: expected a file ending in one of {' '.join(WRITTEN)}.")
    check_format(picture, WRITTEN[target.suffix.lower()])
    return target


def _write(picture: Picture, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, encode(picture, WRITTEN[target.suffix.lower()], str(target)), target.parent)


def _hole(mask: Any, config: InpaintConfig, image: Picture | None = None) -> np.ndarray:
    """The hole as a bool array ``(H, W)``; the image tells whether the two were swapped."""
    options = config.mask_options
    if isinstance(mask, str | Path):
        return read_mask(mask, *options, image=image)
    if isinstance(mask, Image.Image):
        return as_mask(mask_of(mask), *options, image=image)
    if isinstance(mask, Tensor):
        mask = (mask.detach().float() if mask.is_floating_point() else mask).cpu().numpy()
        mask = mask.reshape(mask.shape[-2:]) if mask.size == np.prod(mask.shape[-2:]) else mask
    return as_mask(np.asarray(mask), *options, image=image)


def _mask_batch(mask: Any, batch: Tensor, config: InpaintConfig) -> Tensor:
    """One mask per image, or one for all of them."""
    if isinstance(mask, str) and mask == ALPHA:
        raise ValueError("mask='alpha' needs an image with alpha, and a tensor has none; give an array or a path.")
    if isinstance(mask, Tensor) and mask.ndim == 4 and mask.shape[0] > 1:
        holes = [_hole(single_mask, config) for single_mask in mask]
    else:
        holes = [_hole(mask, config)] * batch.shape[0]
    for found in sorted({found for hole in holes if (found := doubt(hole, inverted=config.mask_invert)) is not None}):
        warnings.warn(f"the mask {found}", stacklevel=3)
    return torch.cat([mask_to_tensor(hole) for hole in holes]).to(batch)
