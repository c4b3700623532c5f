"""Callbacks of the predict loop."""
