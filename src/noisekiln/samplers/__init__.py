"""Samplers: numerical methods that move from noise to an image, one per file."""
