"""From files to samples: which image goes with which mask, masks drawn by seed, subsets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
