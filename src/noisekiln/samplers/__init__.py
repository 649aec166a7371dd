"""Samplers: numerical methods that move from noise to an image, one a file."""
