"""Samplers: numerical methods that integrate from noise to an image."""
