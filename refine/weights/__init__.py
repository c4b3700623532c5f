"""Checkpoints: reading them without running their code, fetching them, and the bundled ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
