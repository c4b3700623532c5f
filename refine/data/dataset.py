"""The images and masks of a run as a dataset: files -> samples of tensors."""

import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from refine.core.types import Sample
from refine.data.masks import MaskGenerator
from refine.data.pairs import Failure, ImageMaskPair, inputs_hash
from refine.data.subset import square
from refine.io.encode import check_format, encode
from refine.io.files import File
from refine.io.formats import MEGAPIXELS, open_image
from refine.io.mask import MaskOptions, MaskWarning, examine_mask
from refine.io.mask_kinds import Reading
from refine.io.picture import Picture, fill, mask_to_tensor, read_picture, to_tensor
from refine.io.transparency import ALPHA, doubt, invisible, network_view, transparent_hole


@dataclass(frozen=True)
class Source:
    """What the writer needs to make a file of a result.

    Attributes:
        pair: Files that were read.
        picture: Original picture, 8 or 16 bits per channel.
        contents: What the files hold, see :meth:`ImageMaskPair.contents`.
        mask_kind: What is unusual about the mask, see :class:`refine.io.mask_kinds.Reading`; empty for an ordinary one.
    """

    pair: ImageMaskPair
    picture: Picture
    contents: Mapping[str, str]
    mask_kind: str = ""

    @property
    def inputs(self) -> str:
        """SHA-256 (hex) of the contents."""
        return inputs_hash(self.contents)


class PairDataset(Dataset[Sample | Failure]):
    """The images of a run with their masks; a pair that cannot be read is a :class:`Failure`, and the run goes on.

    Args:
        pairs: Images with their masks.
        options: Options of reading mask files.
        format: Format of the results; a picture it cannot hold fails before time is spent on it.
        side: Side of the square that images are resized and cropped to before a mask is drawn, px; None for as they
            are.
        megapixels: Largest image that is read, MP.
    """

    def __init__(
        self,
        pairs: Sequence[ImageMaskPair],
        options: MaskOptions,
        format: str,
        side: int | None = None,
        megapixels: float = MEGAPIXELS,
    ) -> None:
        self.pairs = pairs
        self.options = options
        self.format = format
        self.side = side
        self.megapixels = megapixels

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

    def pixels(self, index: int) -> int:
        """Number of pixels of an image, by the header of its file; 0 if it cannot be read."""
        try:  # not read_size, which holds back the warnings of all threads
            with self.pairs[index].image.open("rb") as stream, open_image(stream, self.megapixels) as image:
                return image.width * image.height
        except Exception:  # told when the image is read
            return 0

    def hole(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The hole of one pair; its image is decoded only where the hole is in it.

        Args:
            index: Number of the pair.
            size: ``(height, width)`` of its image, px.

        Returns:
            ``(H, W)`` bool, True = hole.

        Raises:
            ValueError: The mask cannot be used.
            OSError: A file cannot be read.
        """
        mask = self.pairs[index].mask
        if isinstance(mask, MaskGenerator):
            return mask(self.pairs[index].key, size)
        if isinstance(mask, str):
            return transparent_hole(self._picture(self.pairs[index].image), self.options)
        return examine_mask(read_picture(mask, self.megapixels), str(mask), self.options).hole

    def _read(self, pair: ImageMaskPair) -> Sample:
        picture = self._picture(pair.image)
        reading = self._reading(pair, picture)
        hole = reading.hole
        if hole.shape != picture.size:
            (height, width), (mask_height, mask_width) = picture.size, hole.shape
            raise ValueError(
                f"mask {pair.mask} is {mask_width}x{mask_height}, but image {pair.image} is {width}x{height} (upright, "
                "after its EXIF orientation); masks are never resized: make them the same size."
            )
        check_format(picture, self.format)
        self._warn_of_mask(reading, pair, picture)
        seen, unknown = network_view(picture, hole)
        image = to_tensor(seen)
        if pair.truth == pair.image and seen is picture:
            truth: Tensor | None = image
        else:
            truth = self._truth(pair, picture, hole)
        source = Source(pair, picture, pair.contents(), reading.kind)
        return Sample(
            pair.key, image, mask_to_tensor(hole), source, truth, None if unknown is hole else mask_to_tensor(unknown)
        )

    def _picture(self, path: File) -> Picture:
        picture = read_picture(path, self.megapixels)
        return picture if self.side is None else square(picture, self.side)

    def _reading(self, pair: ImageMaskPair, picture: Picture) -> Reading:
        if isinstance(pair.mask, MaskGenerator):
            return Reading(pair.mask(pair.key, picture.size))
        if isinstance(pair.mask, str):
            assert pair.mask == ALPHA
            return Reading(transparent_hole(picture, self.options))
        return examine_mask(read_picture(pair.mask, self.megapixels), str(pair.mask), self.options, picture)

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
            found = "is fully transparent in part of the hole: scores there compare with colors that nobody sees."
            warnings.warn(MaskWarning("transparent truth", f"truth {pair.truth} of {pair.image} {found}"), stacklevel=2)
        return to_tensor(truth)

    def _warn_of_mask(self, reading: Reading, pair: ImageMaskPair, picture: Picture) -> None:
        if reading.note:
            warnings.warn(MaskWarning(reading.kind, reading.note), stacklevel=2)
        if found := doubt(reading.hole, picture, self.options.invert):
            title = f"mask {pair.mask} of {pair.image}" if isinstance(pair.mask, str) else f"mask {pair.mask}"
            warnings.warn(MaskWarning(found.partition(":")[0], f"{title} {found}"), stacklevel=2)


def encoded(image: Tensor, hole: np.ndarray, source: Source, format: str) -> bytes:
    """The file of a result: the picture that was read, its hole filled.

    Args:
        image: Result, ``(1, 3, H, W)`` in [0, 1], on the CPU.
        hole: ``(H, W)`` bool, True = hole.
        source: Source of the sample that :class:`PairDataset` has read.
        format: Format of the file, such as ``png``.

    Raises:
        ValueError: The format would lose something of the picture, or the hole would get NaN.
    """
    return encode(fill(source.picture, image, hole), format, source.pair.key)
