"""Backbones: networks ``(x, noise, cond) -> y``."""
