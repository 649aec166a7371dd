"""Draws: distributions of the noise levels in training."""
