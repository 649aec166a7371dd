"""Noise labels: the number that stands for the noise level in a network's input, one kind per file."""
