"""Evaluation sets: which images of a collection, at which size, drawn the same way by everybody."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from refine.core.randomness import digest
from refine.data.pairs import ImageMaskPair, Listing, Unused
from refine.io.picture import Picture

LEFT_OUT = {"table": "not in data.table", "limit": "not drawn for data.limit"}
"""Reasons why a pair of the input is no part of an evaluation set."""


def subset(listing: Listing, table: str | None, limit: int | None, seed: int) -> Listing:
    """The part of a listing that is an evaluation set; the images of the others are not used, and why is said.

    Args:
        listing: All that an input holds.
        table: Path of a table that names the images, as for :func:`listed`; None for all.
        limit: Number of images to draw, as for :func:`draw`; None for all.
        seed: Seed of the draw.

    Raises:
        ValueError: The table cannot be used, or there are fewer images than ``limit``.
    """
    named = listing.pairs if table is None else listed(listing.pairs, Path(table).expanduser())
    drawn = draw(named, limit, seed)
    keys = {pair.key for pair in named}
    outside = [Unused(pair.key, LEFT_OUT["table"]) for pair in listing.pairs if pair.key not in keys]
    keys = {pair.key for pair in drawn}
    outside += [Unused(pair.key, LEFT_OUT["limit"]) for pair in named if pair.key not in keys]
    return Listing(drawn, listing.failures, [*listing.unused, *outside])


def draw(pairs: Sequence[ImageMaskPair], limit: int | None, seed: int) -> list[ImageMaskPair]:
    """Draw some of the images at random, by their keys alone: more images on disk change few of the drawn ones.

    Args:
        pairs: Images to draw from.
        limit: Number of images; None for all.
        seed: Seed of the draw; another one draws other images.

    Returns:
        The drawn images, in the order of ``pairs``.

    Raises:
        ValueError: There are fewer images than ``limit``.
    """
    if limit is None:
        return list(pairs)
    if not 0 < limit <= len(pairs):
        raise ValueError(f"data.limit={limit}: got {len(pairs)} images, expected a number from 1 to that.")
    rank = {pair.key: digest(seed, pair.key) for pair in pairs}
    drawn = set(sorted(rank, key=rank.__getitem__)[:limit])
    return [pair for pair in pairs if pair.key in drawn]


def listed(pairs: Sequence[ImageMaskPair], table: Path) -> list[ImageMaskPair]:
    """The images that a table of a collection names, as Unsplash's ``photos.tsv000`` does.

    Args:
        pairs: Images on disk, each with its id as the stem of its file name.
        table: Path of a tab-separated table with a column ``photo_id``.

    Raises:
        ValueError: The table cannot be read, has no such column, or names none of the images.
    """
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t")
            photo_ids = {row.get("photo_id") for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"data.table={table}: cannot be read as tab-separated UTF-8 ({error}).") from None
    if photo_ids <= {None}:
        raise ValueError(f"data.table={table}: expected a column photo_id, as in Unsplash's photos.tsv000.")
    selected = [pair for pair in pairs if pair.image.stem in photo_ids]
    if not selected:
        raise ValueError(
            f"data.table={table}: names {len(photo_ids)} photos, but none of the {len(pairs)} images here."
        )
    return selected


def list_hash(keys: Iterable[str]) -> str:
    """SHA-256 (hex) of a list of images, in any order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode(errors="surrogateescape")).hexdigest()


def square(picture: Picture, side: int) -> Picture:
    """Shrink to a short side of ``side`` px (area averaging) and cut the middle out.

    Args:
        picture: Picture whose sides are at least ``side`` px.
        side: Side of the resulting square, px.

    Raises:
        ValueError: The picture is smaller; enlarging would make pixels up.
    """
    height, width = picture.size
    if min(height, width) < side:
        raise ValueError(f"is {width}x{height}, smaller than data.side={side}; it is not enlarged, leave it out.")
    planes = _shrunk(picture.planes, side / min(height, width))
    top, left = (planes.shape[0] - side) // 2, (planes.shape[1] - side) // 2
    planes = np.ascontiguousarray(planes[top : top + side, left : left + side])
    colors = picture.pixels.shape[2]
    alpha = None if picture.alpha is None else planes[..., colors]
    return replace(picture, pixels=planes[..., :colors], alpha=alpha, indices=None)


def _shrunk(planes: np.ndarray, ratio: float) -> np.ndarray:
    if ratio == 1:
        return planes
    height, width = (round(length * ratio) for length in planes.shape[:2])
    # OpenCV drops the dimension of a single plane.
    return np.atleast_3d(cv2.resize(planes, (width, height), interpolation=cv2.INTER_AREA))
