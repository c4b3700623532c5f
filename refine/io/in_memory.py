"""Images and masks in memory, as PIL images and arrays <-> pictures."""

from typing import Any

import numpy as np
from PIL import Image

from refine.io.decode import planes_8
from refine.io.exif import upright_image
from refine.io.mask import as_picture
from refine.io.picture import Picture

PIL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16")


def picture_of(image: Any) -> Picture:
    """The picture that an image in memory shows.

    Args:
        image: Upright PIL image of one of :data:`PIL_MODES`, or array ``uint8`` or ``uint16`` ``(H, W)`` or
            ``(H, W, 1..4)``.

    Raises:
        TypeError: For another kind of image.
        ValueError: For another mode, dtype or shape.
    """
    if isinstance(image, Image.Image):
        if image.mode not in PIL_MODES:
            raise ValueError(f"a PIL image must have mode {' '.join(PIL_MODES)}; got {image.mode}. Convert it first.")
        keyed = image.mode in ("L", "RGB") and image.has_transparency_data  # one color stands for no color
        image = planes_8(image) if keyed or image.mode in ("1", "P", "PA") else np.asarray(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a path, PIL image, numpy array or torch tensor; got {type(image).__name__}.")
    planes = image[..., None] if image.ndim == 2 else image
    if image.dtype not in (np.uint8, np.uint16) or planes.ndim != 3 or planes.shape[2] not in (1, 2, 3, 4):
        raise ValueError(
            f"an image array must be uint8 or uint16, (H,W) or (H,W,1..4); got {image.dtype} {image.shape}. "
            "Use a float tensor (3,H,W) for values in [0,1]."
        )
    return Picture.of_planes(np.ascontiguousarray(planes))


def image_like(picture: Picture, like: Image.Image | np.ndarray) -> Image.Image | np.ndarray:
    """A picture as the kind of image that it was made of.

    Args:
        picture: Picture to be shown.
        like: PIL image, whose notes are kept, or array, whose shape is.
    """
    planes = picture.planes
    if isinstance(like, np.ndarray):
        return planes.reshape(like.shape)
    result = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
    same = result.mode == like.mode  # else the color that stood for no color has become alpha
    result.info.update({key: value for key, value in like.info.items() if same or key != "transparency"})
    return result


def mask_of(image: Image.Image) -> Picture | np.ndarray:
    """The values of a mask that is a PIL image, upright, with the indices of its palette if it has one.

    Args:
        image: PIL image of any mode.
    """
    image = upright_image(image)
    if image.mode == "P":
        return as_picture(planes_8(image), np.asarray(image))
    direct = image.mode in ("1", "L", "LA", "RGB", "RGBA", "I;16")
    return np.asarray(image if direct else image.convert("RGBA" if image.has_transparency_data else "RGB"))
