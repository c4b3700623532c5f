"""The method of the paper: pyramid, objective and refinement of a network that is cut in two."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
