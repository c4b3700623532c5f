"""Drawn masks as files, with the hash that stands for all of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from refine.data.masks import MaskGenerator, joint_hash, mask_hash
from refine.data.pairs import Failure, ImageMaskPair
from refine.data.subset import square
from refine.io.files import write_atomic
from refine.io.formats import MEGAPIXELS
from refine.io.picture import read_picture

RECORD = "suite.json"  # settings, number and hash of the masks beside it


def write_masks(
    pairs: Sequence[ImageMaskPair],
    generator: MaskGenerator,
    output: Path,
    side: int | None,
    megapixels: float = MEGAPIXELS,
    overwrite: bool = False,
) -> tuple[int, str, list[Failure]]:
    """Draw a mask for each image and write it under the image's key, as PNG.

    Args:
        pairs: Images; their own masks are not looked at.
        generator: Generator of the masks.
        output: Folder of the masks.
        side: Side in px of the square that each image is made, as by ``data.side``; None for its own size.
        megapixels: Largest image that is read, MP.
        overwrite: Whether masks that are there are replaced by others.

    Returns:
        Number of masks, their joint SHA-256 (hex), and the images that got none, and why.

    Raises:
        ValueError: If masks of other settings are there.
        OSError: If a mask cannot be written.
    """
    hashes, failures = {}, []
    settings = {"kind": generator.kind, "seed": generator.seed, "max_area": generator.max_area, "side": side}
    if not overwrite:
        _check_record(output, settings)
    output.mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        file = output / f"{pair.key}.png"
        try:
            picture = read_picture(pair.image, megapixels)
            mask = generator(pair.key, picture.size if side is None else square(picture, side).size)
            data = _packed(mask, file, overwrite)
        except (ValueError, OSError) as error:
            failures.append(Failure(pair.key, str(error)))
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, data, output)
        hashes[pair.key] = mask_hash(pair.key, mask)
    digest = joint_hash(hashes.values())
    write_atomic(output / RECORD, json.dumps({**settings, "n": len(hashes), "hash": digest}, indent=1).encode(), output)
    return len(hashes), digest, failures


def _packed(mask: np.ndarray, file: Path, overwrite: bool) -> bytes:
    """A mask as PNG, if its file is not there yet or is the same."""
    data = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
    if not overwrite and file.exists() and file.read_bytes() != data:
        raise ValueError(f"{file} is there and is another mask; overwrite=true replaces it.")
    return data


def _check_record(output: Path, settings: Mapping[str, Any]) -> None:
    try:
        there = json.loads((output / RECORD).read_bytes())
    except (OSError, ValueError):  # no masks were drawn here
        return
    if not isinstance(there, dict):  # it is no record of ours
        return
    other = [f"{name}: {there[name]} -> {value}" for name, value in settings.items() if there.get(name, value) != value]
    if other:
        raise ValueError(
            f"output={output} holds masks of other settings ({', '.join(other)}); give another folder, or "
            "overwrite=true."
        )
