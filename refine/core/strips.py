"""Large images are worked on in strips of rows, so that what is made on the way takes the memory of a strip."""

from collections.abc import Iterator

from torch import Tensor

LARGE = 2**22  # px; smaller images are one strip
PIXELS = 2**20  # of a strip of a larger one


def is_large(image: Tensor) -> bool:
    """Whether an image is worked on in strips.

    Args:
        image: Tensor ``(..., H, W)``.
    """
    return image.shape[-2] * image.shape[-1] > LARGE


def strips(image: Tensor) -> Iterator[slice]:
    """The rows of an image in parts of about 1 MP, or all of them if it has no more than 4 MP.

    Args:
        image: Tensor ``(..., H, W)``.

    Yields:
        Rows of a part; the parts follow each other.
    """
    height, width = image.shape[-2:]
    rows = max(1, PIXELS // width if is_large(image) else height)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
