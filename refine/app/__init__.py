"""The page of ``refine app``: photos of several users, refined one after the other as ``refine predict`` does."""
