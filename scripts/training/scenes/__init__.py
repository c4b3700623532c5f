"""Procedural scenes and holes: seeded, in unit coordinates, so that one seed gives the same scene at any size."""

from training.scenes.holes import hole
from training.scenes.rendering import render

__all__ = ["hole", "render"]
