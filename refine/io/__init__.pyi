from .encode import encode
from .files import write_atomic
from .formats import UnreadableImage
from .mask import as_mask, read_mask
from .picture import Picture, fill, mask_to_tensor, read_picture, to_tensor

__all__ = [
    "Picture",
    "UnreadableImage",
    "as_mask",
    "encode",
    "fill",
    "mask_to_tensor",
    "read_mask",
    "read_picture",
    "to_tensor",
    "write_atomic",
]
