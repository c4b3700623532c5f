"""Image files: formats, EXIF orientation, ICC profiles, alpha, 16 bit, atomic writes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
