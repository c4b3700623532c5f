"""Overrides -> settings: composed by Hydra, checked by a typed object per command, built section by section."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
