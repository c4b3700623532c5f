"""A rectangle of an image."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A rectangle of an image, px.

    Attributes:
        top: First row.
        left: First column.
        bottom: Row after the last.
        right: Column after the last.
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.bottom - self.top, self.right - self.left

    @property
    def area(self) -> int:
        """Its pixels."""
        return math.prod(self.size)

    def of(self, tensor: Tensor) -> Tensor:
        """This part of a tensor ``(..., H, W)``, as a view."""
        return tensor[..., self.top : self.bottom, self.left : self.right]

    def grown(self, margin: int, size: tuple[int, int]) -> "Window":
        """Larger by ``margin`` px on each side, within an image of ``size``."""
        return Window(
            max(0, self.top - margin),
            max(0, self.left - margin),
            min(size[0], self.bottom + margin),
            min(size[1], self.right + margin),
        )

    def moved(self, rows: int, columns: int) -> "Window":
        """The same rectangle elsewhere."""
        return Window(self.top + rows, self.left + columns, self.bottom + rows, self.right + columns)

    def joined(self, other: "Window") -> "Window":
        """The smallest window that holds both."""
        return Window(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def meets(self, other: "Window") -> bool:
        """Whether both share a pixel."""
        return (
            self.top < other.bottom and other.top < self.bottom and self.left < other.right and other.left < self.right
        )

    def scaled(self, size: tuple[int, int], target: tuple[int, int]) -> "Window":
        """The same part of the image at another size."""
        rows, columns = target[0] / size[0], target[1] / size[1]
        return Window(
            round(self.top * rows), round(self.left * columns), round(self.bottom * rows), round(self.right * columns)
        )

    def placed(self, image: Tensor, part: Tensor) -> Tensor:
        """A copy of an image ``(B, C, H, W)`` with this part replaced."""
        whole = image.clone()
        self.of(whole).copy_(part)
        return whole
