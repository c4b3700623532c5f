"""The page of ``refine app``: photos of several users, one after the other through the same way as ``refine predict``."""
