"""Scores of one image and of sets of images, and what a result gains over its controls."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
