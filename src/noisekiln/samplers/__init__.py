"""Samplers: how to move from noise to an image, one method a file."""
