"""Evaluation sets: which images of a collection, at which size, drawn the same way by everybody."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from refine.data.pairs import ImageMaskPair
from refine.io.picture import Picture


def draw(jobs: Sequence[ImageMaskPair], limit: int | None, seed: int) -> list[ImageMaskPair]:
    """Draw some of the images at random, by their keys alone: more images on disk change few of the drawn ones.

    Args:
        jobs: To draw from.
        limit: Number of images; None for all.
        seed: Another seed draws others.

    Returns:
        The drawn ones, in the order given.

    Raises:
        ValueError: If there are fewer.
    """
    if limit is None:
        return list(jobs)
    if not 0 < limit <= len(jobs):
        raise ValueError(f"data.limit={limit}: got {len(jobs)} images, expected a number from 1 to that.")
    rank = {job.key: hashlib.sha256(f"{seed}/{job.key}".encode(errors="surrogateescape")).digest() for job in jobs}
    drawn = set(sorted(rank, key=rank.__getitem__)[:limit])
    return [job for job in jobs if job.key in drawn]


def listed(jobs: Sequence[ImageMaskPair], table: Path) -> list[ImageMaskPair]:
    """The images that a table of a collection names, as Unsplash's ``photos.tsv000`` does.

    Args:
        jobs: Of the images on disk, each called by its id.
        table: Tab-separated, with a column ``photo_id``.

    Raises:
        ValueError: If it cannot be read, has no such column, or names none of the images.
    """
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t")
            known = {row.get("photo_id") for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"data.table={table}: cannot be read as tab-separated UTF-8 ({error}).") from None
    if known <= {None}:
        raise ValueError(f"data.table={table}: expected a column photo_id, as in Unsplash's photos.tsv000.")
    found = [job for job in jobs if job.image.stem in known]
    if not found:
        raise ValueError(f"data.table={table}: names {len(known)} photos, but none of the {len(jobs)} images here.")
    return found


def list_hash(keys: Iterable[str]) -> str:
    """SHA-256 (hex) of a list of images, in any order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode(errors="surrogateescape")).hexdigest()


def square(picture: Picture, side: int) -> Picture:
    """Shrink to a short side of ``side`` px (area averaging) and cut the middle out.

    Args:
        picture: Of at least that size.
        side: Of the result, px.

    Raises:
        ValueError: If the picture is smaller; enlarging would make pixels up.
    """
    height, width = picture.size
    if min(height, width) < side:
        raise ValueError(f"is {width}x{height}, smaller than data.side={side}; it is not enlarged, leave it out.")
    planes = _shrunk(picture.planes, side / min(height, width))
    top, left = (planes.shape[0] - side) // 2, (planes.shape[1] - side) // 2
    planes = np.ascontiguousarray(planes[top : top + side, left : left + side])
    colors = picture.pixels.shape[2]
    return replace(picture, pixels=planes[..., :colors], alpha=None if picture.alpha is None else planes[..., colors])


def _shrunk(planes: np.ndarray, ratio: float) -> np.ndarray:
    if ratio == 1:
        return planes
    height, width = (round(length * ratio) for length in planes.shape[:2])
    # OpenCV drops the dimension of a single plane.
    return np.atleast_3d(cv2.resize(planes, (width, height), interpolation=cv2.INTER_AREA))
