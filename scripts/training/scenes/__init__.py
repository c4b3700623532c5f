"""Procedural scenes and holes."""

from training.scenes.layouts import UNSEEN, hole, main, render

__all__ = ["UNSEEN", "hole", "main", "render"]
