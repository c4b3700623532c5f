"""Holes to test with: seeded sets of thin, medium and thick brush strokes and boxes, after LaMa's generators.

The ranges are those of LaMa's ``random_{thin,medium,thick}_{256,512}`` evaluation sets, and so is the order of the
random draws: at a square of 256 or 512 px, :func:`draw` gives the very masks of the published generator for the same
legacy NumPy stream (with the same OpenCV; only ``cv2.line`` could move a pixel between versions). Other sizes follow a
rule of our own, :func:`recipe`.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

Range = tuple[int, int]  # both ends included
KINDS = ("thin", "medium", "thick")
BOX_WEIGHT = 0.3  # of boxes against strokes at weight 1, where a kind has boxes: a mask is all strokes or all boxes
TWO_PI = 2 * 3.1415926  # the published generator's
MAX_DRAWS = 200  # about half of all masks pass at the usual limit, so only a hopeless size or limit needs so many


@dataclass(frozen=True)
class Recipe:
    """What the masks of one kind are drawn from; ranges include both ends.

    Attributes:
        strokes: Number of strokes of a square mask.
        width: Thickness of a segment, px.
        length: Length of a segment, px.
        boxes: Number of boxes of a square mask; ``(0, 0)`` where the kind has none.
        side: Width and height of a box, px.
        margin: Distance that boxes keep from the border, px.
    """

    strokes: Range
    width: Range
    length: Range
    boxes: Range = (0, 0)
    side: Range = (0, 0)
    margin: int = 0


# At a short side of 256 and of 512 px. The upper number of strokes is one above the published setting, because the
# published generator adds 1 twice; thickness and length hold its constant terms 5 and 10.
RECIPES = {
    "thin": (Recipe((4, 51), (5, 14), (10, 49)), Recipe((4, 71), (5, 24), (10, 109))),
    "medium": (
        Recipe((4, 6), (5, 54), (10, 109), (1, 5), (10, 50), 0),
        Recipe((4, 11), (5, 104), (10, 209), (1, 5), (30, 150), 0),
    ),
    "thick": (
        Recipe((1, 6), (5, 104), (10, 209), (1, 3), (30, 150), 10),
        Recipe((1, 6), (5, 254), (10, 459), (1, 4), (30, 300), 10),
    ),
}


def recipe(kind: str, side: int) -> Recipe:
    """The recipe for a short side of any size.

    256 and 512 px are LaMa's own. In between every number is interpolated linearly; below 256 and above 512 px the
    lengths are those of the nearer one times the ratio of the sides, and the counts stay, so a mask at 2048 px looks
    like one at 512 px. Halves round up, no stroke or box is thinner than 1 px.

    Args:
        kind: ``thin``, ``medium`` or ``thick``.
        side: Shorter side of the image, px.

    Raises:
        ValueError: There is no such kind or size.
    """
    if kind not in RECIPES:
        raise ValueError(f"masks must be one of {', '.join(KINDS)}; got {kind!r}.")
    if side < 1:
        raise ValueError(f"a mask needs sides of at least 1 px; got {side}.")
    small, large = RECIPES[kind]
    nearest = min(max(side, 256), 512)
    share, ratio = (nearest - 256) / 256, side / nearest

    def between(low: int, high: int, factor: float = 1.0) -> int:
        return _rounded(factor * (low + share * (high - low)))

    def count(low: Range, high: Range) -> Range:
        return between(low[0], high[0]), between(low[1], high[1])

    def pixels(low: Range, high: Range) -> Range:
        return max(1, between(low[0], high[0], ratio)), max(1, between(low[1], high[1], ratio))

    return Recipe(
        count(small.strokes, large.strokes),
        pixels(small.width, large.width),
        pixels(small.length, large.length),
        count(small.boxes, large.boxes),
        pixels(small.side, large.side),
        between(small.margin, large.margin, ratio),
    )


def draw(kind: str, size: tuple[int, int], rng: np.random.RandomState) -> np.ndarray:
    """Draw one mask of LaMa's generator, however much it covers; see :class:`MaskGenerator` for masks to evaluate with.

    A longer side multiplies the number of strokes or boxes by the aspect ratio (a fraction becomes one more with that
    probability), so that an oblong mask covers about the share a square one does.

    Args:
        kind: ``thin``, ``medium`` or ``thick``.
        size: ``(height, width)`` of the mask, px.
        rng: Legacy NumPy stream, ``RandomState(n)`` for what ``np.random.seed(n)`` gives; it is moved on.

    Returns:
        ``(H, W)`` bool, True = hole; never empty.

    Raises:
        ValueError: There is no such kind or size.
    """
    ranges = recipe(kind, min(size))
    aspect = max(size) / min(size)
    weights = np.array([1.0, BOX_WEIGHT if ranges.boxes[1] else 0.0])
    paint = (_strokes, _boxes)[rng.choice(2, p=weights / weights.sum())]
    mask = np.zeros(size, np.uint8)
    paint(mask, ranges, aspect, rng)
    return mask.astype(bool)


def _strokes(mask: np.ndarray, ranges: Recipe, aspect: float, rng: np.random.RandomState) -> None:
    height, width = mask.shape
    for stroke in range(_count(rng, ranges.strokes, aspect)):
        x, y = rng.randint(width), rng.randint(height)
        for _ in range(_integer(rng, (1, 5))):
            angle = 0.01 + rng.randint(4)  # radians
            if stroke % 2 == 0:
                angle = TWO_PI - angle
            length, thickness = _integer(rng, ranges.length), _integer(rng, ranges.width)
            end_x = min(max(int(x + length * math.sin(angle)), 0), width)
            end_y = min(max(int(y + length * math.cos(angle)), 0), height)
            cv2.line(mask, (x, y), (end_x, end_y), 1, thickness)
            x, y = end_x, end_y


def _boxes(mask: np.ndarray, ranges: Recipe, aspect: float, rng: np.random.RandomState) -> None:
    height, width = mask.shape
    low, margin = ranges.side[0], ranges.margin
    largest = max(low, min(ranges.side[1], min(height, width) - 2 * margin - 1))
    for _ in range(_count(rng, ranges.boxes, aspect)):
        box_width, box_height = _integer(rng, (low, largest)), _integer(rng, (low, largest))
        x = _integer(rng, (margin, width - margin - box_width))
        y = _integer(rng, (margin, height - margin - box_height))
        mask[y : y + box_height, x : x + box_width] = 1


@dataclass(frozen=True)
class MaskGenerator:
    """Masks of one kind for any number of images: a function of the image's key, whatever came before it.

    As in LaMa's evaluation sets a mask that covers more than ``max_area`` is thrown away. LaMa keeps one of five and
    silently loses the image if none is left; here drawing goes on until one passes, which gives the same distribution.

    Args:
        kind: ``thin``, ``medium`` or ``thick``.
        seed: Seed of all masks of the generator.
        max_area: Largest share of the image a mask may cover, in (0, 1].

    Raises:
        ValueError: A value outside these ranges.
    """

    kind: str
    seed: int = 0
    max_area: float = 0.5

    def __post_init__(self) -> None:
        recipe(self.kind, 1)
        if not 0 < self.max_area <= 1:
            raise ValueError(f"masks.max_area must be in (0, 1], a share of the image; got {self.max_area}.")

    def __call__(self, key: str, size: tuple[int, int]) -> np.ndarray:
        """The mask of one image.

        Args:
            key: Name of the image, free to say which of several masks of it: ``photo#2``.
            size: ``(height, width)`` of the image, px.

        Returns:
            ``(H, W)`` bool, True = hole; never empty.

        Raises:
            ValueError: No mask this small was found, as on an image of a few pixels.
        """
        name = f"{self.seed}/{self.kind}/{key}".encode(errors="surrogateescape")
        rng = np.random.RandomState(np.frombuffer(hashlib.sha256(name).digest(), "<u4"))
        for _ in range(MAX_DRAWS):
            mask = draw(self.kind, size, rng)
            if mask.mean() <= self.max_area:
                return mask
        raise ValueError(
            f"no {self.kind} mask for {key!r} ({size[1]}x{size[0]}) covers {self.max_area:.0%} or less in {MAX_DRAWS} "
            "draws; raise masks.max_area or leave the image out."
        )


def joint_hash(hashes: Iterable[str]) -> str:
    """SHA-256 (hex) of a set of masks: changes with any pixel, size or key, not with the order.

    Args:
        hashes: The :func:`mask_hash` of each mask, hex.
    """
    return hashlib.sha256(b"".join(sorted(map(bytes.fromhex, hashes)))).hexdigest()


def mask_hash(key: str, mask: np.ndarray) -> str:
    """SHA-256 (hex) of one mask with its size and key.

    Args:
        key: Name of the image that the mask belongs to.
        mask: ``(H, W)``, nonzero = hole.
    """
    height, width = mask.shape
    head = f"{height}x{width}/{key}\0".encode(errors="surrogateescape")
    return hashlib.sha256(head + np.packbits(mask.astype(bool)).tobytes()).hexdigest()


def _integer(rng: np.random.RandomState, ends: Range) -> int:
    return rng.randint(ends[0], ends[1] + 1)


def _count(rng: np.random.RandomState, ends: Range, aspect: float) -> int:
    count = _integer(rng, ends)
    return count if aspect == 1 else math.floor(aspect * count + rng.random_sample())


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)
