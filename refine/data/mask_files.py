"""Drawn masks as files, with the hash that stands for all of them."""

import json
from collections.abc import Sequence
from pathlib import Path

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
) -> tuple[int, str, list[Failure]]:
    """Draw a mask for each image and write it under the image's key, as PNG.

    Args:
        pairs: Images; their own masks are not looked at.
        generator: Generator of the masks.
        output: Folder of the masks.
        side: Side in px of the square that each image is made, as by ``data.side``; None for its own size.
        megapixels: Largest image that is read, MP.

    Returns:
        Number of masks, their joint SHA-256 (hex), and the images that could not be read.

    Raises:
        OSError: If a mask cannot be written.
    """
    hashes, failures = {}, []
    output.mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        try:
            picture = read_picture(pair.image, megapixels)
            mask = generator(pair.key, picture.size if side is None else square(picture, side).size)
        except (ValueError, OSError) as error:
            failures.append(Failure(pair.key, str(error)))
            continue
        file = output / f"{pair.key}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes(), output)
        hashes[pair.key] = mask_hash(pair.key, mask)
    digest = joint_hash(hashes.values())
    record = {"kind": generator.kind, "seed": generator.seed, "max_area": generator.max_area, "side": side}
    write_atomic(output / RECORD, json.dumps({**record, "n": len(hashes), "hash": digest}, indent=1).encode(), output)
    return len(hashes), digest, failures
