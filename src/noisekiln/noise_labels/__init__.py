"""Noise labels: the number that represents the noise level in a network's input."""
