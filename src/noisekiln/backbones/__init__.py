"""Backbones: networks ``(x, noise, cond) -> y`` that know nothing of diffusion, one per file."""
