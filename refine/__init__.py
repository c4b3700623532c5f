"""Test-time feature refinement for high-resolution image inpainting, for any network."""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

# The public names stand in __init__.pyi; each is imported on first use: `refine --help` need not wait for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

try:
    __version__ = version("refine-inpainting")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0"
