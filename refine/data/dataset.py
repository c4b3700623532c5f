"""The images and masks of a run as a dataset: files -> samples of tensors."""

import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from refine.core.types import Sample
from refine.data.masks import MaskGenerator
from refine.data.pairs import Failure, ImageMaskPair
from refine.data.subset import square
from refine.io.encode import check_format
from refine.io.files import File
from refine.io.picture import Picture, as_mask, mask_to_tensor, read_mask, read_picture, to_tensor
from refine.io.transparency import ALPHA, doubt, invisible, transparency, without_hidden_colors


@dataclass(frozen=True)
class Source:
    """What the writer needs to make a file of a result.

    Attributes:
        pair: Files that were read.
        picture: Original picture, 8 or 16 bits per channel.
        inputs: SHA-256 (hex) of the files, see :meth:`ImageMaskPair.hash`.
    """

    pair: ImageMaskPair
    picture: Picture
    inputs: str


@dataclass(frozen=True)
class MaskOptions:
    """How a mask file is read.

    Attributes:
        threshold: Brightness from which a pixel is hole, in (0, 1].
        invert: Whether black is the hole.
        dilate: Growth of the hole, px.
    """

    threshold: float = 0.5
    invert: bool = False
    dilate: int = 0


class PairDataset(Dataset[Sample | Failure]):
    """The images of a run with their masks; a pair that cannot be read is a :class:`Failure`, and the run goes on.

    Args:
        pairs: Images with their masks.
        options: Options of reading mask files.
        format: Format of the results; a picture it cannot hold fails before time is spent on it.
        side: Side of the square that images are resized and cropped to before a mask is drawn, px; None for as they
            are.
    """

    def __init__(
        self, pairs: Sequence[ImageMaskPair], options: MaskOptions, format: str, side: int | None = None
    ) -> None:
        self.pairs = pairs
        self.options = options
        self.format = format
        self.side = side
        self._warned: set[str] = set()

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample | Failure:
        """Read one pair."""
        pair = self.pairs[index]
        try:
            return self._read(pair)
        except (ValueError, OSError) as error:
            return Failure(pair.key, str(error))
        except Exception as error:
            return Failure(pair.key, f"cannot be read ({type(error).__name__}: {error})", traceback.format_exc())

    def _read(self, pair: ImageMaskPair) -> Sample:
        picture = self._picture(pair.image)
        hole = self._hole(pair, picture)
        if hole.shape != picture.size:
            (height, width), (mask_height, mask_width) = picture.size, hole.shape
            raise ValueError(
                f"mask {pair.mask} is {mask_width}x{mask_height}, but image {pair.image} is {width}x{height} (upright, "
                "after its EXIF orientation); masks are never resized: make them the same size."
            )
        check_format(picture, self.format)
        if (found := doubt(hole, picture)) is not None:
            self._warn_once(f"mask {pair.mask} of {pair.image}", found)
        seen, hidden = without_hidden_colors(picture, hole), invisible(picture)
        image = to_tensor(seen)
        unknown = None if hidden is None else mask_to_tensor(hole | hidden)
        if pair.truth == pair.image and seen is picture:
            truth: Tensor | None = image
        else:
            truth = self._truth(pair, picture, hole)
        return Sample(pair.key, image, mask_to_tensor(hole), Source(pair, picture, pair.hash()), truth, unknown)

    def _picture(self, path: File) -> Picture:
        picture = read_picture(path)
        return picture if self.side is None else square(picture, self.side)

    def _hole(self, pair: ImageMaskPair, picture: Picture) -> np.ndarray:
        if isinstance(pair.mask, MaskGenerator):
            return pair.mask(pair.key, picture.size)
        options = (self.options.threshold, self.options.invert, self.options.dilate)
        if isinstance(pair.mask, str):
            assert pair.mask == ALPHA
            return as_mask(transparency(picture), *options)
        return read_mask(pair.mask, *options)

    def _truth(self, pair: ImageMaskPair, picture: Picture, hole: np.ndarray) -> Tensor | None:
        if pair.truth is None:
            return None
        truth, size = picture if pair.truth == pair.image else self._picture(pair.truth), picture.size
        if truth.size != size:
            raise ValueError(
                f"truth {pair.truth} is {truth.size[1]}x{truth.size[0]}, but image {pair.image} is "
                f"{size[1]}x{size[0]}; images are never resized to fit: make them the same size."
            )
        hidden = invisible(truth)
        if hidden is not None and (hidden & hole).any():
            self._warn_once(
                f"truth {pair.truth} of {pair.image}",
                "is fully transparent in part of the hole: scores there compare with colors that nobody sees.",
            )
        return to_tensor(truth)

    def _warn_once(self, what: str, found: str) -> None:
        if found not in self._warned:
            self._warned.add(found)
            warnings.warn(f"{what} {found} (told once)", stacklevel=2)
