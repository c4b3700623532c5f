"""Check of what a refiner is given, against the conventions of :mod:`refine.core.types`."""

from collections.abc import Sequence

from torch import Tensor


def check_inputs(image: Tensor, mask: Tensor) -> None:
    """Check image and mask against the conventions of :mod:`refine.core.types`.

    Args:
        image: Image, ``(B, 3, H, W)``.
        mask: Mask, ``(B, 1, H, W)``.

    Raises:
        TypeError: If one is no tensor.
        ValueError: If they break the conventions; the message says what was given, what is expected and what to change.
    """
    if not (isinstance(image, Tensor) and isinstance(mask, Tensor)):
        raise TypeError(
            f"image and mask must be tensors; got {type(image).__name__} and {type(mask).__name__}. For files, arrays "
            "and PIL images use refine.inpaint."
        )
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point() or 0 in image.shape:
        raise ValueError(
            f"image must be float (B,3,H,W), RGB in [0,1]; got {_described(image)}. "
            "For files, arrays and PIL images use refine.inpaint."
        )
    if mask.ndim != 4 or mask.shape[1] != 1 or not mask.is_floating_point():
        advice = "Take one channel." if mask.is_floating_point() else "Convert it with mask.float()."
        raise ValueError(f"mask must be float (B,1,H,W) with 1 = hole and 0 = keep; got {_described(mask)}. {advice}")
    if image.shape[0] != mask.shape[0] or image.shape[2:] != mask.shape[2:]:
        raise ValueError(f"image and mask must have one size; got {tuple(image.shape)} and {tuple(mask.shape)}.")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            f"mask must be (B,1,H,W) with 1 = hole and 0 = keep; got {_described(mask)}. "
            "Divide by its maximum and threshold it."
        )
    if not (image.amin() >= 0 and image.amax() <= 1):  # written so that NaN fails too
        raise ValueError(f"image must be RGB in [0,1]; got {_described(image)}. Divide by its full scale.")


def checked_keys(key: str | Sequence[str], count: int) -> Sequence[str]:
    """A name for each image of a batch.

    Args:
        key: Name of all, or a list of names.
        count: Number of images.

    Raises:
        ValueError: If there are more or fewer names than images.
    """
    keys = [key] * count if isinstance(key, str) else key
    if len(keys) != count:
        raise ValueError(f"key must be one name or one per image, {count}; got {len(keys)}.")
    return keys


def _described(tensor: Tensor) -> str:
    shape = f"({','.join(map(str, tensor.shape))})"
    values = f" with values in [{tensor.min():g},{tensor.max():g}]" if tensor.numel() else ""
    return f"{str(tensor.dtype).removeprefix('torch.')} {shape}{values}"
